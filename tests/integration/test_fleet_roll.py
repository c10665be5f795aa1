"""Rolls of a small real fleet by its supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from small_fleet import Onlooker, running, watching

from batos.protocol import PersonaGet, PersonaView, Progress, RemoteError, Roll, Rolled

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def onlooker(tmp_path: Path) -> AsyncIterator[Onlooker]:
    with running(tmp_path / "home") as fleet:
        async with watching(fleet) as found:
            await found.all_ready()
            yield found


async def roll(onlooker: Onlooker, target: str, timeout_s: float = 60) -> Rolled:
    return await onlooker.peer.request(
        "supervisor", Roll(target=target, timeout_s=timeout_s), Rolled, timeout_s=timeout_s + 10
    )


async def ask(onlooker: Onlooker, service: str = "toy") -> str:
    view: PersonaView = await onlooker.peer.request(service, PersonaGet(persona="x"), PersonaView, timeout_s=30)
    return view.ancestor


async def test_toys_are_rolled_under_load(onlooker: Onlooker) -> None:
    """Both toys are replaced one after another while requests are asked; none fails, progress is told."""
    before = await onlooker.all_ready()
    answered: list[str] = []
    asking = True

    async def load() -> None:
        while asking:
            answered.append(await ask(onlooker))

    told: list[Progress] = []

    async with onlooker.peer.subscribe("progress/roll/") as events:

        async def listen() -> None:
            async for event in events:
                body = getattr(event, "body", event)
                if isinstance(body, Progress):
                    told.append(body)

        listener = asyncio.create_task(listen())
        loads = [asyncio.create_task(load()) for _ in range(4)]
        try:
            rolled = await roll(onlooker, "toy")
        finally:
            asking = False
        await asyncio.gather(*loads)
        after = await onlooker.all_ready()
        await onlooker.until("the last progress", lambda _: bool(told) and told[-1].fraction == 1.0)
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)

    assert [plank.name for plank in rolled.planks] == ["toy-1", "toy-2"]
    for plank in rolled.planks:
        assert plank.old == before[plank.name].incarnation
        assert plank.new == after[plank.name].incarnation != plank.old
    assert len(answered) > 10
    assert {plank.new for plank in rolled.planks} & set(answered)
    toys = [card for card in await onlooker.cards() if card.kind == "toy"]
    assert len(toys) == 2


async def test_work_is_finished_before_the_end(onlooker: Onlooker) -> None:
    """What a plank is at work on when it is drained is answered by that plank."""
    before = await onlooker.all_ready()
    slow = onlooker.fleet.home / "toy-slow"
    slow.touch()
    asked = asyncio.create_task(ask(onlooker, "toy/toy-1"))
    rolling = asyncio.create_task(roll(onlooker, "toy-1"))
    await onlooker.until(
        "the old plank to drain",
        lambda _: "it finishes its work" in (onlooker.fleet.home / "log" / "supervisor.log").read_text(),
    )
    assert not asked.done()
    slow.unlink()
    assert await asked == before["toy-1"].incarnation
    await rolling


@pytest.mark.parametrize("name", ["image", "bus"])
async def test_who_is_alone_is_rolled(onlooker: Onlooker, name: str) -> None:
    """Image and bus are drained, started again by the keeper, and ready."""
    before = await onlooker.named(name)
    (plank,) = (await roll(onlooker, name)).planks
    after = await onlooker.all_ready()
    assert plank.old == before.incarnation
    assert plank.new == after[name].incarnation


async def test_a_successor_that_is_not_ready(onlooker: Onlooker) -> None:
    """The old plank keeps its place and goes on answering; the error quotes the successor's own reason."""
    before = await onlooker.all_ready()
    (onlooker.fleet.home / "toy-unready").touch()
    with pytest.raises(RemoteError) as caught:
        await roll(onlooker, "toy", timeout_s=6)
    assert caught.value.code == "roll_timeout"
    assert "waiting for the file toy-unready to go" in caught.value.message
    assert "the old plank keeps its place" in caught.value.message
    after = await onlooker.until(
        "one toy a name",
        lambda cards: all(cards[name].incarnation == before[name].incarnation for name in ("toy-1", "toy-2")),
    )
    assert after["toy-1"].ready
    assert await ask(onlooker, "toy/toy-1") == before["toy-1"].incarnation


async def test_a_successor_that_cannot_start(onlooker: Onlooker) -> None:
    """A successor that dies ends the roll soon, with its own words; a later roll succeeds."""
    before = await onlooker.all_ready()
    broken = onlooker.fleet.home / "toy-broken"
    broken.touch()
    with pytest.raises(RemoteError, match="the toy is broken"):
        await roll(onlooker, "toy-1")
    assert (await onlooker.named("toy-1")).incarnation == before["toy-1"].incarnation
    broken.unlink()
    (plank,) = (await roll(onlooker, "toy-1")).planks
    assert plank.old == before["toy-1"].incarnation


async def test_one_roll_at_a_time(onlooker: Onlooker) -> None:
    """A second roll is refused while one is under way."""
    unready = onlooker.fleet.home / "toy-unready"
    unready.touch()
    first = asyncio.create_task(roll(onlooker, "toy-1", timeout_s=8))
    await onlooker.until("the successor", lambda cards: not cards["toy-1"].ready)
    with pytest.raises(RemoteError, match="a roll of 'toy-1' is under way") as caught:
        await roll(onlooker, "toy-2")
    assert caught.value.code == "roll_busy"
    with pytest.raises(RemoteError, match="keeps its place"):
        await first


async def test_targets_that_cannot_be_rolled(onlooker: Onlooker) -> None:
    """Unknown targets and the supervisor itself are refused with what to do."""
    with pytest.raises(RemoteError, match="did you mean 'toy'"):
        await roll(onlooker, "toys")
    with pytest.raises(RemoteError, match="leads the roll"):
        await roll(onlooker, "supervisor")


async def test_a_plank_that_dies_during_its_roll(onlooker: Onlooker) -> None:
    """The old plank is killed while its successor starts: the successor has the place, nothing is started twice."""
    before = await onlooker.all_ready()
    unready = onlooker.fleet.home / "toy-unready"
    unready.touch()
    rolling = asyncio.create_task(roll(onlooker, "toy-1", timeout_s=8))
    await onlooker.until("the successor", lambda cards: not cards["toy-1"].ready)
    successor = (await onlooker.until("it", lambda cards: "toy-1" in cards))["toy-1"]
    psutil.Process(before["toy-1"].pid).kill()
    await onlooker.until("the keeper to notice", lambda _: "has taken the place" in onlooker.fleet.words())
    with pytest.raises(RemoteError, match="the old plank is gone, too"):
        await rolling
    assert psutil.pid_exists(successor.pid)
    assert [card.incarnation for card in await onlooker.cards() if card.name == "toy-1"] == [successor.incarnation]
