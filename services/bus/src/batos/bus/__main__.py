"""`python -m batos.bus`."""

from __future__ import annotations

import sys

from batos.bus.settings import BusSettings
from batos.bus.vessel import BusVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(BusVessel, BusSettings))
