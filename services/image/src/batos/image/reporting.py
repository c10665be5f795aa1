"""How far care is: told now and then, never so often that telling takes longer than doing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from batos.protocol import Progress

EVERY_S = 0.2


class Tell(Protocol):
    """Is told how far something is."""

    def __call__(self, stage: str, done: int | None, total: int | None) -> None:
        """Take note: so much of so much is done; None where that is not known."""


def untold(stage: str, done: int | None, total: int | None) -> None:
    """Take no note."""
    del stage, done, total


class Reporter:
    """Turns what it is told into `Progress`, a few times a second and at every new stage."""

    def __init__(
        self, what: str, request_id: str, send: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin.

        Args:
            what: `backup`, `restore`, `verify` or `pack`.
            request_id: whose progress it is.
            send: takes the events.
            clock: seconds that only go forward.
        """
        self._what = what
        self._id = request_id
        self._send = send
        self._clock = clock
        self._stage = ""
        self._told_at = -EVERY_S

    def __call__(self, stage: str, done: int | None, total: int | None) -> None:
        """See `Tell`."""
        now = self._clock()
        if stage == self._stage and now - self._told_at < EVERY_S:
            return
        self._stage, self._told_at = stage, now
        known = done is not None and total is not None
        self._send(
            Progress(
                what=self._what,
                id=self._id,
                stage=stage,
                fraction=min(1.0, (done or 0) / total) if known and total else None,
                detail=f"{done} of {total}" if known else "",
            )
        )
