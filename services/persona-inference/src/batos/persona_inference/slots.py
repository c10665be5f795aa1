"""The engine's slots: who decodes, and who waits for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batos.persona_inference.errors import EngineBusy
from batos.persona_inference.figures import Figures


class Slots:
    """Lets so many in at a time, in the order of their coming."""

    def __init__(self, slots: int, queue: int, figures: Figures) -> None:
        """Begin.

        Args:
            slots: how many decode at a time, at least 1.
            queue: how many may wait.
            figures: told how many do.
        """
        self._free = asyncio.Semaphore(slots)
        self._queue = queue
        self._figures = figures
        self.waiting = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold a slot; waits for one.

        Raises:
            EngineBusy: too many wait already.
        """
        await self._wait()
        self._figures.running.inc()
        try:
            yield
        finally:
            self._figures.running.dec()
            self._free.release()

    async def _wait(self) -> None:
        if self._free.locked() and self.waiting >= self._queue:
            raise EngineBusy(self.waiting)
        self.waiting += 1
        self._figures.queue.set(self.waiting)
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
            self._figures.queue.set(self.waiting)
