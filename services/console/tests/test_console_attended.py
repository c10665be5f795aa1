"""Requests that wait for hours: not for a fleet that is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from console_fake_fleet import NEVER, FakeFleet
from typer.testing import CliRunner

from batos.console import attended, image_tool
from batos.console.commands import app
from batos.protocol import (
    BusUnreachable,
    ImageBackup,
    ImagePack,
    ImagePins,
    ImagePinsGet,
    ImageVerify,
    Message,
    Roster,
    RosterGet,
    VesselCard,
)

REQUESTS = {"backup": ImageBackup, "pack": ImagePack, "verify": ImageVerify}


def card(kind: str, *, ready: bool = True, draining: bool = False) -> VesselCard:
    return VesselCard(
        name=kind,
        kind=kind,
        incarnation="i",
        pid=1,
        version="1",
        started_at=time.time(),
        ready=ready,
        draining=draining,
    )


def roster(*cards: VesselCard) -> Roster:
    return Roster(bus_incarnation="b", bus_started_at=0, vessels=cards)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at once, and gives up at the second look."""
    monkeypatch.setattr(attended, "LOOK_S", 0.001)
    monkeypatch.setattr(attended, "GONE_S", 0.0)


@pytest.mark.parametrize("act", list(REQUESTS))
@pytest.mark.parametrize(
    ("there", "said"),
    [
        (BusUnreachable("bus", "RosterGet", 5), "bus does not answer"),
        (roster(card("kernel")), "no image that is ready"),
        (roster(card("image", ready=False)), "no image that is ready"),
    ],
    ids=["bus", "vessel", "unready"],
)
def test_a_fleet_that_is_gone(
    fleet: FakeFleet, runner: CliRunner, monkeypatch: pytest.MonkeyPatch, act: str, there: Roster | Exception, said: str
) -> None:
    """Its bus, its image, or an image that never gets ready: exit 3, and nobody looks at the files instead."""
    monkeypatch.setattr(image_tool, "run_tool", None)
    fleet.answers |= {REQUESTS[act]: NEVER, RosterGet: there}
    done = runner.invoke(app, ["image", act, *(["b"] if act == "backup" else [])])
    assert done.exit_code == 3
    assert said in done.stderr
    assert "batos up" in done.stderr


class Slow(FakeFleet):
    """Answers once somebody has looked a few times whether it is there."""

    def __init__(self, there: Callable[[int], Roster]) -> None:
        super().__init__()
        self.looks = 0
        self._there = there

    async def request(self, service: str, body: Message, reply: type[Any], *, timeout_s: float) -> Any:
        del service, reply, timeout_s
        if isinstance(body, RosterGet):
            self.looks += 1
            return self._there(self.looks)
        while self.looks < 5:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)
        return ImagePins(pins=())


async def asked(fleet: FakeFleet) -> ImagePins:
    return await attended.Attended(fleet).request("image", ImagePinsGet(), ImagePins, timeout_s=60)


def test_whoever_is_there_is_waited_for() -> None:
    """However long it takes."""
    fleet = Slow(lambda _: roster(card("image")))
    assert asyncio.run(asked(fleet)) == ImagePins(pins=())


def test_whoever_drains_is_waited_for() -> None:
    """An image that takes nothing new still answers what it was asked before."""
    fleet = Slow(lambda _: roster(card("image", ready=False, draining=True)))
    assert asyncio.run(asked(fleet)) == ImagePins(pins=())


def test_whoever_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vessel that is started again is no fleet that is gone."""
    monkeypatch.setattr(attended, "GONE_S", 60.0)
    fleet = Slow(lambda look: roster(*(() if look % 2 else (card("image"),))))
    assert asyncio.run(asked(fleet)) == ImagePins(pins=())
