"""`python -m batos.curator`."""

import sys

from batos.curator.settings import CuratorSettings
from batos.curator.vessel import CuratorVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(CuratorVessel, CuratorSettings))
