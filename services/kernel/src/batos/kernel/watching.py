"""Waiting for missions to end: one thread looks into the image for everybody who waits."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batos.kernel import missions
from batos.kernel.metrics import KernelMetrics
from batos.protocol import MissionStatus, RequestFailed
from batos.uvm import Image, Session, UvmError

_log = logging.getLogger("batos.kernel")


@dataclass(eq=False)
class _Waiter:
    """One request that waits for a mission."""

    mission_id: str
    looked: asyncio.Future[MissionStatus | None]
    ended: asyncio.Future[MissionStatus]
    since: float
    """Monotonic seconds: a look that began earlier may not know what this request may rely on."""
    latest: MissionStatus | None = field(default=None)


class MissionWatch:
    """Answers how missions stand, at once or when they have ended. Its coroutines belong to one event loop.

    Missions that end here are told by the cycle's thread; others' are looked for in the image, all of them together,
    as long as anybody waits.
    """

    def __init__(self, image: Image, *, poll_s: float, metrics: KernelMetrics) -> None:
        """Start the thread.

        Args:
            image: where missions are kept.
            poll_s: seconds between two looks.
            metrics: counts who waits.
        """
        self._image = image
        self._poll_s = poll_s
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[str, set[_Waiter]] = {}
        self._condition = threading.Condition()
        self._watched: dict[str, bool] = {}
        """Mission id to whether it has been looked at since somebody began to wait; shared with the thread."""
        self._closed = False
        self._leaving = False
        self._thread = threading.Thread(target=self._work, name="mission-watch")
        self._thread.start()

    async def status(self, mission_id: str, timeout_s: float) -> MissionStatus:
        """Return how a mission stands once it has ended, or after a while.

        Args:
            mission_id: which mission.
            timeout_s: seconds to wait for its end at most; 0 answers at once.

        Raises:
            RequestFailed: `mission_unknown`; or, transient, `image_unreachable` or `draining`.
        """
        if self._leaving:
            raise _draining()
        deadline = self._loop.time() + timeout_s
        waiter = _Waiter(mission_id, self._loop.create_future(), self._loop.create_future(), time.monotonic())
        self._waiters.setdefault(mission_id, set()).add(waiter)
        self._metrics.waiters.inc()
        self._watch(mission_id)
        try:
            either: set[asyncio.Future[Any]] = {waiter.looked, waiter.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if waiter.ended.done():
                return waiter.ended.result()
            status = waiter.looked.result()
            if status is None:
                raise RequestFailed(
                    "mission_unknown", f"there is no mission {mission_id}", "see `batos mission list` for their ids"
                )
            await asyncio.wait({waiter.ended}, timeout=max(0.0, deadline - self._loop.time()))
            return waiter.ended.result() if waiter.ended.done() else waiter.latest or status
        finally:
            self._metrics.waiters.dec()
            self._forget(waiter)

    def told(self, status: MissionStatus) -> None:
        """Take note of a mission that has ended. Thread-safe."""
        self._loop.call_soon_threadsafe(self._ended, status)

    def leave(self) -> None:
        """Send everybody who waits to another kernel, from now on."""
        self._leaving = True
        for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
            for future in (waiter.looked, waiter.ended):
                if not future.done():
                    future.set_exception(_draining())

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _watch(self, mission_id: str) -> None:
        with self._condition:
            self._watched[mission_id] = False
            self._condition.notify()

    def _forget(self, waiter: _Waiter) -> None:
        waiters = self._waiters[waiter.mission_id]
        waiters.discard(waiter)
        for future in (waiter.looked, waiter.ended):
            if not future.cancel() and not future.cancelled():
                future.exception()  # whoever waited has been told by the other future
        if not waiters:
            del self._waiters[waiter.mission_id]
            with self._condition:
                self._watched.pop(waiter.mission_id, None)

    def _ended(self, status: MissionStatus) -> None:
        for waiter in self._waiters.get(status.mission_id, ()):
            if not waiter.ended.done():
                waiter.ended.set_result(status)

    def _seen(self, found: dict[str, MissionStatus | None], began: float) -> None:
        for mission_id, status in found.items():
            for waiter in self._waiters.get(mission_id, ()):
                if began < waiter.since:
                    continue
                waiter.latest = status
                if not waiter.looked.done():
                    waiter.looked.set_result(status)
            if status is not None and status.state in missions.ENDED:
                self._ended(status)

    def _unseen(self, which: list[str], error: Exception) -> None:
        for mission_id in which:
            for waiter in self._waiters.get(mission_id, ()):
                if not waiter.looked.done():
                    waiter.looked.set_exception(
                        RequestFailed(
                            "image_unreachable", f"the image does not answer: {error}", "is it up?", transient=True
                        )
                    )

    # ------------------------------------------------------------------------------------------ the thread

    def _work(self) -> None:
        session: Session | None = None
        try:
            while (due := self._due()) is not None:
                tell: Callable[[], None]
                began = time.monotonic()
                try:
                    session = session or self._image.session()
                    found = _looked_up(session, due)
                except UvmError as error:
                    _log.warning("missions that are waited for were not looked at: %s", error)
                    if session is not None:
                        session.close()
                        session = None
                    tell = _bound(self._unseen, due, error)
                else:
                    tell = _bound(self._seen, found, began)
                self._loop.call_soon_threadsafe(tell)
        finally:
            if session is not None:
                session.close()

    def _due(self) -> list[str] | None:
        """Wait until missions have to be looked at; None once the thread is to end."""
        with self._condition:
            until = time.monotonic() + self._poll_s
            while not self._closed:
                fresh = [mission_id for mission_id, looked in self._watched.items() if not looked]
                remaining = until - time.monotonic()
                if fresh or (self._watched and remaining <= 0):
                    which = list(self._watched) if remaining <= 0 else fresh
                    for mission_id in which:
                        self._watched[mission_id] = True
                    return which
                self._condition.wait(max(0.0, remaining) if self._watched else None)
            return None


def _looked_up(session: Session, which: list[str]) -> dict[str, MissionStatus | None]:
    root = session.begin()
    try:
        found = {mission_id: missions.find(root, mission_id) for mission_id in which}
        return {name: None if record is None else missions.status(record) for name, record in found.items()}
    finally:
        session.abort()


def _bound(call: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: call(*arguments)


def _draining() -> RequestFailed:
    return RequestFailed("draining", "this kernel is ending", "another one knows as much", transient=True)
