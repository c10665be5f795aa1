"""A keeper of a fleet without a model: bus, supervisor, two kernels that think from a script. Run as a module."""

from __future__ import annotations

import sys

from batos.supervisor import KeeperSettings, PlaceSpec
from batos.supervisor.keeper import KeeperVessel, main
from batos.supervisor.places import RANK_BUS


class ScriptedKeeper(KeeperVessel):
    @classmethod
    def places(cls, settings: KeeperSettings) -> list[PlaceSpec]:
        del settings
        python = sys.executable
        kernel = (python, "-m", "integration.console_kernel")
        return [
            PlaceSpec("bus", "bus", (python, "-m", "batos.bus"), foundation=True, stop_rank=RANK_BUS),
            PlaceSpec("kernel-1", "kernel", kernel, two_at_once=True),
            PlaceSpec("kernel-2", "kernel", kernel, two_at_once=True),
            PlaceSpec("supervisor", "supervisor", (python, "-m", "batos.supervisor")),
        ]


if __name__ == "__main__":
    sys.exit(main(ScriptedKeeper))
