"""A worker for tests that kill it: `bus_worker.py NAME JOURNAL` serves `kernel`, settings from the environment.

A mission's text says what to do: `hold:PATH` answers once PATH exists, anything else answers at once. Every beginning
and every end is a line in the journal.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from batos.protocol import (
    BusAddresses,
    KeyRing,
    MissionAccepted,
    MissionSubmit,
    Peer,
    RequestContext,
    VesselCard,
    new_id,
)


async def main(name: str, journal: Path) -> None:
    environment = os.environ
    addresses = BusAddresses(
        work=environment["BATOS_BUS_WORK"],
        control=environment["BATOS_BUS_CONTROL"],
        publish=environment["BATOS_BUS_PUBLISH"],
        subscribe=environment["BATOS_BUS_SUBSCRIBE"],
        server_key=environment["BATOS_BUS_SERVER_KEY"],
    )
    card = VesselCard(
        name=name,
        kind="kernel",
        incarnation=new_id(),
        pid=os.getpid(),
        version="0",
        started_at=time.time(),
        ready=True,
    )

    def note(what: str, mission: str) -> None:
        with journal.open("a") as file:
            file.write(f"{what} {mission} {os.getpid()}\n")

    async def submit(message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        note("begin", message.mission_id)
        word, _, path = message.text.partition(":")
        while word == "hold" and not os.path.exists(path):  # noqa: ASYNC110, ASYNC240, PTH110 - the test's signal
            await asyncio.sleep(0.02)
        note("end", message.mission_id)
        return MissionAccepted(mission_id=f"{message.mission_id} by {os.getpid()}")

    keys = KeyRing(Path(environment["BATOS_HOME"]) / "keys").ensure(name)
    peer = Peer(addresses, keys, lambda: card, heartbeat_s=float(environment["BATOS_HEARTBEAT_S"]))
    peer.serve(["kernel", f"kernel/{name}"], {MissionSubmit: submit}, capacity=8)
    await peer.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
