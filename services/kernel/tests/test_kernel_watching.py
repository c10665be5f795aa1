"""Waiting for missions to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from batos.kernel import missions
from batos.kernel.metrics import KernelMetrics
from batos.kernel.missions import Owner
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.kernel.watching import MissionWatch
from batos.protocol import MissionStatus, RequestFailed, new_id
from batos.uvm import Image, ImageUnreachable, Session

OWNER = Owner("kernel-2", "2" * 32)


@pytest.fixture
async def watch(image: Image) -> AsyncIterator[MissionWatch]:
    found = MissionWatch(image, poll_s=0.02, metrics=KernelMetrics(CollectorRegistry()))
    yield found
    await asyncio.to_thread(found.close)


def running(image: Image) -> Ticket:
    def work(root: Any) -> Ticket:
        return missions.ticket(missions.create(root, mission_id=new_id(), text="Name it.", owner=OWNER).record)

    return image.run(work)


def fail(image: Image, ticket: Ticket) -> None:
    image.run(lambda root: missions.fail(root, ticket, CycleOutcome(outcome="FAILED", error="no")))


async def test_answers_at_once(image: Image, watch: MissionWatch) -> None:
    """Without a timeout a mission's state is told as it stands."""
    ticket = running(image)
    assert (await watch.status(ticket.mission_id, 0)).state == "RUNNING"
    with pytest.raises(RequestFailed) as unknown:
        await watch.status(new_id(), 5)
    assert unknown.value.code == "mission_unknown"


async def test_end_elsewhere_is_seen(image: Image, watch: MissionWatch) -> None:
    """Missions that end on another kernel are noticed in the image, by everybody who waits."""
    tickets = [running(image) for _ in range(3)]
    waiting = [asyncio.create_task(watch.status(ticket.mission_id, 30)) for ticket in tickets for _ in range(4)]
    for ticket in tickets:
        assert (await watch.status(ticket.mission_id, 0)).state == "RUNNING"
        await asyncio.to_thread(fail, image, ticket)
    assert {status.error for status in await asyncio.gather(*waiting)} == {"no"}


async def test_end_here_is_told(image: Image, watch: MissionWatch) -> None:
    """A mission that ends here is answered from what its thread tells."""
    ticket = running(image)
    waiting = asyncio.create_task(watch.status(ticket.mission_id, 30))
    await watch.status(ticket.mission_id, 0)
    told = MissionStatus(mission_id=ticket.mission_id, text="", state="COMPLETE", answer="Drip.")
    watch.told(told)
    assert await waiting == told


async def test_timeout_tells_how_it_stands(image: Image, watch: MissionWatch) -> None:
    """When the time is over the latest state is told."""
    assert (await watch.status(running(image).mission_id, 0.05)).state == "RUNNING"


async def test_draining_sends_elsewhere(image: Image, watch: MissionWatch) -> None:
    """A kernel that leaves sends those that wait, and later ones, to another."""
    ticket = running(image)
    waiting = asyncio.create_task(watch.status(ticket.mission_id, 30))
    await watch.status(ticket.mission_id, 0)
    watch.leave()
    for asked in (waiting, watch.status(ticket.mission_id, 0)):
        with pytest.raises(RequestFailed) as draining:
            await asked
        assert draining.value.transient


async def test_image_that_is_away(image: Image, watch: MissionWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the image is away whoever asks is told so transiently, and who waits goes on waiting."""
    ticket = running(image)
    waiting = asyncio.create_task(watch.status(ticket.mission_id, 30))
    await asyncio.sleep(0)  # it waits now, so that what the next one is told was looked up for both
    await watch.status(ticket.mission_id, 0)
    begin = Session.begin

    def away(_session: Session) -> Any:
        raise ImageUnreachable("zeo:///gone", 1.0)

    monkeypatch.setattr(Session, "begin", away)
    with pytest.raises(RequestFailed) as unreachable:
        await watch.status(ticket.mission_id, 0)
    assert unreachable.value.transient
    monkeypatch.setattr(Session, "begin", begin)
    await asyncio.to_thread(fail, image, ticket)
    assert (await waiting).state == "FAILED"


async def test_nobody_waits_nothing_is_kept(image: Image, watch: MissionWatch) -> None:
    """Cancelled and answered requests leave nothing behind."""
    ticket = running(image)
    waiting = asyncio.create_task(watch.status(ticket.mission_id, 30))
    await watch.status(ticket.mission_id, 0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not watch._waiters
    assert not watch._watched
