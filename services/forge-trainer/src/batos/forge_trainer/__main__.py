"""`python -m batos.forge_trainer`."""

import sys

from batos.forge_trainer.settings import ForgeSettings
from batos.forge_trainer.vessel import ForgeVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(ForgeVessel, ForgeSettings))
