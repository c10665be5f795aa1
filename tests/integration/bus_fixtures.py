"""A real bus in a process of its own, peers in the test, and workers in processes that may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from batos.protocol import BusAddresses, KeyRing, Peer, Roster, RosterGet, VesselCard, new_id
from batos.vessel import free_ports

HEARTBEAT_S = 0.25
WORKER = Path(__file__).with_name("bus_worker.py")


def make_card(name: str, *, ready: bool = True, kind: str = "kernel", started_at: float | None = None) -> VesselCard:
    return VesselCard(
        name=name,
        kind=kind,
        incarnation=new_id(),
        pid=os.getpid(),
        version="0",
        started_at=time.time() if started_at is None else started_at,
        ready=ready,
    )


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s} s for {what}")
        await asyncio.sleep(0.01)


@dataclass
class BusUnderTest:
    """A bus process that can be started, killed and started again on the same addresses."""

    home: Path
    addresses: BusAddresses
    ring: KeyRing
    process: subprocess.Popen[str] | None = None
    output: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, home: Path) -> BusUnderTest:
        ring = KeyRing(home / "keys")
        work, control, publish, subscribe = [f"tcp://127.0.0.1:{port}" for port in free_ports(4)]
        return cls(home, BusAddresses(work, control, publish, subscribe, ring.ensure("bus").public), ring)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BATOS_")}
        return kept | {
            "BATOS_HOME": str(self.home),
            "BATOS_BUS_WORK": self.addresses.work,
            "BATOS_BUS_CONTROL": self.addresses.control,
            "BATOS_BUS_PUBLISH": self.addresses.publish,
            "BATOS_BUS_SUBSCRIBE": self.addresses.subscribe,
            "BATOS_BUS_SERVER_KEY": self.addresses.server_key,
            "BATOS_HEARTBEAT_S": str(HEARTBEAT_S),
        }

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "batos.bus"],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
        )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End the process with a signal and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        self.output.append(said)
        code = self.process.returncode
        self.process = None
        return code

    async def metrics(self, peer: Peer) -> str:
        roster = await peer.request("bus", RosterGet(), Roster, timeout_s=10)
        url = roster.vessels[0].metrics
        return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())


class Peers:
    """Makes peers of a bus and closes them."""

    def __init__(self, bus: BusUnderTest) -> None:
        self._bus = bus
        self._open: list[Peer] = []

    async def join(self, card: VesselCard | Callable[[], VesselCard], *, start: bool = True) -> Peer:
        """Make a peer; with `start` also connect it and wait for the bus."""
        said = card if callable(card) else lambda: card
        peer = Peer(self._bus.addresses, self._bus.ring.ensure(said().name), said, heartbeat_s=HEARTBEAT_S)
        self._open.append(peer)
        if start:
            await peer.start()
            await peer.wait_connected(20)
        return peer

    async def close(self) -> None:
        for peer in self._open:
            await peer.close()


class Workers:
    """Starts workers in processes of their own (see bus_worker.py) and ends them."""

    def __init__(self, bus: BusUnderTest) -> None:
        self._bus = bus
        self._running: list[subprocess.Popen[bytes]] = []
        self.journal = bus.home / "journal"

    def start(self, name: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, str(WORKER), name, str(self.journal)], env=self._bus.environment, cwd=self._bus.home
        )
        self._running.append(process)
        return process

    def done(self) -> list[list[str]]:
        """What workers wrote: one line each, what they did, the mission, their process id."""
        return [line.split() for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait(20)


@pytest.fixture
def stopped_bus(tmp_path: Path) -> Iterator[BusUnderTest]:
    """A bus that is not started yet; whatever runs at the end is killed."""
    found = BusUnderTest.make(tmp_path)
    yield found
    if found.process is not None:
        found.kill()


@pytest.fixture
def bus(stopped_bus: BusUnderTest) -> BusUnderTest:
    """A running bus."""
    stopped_bus.start()
    return stopped_bus


@pytest.fixture
async def peers(stopped_bus: BusUnderTest) -> AsyncIterator[Peers]:
    """Peers of the bus, closed in the end."""
    found = Peers(stopped_bus)
    yield found
    await found.close()


@pytest.fixture
def workers(stopped_bus: BusUnderTest) -> Iterator[Workers]:
    """Worker processes of the bus, killed in the end."""
    found = Workers(stopped_bus)
    yield found
    found.close()
