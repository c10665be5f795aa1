"""Starts the vessel: `python -m batos.persona_inference`."""

from __future__ import annotations

import sys

from batos.persona_inference.settings import InferenceSettings
from batos.persona_inference.vessel import InferenceVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(InferenceVessel, InferenceSettings))
