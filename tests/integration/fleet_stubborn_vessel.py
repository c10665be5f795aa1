"""A vessel without a bus whose end is difficult, as BATOS_NAME says. Run as a script.

`endless` drains for ever, `lingering` leaves a thread behind, `stuck` never lets go, `dying` fails by itself,
`broken` cannot start, `faulty` has a fault in its start, `slow` is still starting, `well` has no difficulty.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import ClassVar

from batos.vessel import StartFailed, Vessel, VesselError, VesselSettings, run


class StubbornVessel(Vessel):
    kind: ClassVar[str] = "stubborn"
    uses_bus: ClassVar[bool] = False

    async def start(self) -> None:
        if self.name == "broken":
            raise StartFailed("broken", "the engine has no fuel", "fill it up")
        if self.name == "faulty":
            raise KeyError("fuel")
        if self.name == "slow":
            sys.stderr.write("starting slowly\n")
            await asyncio.Event().wait()
        if self.name == "lingering":
            threading.Thread(target=threading.Event().wait, name="moss").start()
        if self.name == "dying":
            asyncio.get_running_loop().call_later(0.1, self.fail, VesselError("dead", "the engine has died"))
        self.set_ready(True)

    async def drain(self, timeout_s: float) -> None:
        del timeout_s
        if self.name == "endless":
            await asyncio.Event().wait()

    async def stop(self) -> None:
        if self.name == "stuck":
            await asyncio.Event().wait()
        sys.stderr.write("stopped\n")


if __name__ == "__main__":
    sys.exit(run(StubbornVessel, VesselSettings))
