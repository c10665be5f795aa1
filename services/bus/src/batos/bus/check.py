"""`python -m batos.bus.check`: whether the bus of this vessel's settings answers, over ZeroMQ and CURVE itself.

Exit codes: 0 it does; 1 it does not, one line says why; 2 bad settings.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import logging
import os
import sys
import time

from batos.bus.broker import PASSER_BY
from batos.bus.settings import BusSettings
from batos.protocol import BusAddresses, Peer, ProtocolError, Roster, RosterGet, VesselCard, new_id
from batos.vessel import EXIT_DONE, EXIT_FAILED, EXIT_SETTINGS, SettingsError, load_settings

WAIT_S = 5.0
ANY_ADDRESS = ("//0.0.0.0:", "//*:", "//[::]:")
"""What a bus may bind and nobody can connect to."""
HERE = "//127.0.0.1:"


def reachable(addresses: BusAddresses) -> BusAddresses:
    """Return the addresses under which this machine's own bus is reached."""
    changed = {}
    for name in ("work", "control", "publish", "subscribe"):
        endpoint = getattr(addresses, name)
        for bound in ANY_ADDRESS:
            endpoint = endpoint.replace(bound, HERE)
        changed[name] = endpoint
    return dataclasses.replace(addresses, **changed)


async def ask(settings: BusSettings) -> None:
    """Ask the bus who is there.

    Raises:
        ProtocolError: it does not answer, or this key is not admitted.
    """
    incarnation = new_id()
    card = VesselCard(
        name=f"check-{incarnation[-8:]}",
        kind=PASSER_BY,
        incarnation=incarnation,
        pid=os.getpid(),
        version=importlib.metadata.version("batos-bus"),
        started_at=time.time(),
        ready=True,
    )
    peer = Peer(
        reachable(settings.bus_addresses()), settings.key_pair(), lambda: card, heartbeat_s=settings.heartbeat_s
    )
    await peer.start()
    try:
        await peer.request("bus", RosterGet(), Roster, timeout_s=WAIT_S)
    finally:
        await peer.close()


def main() -> int:
    """Ask; return the exit code."""
    # What fails is said once, by the exit line.
    logging.getLogger("batos").addHandler(logging.NullHandler())
    try:
        settings = load_settings(BusSettings)
        settings = settings.model_copy(update={"name": settings.name or "bus"}).with_fleet()
    except SettingsError as error:
        sys.stderr.write(f"batos bus check: {error}\n")
        return EXIT_SETTINGS
    try:
        asyncio.run(ask(settings))
    except ProtocolError as error:
        sys.stderr.write(f"batos bus check: {error}\n")
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
