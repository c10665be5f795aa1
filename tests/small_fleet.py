"""A small real fleet for tests: started by its keeper, watched over its bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from batos.protocol import KeyRing, Peer, ProtocolError, Roster, RosterGet, VesselCard, new_id
from batos.vessel import FleetFile

KEEPER = Path(__file__).parent / "integration" / "fleet_toy_keeper.py"
NAMES = {"image", "bus", "toy-1", "toy-2", "supervisor", "keeper"}


def environment(home: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATOS_")}
    return {**kept, "BATOS_HOME": str(home), "BATOS_HEARTBEAT_S": "0.3", **settings}


@dataclass
class SmallFleet:
    home: Path
    process: subprocess.Popen[bytes]

    def words(self) -> str:
        return (self.home / "keeper.log").read_text()

    def processes(self) -> list[psutil.Process]:
        """Every process of this home but the keeper."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    process.environ().get("BATOS_HOME") == str(self.home)
                    and process.pid != self.process.pid
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout)


def launch(home: Path, **settings: str) -> SmallFleet:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "keeper.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(KEEPER)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment(home, **settings), cwd=home, start_new_session=True,
        )  # fmt: skip
    return SmallFleet(home, process)


@contextlib.contextmanager
def running(home: Path, **settings: str) -> Iterator[SmallFleet]:
    """A fleet that is stopped at the end, and of which nothing may be left."""
    fleet = launch(home, **settings)
    try:
        yield fleet
    finally:
        if fleet.process.poll() is None:
            fleet.stop()
        until("every process of the fleet to end", lambda: not fleet.processes())


def until(what: str, condition: Callable[[], bool], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)


class Onlooker:
    """A peer that watches the roster."""

    def __init__(self, fleet: SmallFleet, peer: Peer) -> None:
        self.fleet = fleet
        self.peer = peer

    async def cards(self) -> list[VesselCard]:
        try:
            roster = await self.peer.request("bus", RosterGet(), Roster, timeout_s=2)
        except ProtocolError:
            return []
        return list(roster.vessels)

    async def named(self, name: str) -> VesselCard:
        (card,) = [card for card in await self.cards() if card.name == name]
        return card

    async def until(
        self, what: str, condition: Callable[[dict[str, VesselCard]], bool], timeout_s: float = 40
    ) -> dict[str, VesselCard]:
        """Poll the roster; where a name is there twice the younger one counts."""
        deadline = time.monotonic() + timeout_s
        while True:
            cards = sorted(await self.cards(), key=lambda card: card.started_at)
            found = {card.name: card for card in cards}
            if found and condition(found):
                return found
            assert self.fleet.process.poll() is None, f"the keeper ended:\n{self.fleet.words()}"
            assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}: {found}\n{self.fleet.words()}"
            await asyncio.sleep(0.05)

    async def all_ready(self) -> dict[str, VesselCard]:
        return await self.until(
            "every vessel to be ready",
            lambda cards: set(cards) >= NAMES and all(cards[name].ready for name in NAMES),
        )


@contextlib.asynccontextmanager
async def watching(fleet: SmallFleet) -> AsyncIterator[Onlooker]:
    """A peer on the fleet's bus."""
    until("fleet.json", (fleet.home / "fleet.json").exists)
    card = VesselCard(
        name="console", kind="console", incarnation=new_id(), pid=os.getpid(), version="0", started_at=time.time()
    )
    bus = FleetFile.load(fleet.home).bus
    peer = Peer(bus, KeyRing(fleet.home / "keys").ensure("console"), lambda: card, heartbeat_s=0.3)
    await peer.start()
    try:
        yield Onlooker(fleet, peer)
    finally:
        await peer.close()
