"""Keeps an engine's process: brings it up, looks after it, brings it up again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from batos.persona_inference.engine import EngineHealth, Report
from batos.persona_inference.errors import InferenceError

_log = logging.getLogger(__name__)

JITTER = 0.2
"""Share by which a pause is longer at most, so that engines that died together do not start together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingTimes:
    """When an engine counts as sick, and how it is brought up again.

    Attributes:
        look_s: seconds between two looks whether it answers.
        stall_s: seconds without an answer after which its process is ended and started anew.
        first_pause_s: before the first new start; doubled each time.
        longest_pause_s: bound of the pause.
        starts: how many starts in a row may fail before it counts as failed for good.
        steady_s: a life longer than this was a good one: counting begins anew.
    """

    look_s: float = 5.0
    stall_s: float = 60.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 10.0
    starts: int = 5
    steady_s: float = 30.0


class Keeper:
    """Keeps one process alive through four functions of its engine."""

    def __init__(
        self,
        name: str,
        bring_up: Callable[[Report], Awaitable[None]],
        alive: Callable[[], Awaitable[None]],
        ended: Callable[[], Awaitable[str]],
        times: KeepingTimes,
    ) -> None:
        """Begin without a process.

        Args:
            name: what is kept, for the log.
            bring_up: ends what is left of the last process and starts a new one, ready to answer.
            alive: returns when the process answers, else raises.
            ended: returns how the process ended, once it has.
            times: when and how.
        """
        self._name = name
        self._bring_up = bring_up
        self._alive = alive
        self._ended = ended
        self._times = times
        self._task: asyncio.Task[None] | None = None
        self._report: Report = lambda _: None
        self.health = EngineHealth(False, "not started")
        self.restarts = 0

    async def start(self, report: Report) -> None:
        """Bring the process up once and keep it from then on.

        Raises:
            InferenceError: it does not come up.
        """
        self._report = report
        await self._bring_up(self._said)
        self._said(EngineHealth(True))
        self._task = asyncio.create_task(self._keep(), name=f"keep-{self._name}")

    async def stop(self) -> None:
        """Keep it no longer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._said(EngineHealth(False, "stopped"))

    def _said(self, health: EngineHealth) -> None:
        self.health = health
        self._report(health)

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            how = await self._life()
            if time.monotonic() - began > self._times.steady_s:
                failures = 0
            self.restarts += 1
            _log.warning("%s ended (%s): starting it again", self._name, how)
            self._said(EngineHealth(False, f"the engine ended ({how}) and is started again"))
            while True:
                try:
                    await self._pause(failures)
                    await self._bring_up(self._said)
                except Exception as error:  # noqa: BLE001 - whatever it is, the engine is tried again and then given up
                    failures += 1
                    known = isinstance(error, InferenceError | OSError)
                    said = f"{self._name} did not come up ({failures} in a row): {error}"
                    _log.warning(said, exc_info=None if known else error)
                    self._said(EngineHealth(False, f"the engine did not come up: {error}"))
                    if failures >= self._times.starts:
                        self._said(EngineHealth(False, f"the engine does not come up: {error}", failed=True))
                        return
                else:
                    break
            failures += 1
            self._said(EngineHealth(True))

    async def _pause(self, failures: int) -> None:
        pause = min(self._times.longest_pause_s, self._times.first_pause_s * 2**failures)
        await asyncio.sleep(pause * (1 + JITTER * random.random()))  # noqa: S311 - spreading, not secrecy

    async def _life(self) -> str:
        """Return how the process ended; end the wait where it answers no longer."""
        ended = asyncio.ensure_future(self._ended())
        looks = asyncio.create_task(self._look(), name=f"look-{self._name}")
        try:
            await asyncio.wait({ended, looks}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else f"no answer for {self._times.stall_s:g} s"
        finally:
            for task in (ended, looks):
                task.cancel()
            await asyncio.gather(ended, looks, return_exceptions=True)

    async def _look(self) -> None:
        """Look again and again; return when there was no answer for too long."""
        answered = time.monotonic()
        while time.monotonic() - answered < self._times.stall_s:
            await asyncio.sleep(self._times.look_s)
            try:
                async with asyncio.timeout(self._times.stall_s):
                    await self._alive()
            except (InferenceError, OSError, TimeoutError) as error:
                silent = time.monotonic() - answered
                self._said(EngineHealth(False, f"the engine has not answered for {silent:.0f} s: {error}"))
            else:
                answered = time.monotonic()
                if not self.health.ready:
                    self._said(EngineHealth(True))
