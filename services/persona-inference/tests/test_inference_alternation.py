from __future__ import annotations

import asyncio
import random

import pytest

from batos.persona_inference.alternation import Alternation


class Room:
    """Watches who is inside together."""

    def __init__(self) -> None:
        self.gate = Alternation()
        self.inside = {False: 0, True: 0}
        self.entered: list[bool] = []
        self.most = 0

    async def visit(self, group: bool, leave: asyncio.Event) -> None:
        async with self.gate.inside(group):
            self.inside[group] += 1
            assert not self.inside[not group]
            self.entered.append(group)
            self.most = max(self.most, self.inside[group])
            try:
                await leave.wait()
            finally:
                self.inside[group] -= 1


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_group_goes_in_together_and_the_other_waits() -> None:
    """The second group enters when the last of the first has left."""
    room, first, second = Room(), asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(room.visit(False, first)) for _ in range(3)]
    tasks += [asyncio.create_task(room.visit(True, second)) for _ in range(2)]
    await turn()
    assert room.entered == [False] * 3
    first.set()
    await turn()
    assert room.entered == [False] * 3 + [True] * 2
    second.set()
    await asyncio.gather(*tasks)
    assert room.most == 3


async def test_nobody_overtakes_who_waits() -> None:
    """A steady stream of one group does not keep the other out."""
    room, first, rest = Room(), asyncio.Event(), asyncio.Event()
    rest.set()
    tasks = [asyncio.create_task(room.visit(False, first))]
    await turn()
    tasks += [asyncio.create_task(room.visit(group, rest)) for group in (True, False, False, True)]
    await turn()
    assert room.entered == [False]
    first.set()
    await asyncio.gather(*tasks)
    assert room.entered == [False, True, False, False, True]


async def test_who_gives_up_while_waiting_leaves_no_trace() -> None:
    """Those behind go in as if it had never come."""
    room, first, rest = Room(), asyncio.Event(), asyncio.Event()
    rest.set()
    inside = asyncio.create_task(room.visit(False, first))
    await turn()
    gone, behind = [asyncio.create_task(room.visit(group, rest)) for group in (True, False)]
    await turn()
    gone.cancel()
    await turn()
    assert room.entered == [False, False]
    first.set()
    await asyncio.gather(inside, behind)
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_who_gives_up_in_the_moment_of_being_let_in_leaves_no_trace() -> None:
    """Its place inside is given back."""
    room, rest = Room(), asyncio.Event()
    rest.set()
    async with room.gate.inside(False):
        gone = asyncio.create_task(room.visit(True, rest))
        behind = asyncio.create_task(room.visit(False, rest))
        await turn()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(behind, 5)
    assert room.entered == [False]


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_of_coming_leaving_and_giving_up_ends(seed: int) -> None:
    """Nobody meets the other group, and nobody waits for ever."""
    chance = random.Random(seed)
    room = Room()
    leaves = [asyncio.Event() for _ in range(40)]
    tasks = [asyncio.create_task(room.visit(chance.random() < 0.5, leave)) for leave in leaves]
    steps = [*leaves, *chance.sample(tasks, 10)]
    chance.shuffle(steps)
    for step in steps:
        if isinstance(step, asyncio.Event):
            step.set()
        else:
            step.cancel()
        await asyncio.sleep(0)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert room.inside == {False: 0, True: 0}
