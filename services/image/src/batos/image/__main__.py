"""`python -m batos.image`: run the image vessel."""

from __future__ import annotations

import sys

from batos.image.settings import ImageSettings
from batos.image.vessel import ImageVessel
from batos.vessel import run

if __name__ == "__main__":
    sys.exit(run(ImageVessel, ImageSettings))
