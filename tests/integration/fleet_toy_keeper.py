"""A keeper of a small fleet: image, bus, supervisor, and two toys instead of kernels and the rest. Run as a script."""

from __future__ import annotations

import sys
from pathlib import Path

from batos.supervisor import KeeperSettings, PlaceSpec
from batos.supervisor.keeper import KeeperVessel, main
from batos.supervisor.places import RANK_BUS, RANK_IMAGE

TOY = str(Path(__file__).with_name("fleet_toy_vessel.py"))


class ToyKeeper(KeeperVessel):
    @classmethod
    def places(cls, settings: KeeperSettings) -> list[PlaceSpec]:
        del settings
        python = sys.executable
        return [
            PlaceSpec("image", "image", (python, "-m", "batos.image"), foundation=True, stop_rank=RANK_IMAGE),
            PlaceSpec("bus", "bus", (python, "-m", "batos.bus"), foundation=True, stop_rank=RANK_BUS),
            PlaceSpec("toy-1", "toy", (python, TOY), two_at_once=True),
            PlaceSpec("toy-2", "toy", (python, TOY), two_at_once=True),
            PlaceSpec("supervisor", "supervisor", (python, "-m", "batos.supervisor")),
        ]


if __name__ == "__main__":
    sys.exit(main(ToyKeeper))
