"""Two groups that may not meet: members of one go in together, the groups take turns.

vLLM's CPU build keeps no empty place for "no adapter": a base model's row that stands in one batch with an adapter's
is computed with whatever adapter stands last (vllm-project/vllm#48421, open; its GPU kernels skip such rows). Until
that is mended, questions to the base and questions to adapters never run there at the same time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Alternation:
    """Lets one group in at a time, in the order of coming: whoever finds others waiting waits behind them."""

    def __init__(self) -> None:
        self._inside: dict[bool, int] = {False: 0, True: 0}
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def inside(self, group: bool) -> AsyncIterator[None]:
        """Be inside together with members of the same group only.

        Args:
            group: which of the two.
        """
        await self._enter(group)
        try:
            yield
        finally:
            self._inside[group] -= 1
            self._admit()

    async def _enter(self, group: bool) -> None:
        if not self._waiting and not self._inside[not group]:
            self._inside[group] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        place = (group, turn)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._inside[group] -= 1
            else:
                self._waiting.remove(place)
            self._admit()
            raise

    def _admit(self) -> None:
        """Let in from the front of the queue as long as nobody of the other group is inside."""
        while self._waiting:
            group, turn = self._waiting[0]
            if self._inside[not group]:
                return
            self._waiting.popleft()
            if not turn.done():
                self._inside[group] += 1
                turn.set_result(None)
