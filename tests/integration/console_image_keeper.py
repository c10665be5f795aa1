"""A keeper of a fleet of bus and image alone: for care of the image's files. Run as a module."""

from __future__ import annotations

import sys

from batos.supervisor import KeeperSettings, PlaceSpec
from batos.supervisor.keeper import KeeperVessel, main
from batos.supervisor.places import RANK_BUS


class ImageKeeper(KeeperVessel):
    @classmethod
    def places(cls, settings: KeeperSettings) -> list[PlaceSpec]:
        del settings
        python = sys.executable
        return [
            PlaceSpec("bus", "bus", (python, "-m", "batos.bus"), foundation=True, stop_rank=RANK_BUS),
            PlaceSpec("image", "image", (python, "-m", "batos.image")),
        ]


if __name__ == "__main__":
    sys.exit(main(ImageKeeper))
