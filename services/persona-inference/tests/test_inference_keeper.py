from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from batos.persona_inference.engine import EngineHealth, Report
from batos.persona_inference.errors import EngineFailed, EngineLost
from batos.persona_inference.keeping import Keeper, KeepingTimes

QUICK = KeepingTimes(look_s=0.001, stall_s=0.02, first_pause_s=0.0001, longest_pause_s=0.001, starts=3, steady_s=60)


class Process:
    """A process that a test ends as it likes."""

    def __init__(self) -> None:
        self.starts = 0
        self.failing: set[int] = set()
        self.answers = True
        self.end = asyncio.Event()
        self.said: list[EngineHealth] = []

    async def bring_up(self, report: Report) -> None:
        report(EngineHealth(False, "starting"))
        self.starts += 1
        self.end = asyncio.Event()
        if self.starts in self.failing:
            raise EngineFailed("it does not start")
        self.answers = True

    async def alive(self) -> None:
        if not self.answers:
            raise EngineLost("no answer")

    async def ended(self) -> str:
        await self.end.wait()
        return "signal 9"

    async def until(self, condition: Callable[[EngineHealth], bool], *, starts: int) -> None:
        async with asyncio.timeout(10):
            while not (self.starts == starts and self.said and condition(self.said[-1])):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)


async def test_a_process_that_ends_is_started_again() -> None:
    """Its health goes from ready to not ready, with the reason, and back."""
    process = Process()
    keeper = Keeper("it", process.bring_up, process.alive, process.ended, QUICK)
    await keeper.start(process.said.append)
    assert keeper.health.ready
    process.end.set()
    await process.until(lambda said: said.ready, starts=2)
    assert any("signal 9" in said.reason for said in process.said)
    assert keeper.restarts == 1
    await keeper.stop()
    assert not keeper.health.ready


async def test_a_first_start_that_fails_is_the_callers() -> None:
    """Nothing is kept that never ran."""
    process = Process()
    process.failing = {1}
    keeper = Keeper("it", process.bring_up, process.alive, process.ended, QUICK)
    with pytest.raises(EngineFailed):
        await keeper.start(process.said.append)
    await keeper.stop()


async def test_it_gives_up_after_so_many_failed_starts() -> None:
    """And says that it will not come back by itself."""
    process = Process()
    process.failing = set(range(2, 100))
    keeper = Keeper("it", process.bring_up, process.alive, process.ended, QUICK)
    await keeper.start(process.said.append)
    process.end.set()
    await process.until(lambda said: said.failed, starts=1 + QUICK.starts)
    assert process.said[-1].failed
    await keeper.stop()


async def test_a_process_that_no_longer_answers_is_started_again() -> None:
    """First it is not ready, then its time is up."""
    process = Process()
    keeper = Keeper("it", process.bring_up, process.alive, process.ended, QUICK)
    await keeper.start(process.said.append)
    process.answers = False
    await process.until(lambda said: said.ready, starts=2)
    assert any("has not answered" in said.reason for said in process.said)
    await keeper.stop()


async def test_a_process_that_answers_again_is_ready_again() -> None:
    """A short silence costs no restart."""
    patient = KeepingTimes(look_s=0.001, stall_s=60, first_pause_s=0, longest_pause_s=0, starts=3, steady_s=60)
    process = Process()
    keeper = Keeper("it", process.bring_up, process.alive, process.ended, patient)
    await keeper.start(process.said.append)
    for answers in itertools.islice(itertools.cycle((False, True)), 4):
        process.answers = answers
        await process.until(lambda said, answers=answers: said.ready is answers, starts=1)  # type: ignore[misc]
    await keeper.stop()
