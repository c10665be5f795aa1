"""A small real fleet: image, bus, supervisor and two toys, kept by a keeper."""

from __future__ import annotations

import asyncio
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from small_fleet import NAMES, Onlooker, launch, running, until, watching

from batos.vessel import FleetFile, keeper_pid

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def onlooker(tmp_path: Path) -> AsyncIterator[Onlooker]:
    with running(tmp_path / "home") as fleet:
        async with watching(fleet) as found:
            await found.all_ready()
            yield found


def read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return str(answer.read().decode())


async def test_what_is_killed_comes_back(onlooker: Onlooker) -> None:
    """Toy, image and bus are killed with -9; each comes back as another incarnation and the fleet is ready again."""
    for name in ("toy-1", "image", "bus"):
        before = await onlooker.named(name)
        psutil.Process(before.pid).kill()
        await onlooker.until(
            f"{name} to come back",
            lambda cards, name=name, before=before: (  # type: ignore[misc]
                cards[name].ready and cards[name].incarnation != before.incarnation if name in cards else False
            ),
        )
        await onlooker.all_ready()
    assert "pid" in onlooker.fleet.words()
    assert "ended with signal 9" in onlooker.fleet.words()


async def test_pages_of_every_vessel(onlooker: Onlooker) -> None:
    """Every vessel, the keeper too, serves /metrics, /healthz and /readyz."""
    for card in await onlooker.cards():
        if card.kind == "console":
            continue
        for page, words in (("metrics", "batos_vessel_ready 1.0"), ("healthz", "alive"), ("readyz", "ready")):
            assert words in await asyncio.to_thread(read, card.metrics.replace("/metrics", f"/{page}")), card


async def test_down_leaves_nothing(onlooker: Onlooker) -> None:
    """SIGTERM to the keeper ends every process in order; it exits 0 and the home can be used again at once."""
    fleet = onlooker.fleet
    assert len(fleet.processes()) == len(NAMES) - 1
    bus = FleetFile.load(fleet.home).bus
    assert keeper_pid(fleet.home) == fleet.process.pid
    assert fleet.stop() == 0
    assert fleet.processes() == []
    assert keeper_pid(fleet.home) is None
    with running(fleet.home) as again:
        async with watching(again) as second:
            await second.all_ready()
        assert FleetFile.load(again.home).bus == bus


async def test_a_killed_keeper_leaves_nothing(onlooker: Onlooker) -> None:
    """Killed with -9, the keeper takes all of its children with it."""
    fleet = onlooker.fleet
    assert fleet.stop(signal.SIGKILL) == -signal.SIGKILL
    until("every child to end", lambda: not fleet.processes(), timeout=10)


async def test_one_keeper_a_home(onlooker: Onlooker) -> None:
    """A second keeper in one home is refused with exit code 4 and the first one's process id."""
    second = launch(onlooker.fleet.home)
    assert second.process.wait(30) == 4
    assert f"its keeper is process {onlooker.fleet.process.pid}" in second.words()
    assert "Traceback" not in second.words()
    await onlooker.all_ready()


async def test_two_homes_side_by_side(onlooker: Onlooker, tmp_path: Path) -> None:
    """A second fleet with another home runs beside the first, on ports of its own; a deep home is no hindrance."""
    deep = tmp_path / ("deep" * 20) / ("er" * 20)
    with running(deep) as other:
        async with watching(other) as second:
            theirs = await second.all_ready()
            ours = await onlooker.all_ready()
            assert {theirs[name].pid for name in NAMES}.isdisjoint({ours[name].pid for name in NAMES})
            assert FleetFile.load(deep).image_socket != FleetFile.load(onlooker.fleet.home).image_socket
            assert not FleetFile.load(deep).image_socket.startswith(str(deep))
        assert other.stop() == 0
    await onlooker.all_ready()


async def test_a_crash_loop_is_named(tmp_path: Path) -> None:
    """A vessel that cannot start does not keep the others from running; the keeper says which and why, and mends."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "toy-broken").touch()
    with running(home, BATOS_KEEPER_BACKOFF_CEILING_S="0.5", BATOS_KEEPER_LOOP_AFTER="2") as fleet:
        async with watching(fleet) as onlooker:
            cards = await onlooker.until(
                "the keeper to name the loop",
                lambda cards: "keeper" in cards and "toy-1 ends again and again" in cards["keeper"].reason,
            )
            assert "the toy is broken" in cards["keeper"].reason
            assert cards["supervisor"].ready
            assert "| " in fleet.words()
            (home / "toy-broken").unlink()
            await onlooker.all_ready()


def test_an_occupied_port(tmp_path: Path) -> None:
    """A port that was set and is taken: exit code 1, one line that names it and the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        fleet = launch(tmp_path / "home", BATOS_BUS_CONTROL=address)
        assert fleet.process.wait(30) == 1
    assert f"{address} is occupied" in fleet.words()
    assert "BATOS_BUS_CONTROL" in fleet.words()
    assert "Traceback" not in fleet.words()
    assert fleet.processes() == []


def test_a_damaged_image(tmp_path: Path) -> None:
    """An image that cannot be opened ends the start with exit code 1 and the image's own words; nothing is left."""
    home = tmp_path / "home"
    (home / "image").mkdir(parents=True)
    (home / "image" / "live_image.fs").write_bytes(b"x" * 5000)
    fleet = launch(home)
    assert fleet.process.wait(60) == 1
    last = fleet.words().strip().splitlines()
    assert any("keeper cannot start" in line and "is no image" in line for line in last), fleet.words()
    assert "Traceback" not in fleet.words()
    until("every child to end", lambda: not fleet.processes(), timeout=10)


def test_bad_settings(tmp_path: Path) -> None:
    """A setting that does not exist: exit code 2 and the nearest name."""
    fleet = launch(tmp_path / "home", BATOS_KEEPER_KERNEL="3")
    assert fleet.process.wait(30) == 2
    assert "BATOS_KEEPER_KERNELS" in fleet.words()


def test_stopped_while_it_starts(tmp_path: Path) -> None:
    """SIGTERM in the middle of the start ends it in order."""
    fleet = launch(tmp_path / "home")
    until("the first child", lambda: bool(fleet.processes()))
    assert fleet.stop() == 0
    assert fleet.processes() == []
