"""`python -m batos.supervisor`: run the supervisor vessel."""

from __future__ import annotations

import sys

from batos.supervisor.settings import SupervisorSettings
from batos.supervisor.vessel import SupervisorVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(SupervisorVessel, SupervisorSettings))
