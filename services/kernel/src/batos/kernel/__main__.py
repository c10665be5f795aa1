"""`python -m batos.kernel`."""

from __future__ import annotations

import sys

from batos.kernel.settings import KernelSettings
from batos.kernel.vessel import KernelVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(KernelVessel, KernelSettings))
