"""How far something slow is: on a terminal one line that moves, elsewhere a line whenever there is something new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from batos.console.fleet import Fleet
from batos.console.show import Screen, clean
from batos.protocol import Event, Progress

QUIET_S = 2.0
"""Without a terminal, seconds between two lines."""
TICK_S = 0.5


class Moving:
    """Shows one text at a time, with the seconds since it began."""

    def __init__(self, screen: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        console = screen.err if screen.as_json else screen.out
        self._stream = console.file
        self._width = console.width
        self._moves = screen.moves
        self._clock = clock
        self._began = clock()
        self._said = ""
        self._said_at = -QUIET_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._moves:
            self._write("\r\x1b[K")

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def show(self, text: str) -> None:
        """Show how it stands now."""
        line = f"{clean(text)} ({self.elapsed_s:.0f} s)"
        if self._moves:
            self._write(f"\r\x1b[K{line[: self._width - 1]}")
        elif text != self._said and self._clock() - self._said_at >= QUIET_S:
            self._write(line + "\n")
            self._said, self._said_at = text, self._clock()

    def keep(self, text: str) -> None:
        """Leave a line behind."""
        start = "\r\x1b[K" if self._moves else ""
        self._write(f"{start}{clean(text)} ({self.elapsed_s:.1f} s)\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


@asynccontextmanager
async def with_progress(fleet: Fleet, topic: str, moving: Moving, what: str) -> AsyncIterator[None]:
    """Show the progress that is published on a topic while something is awaited."""
    async with fleet.subscribe(topic) as events:
        said = [f"{what}: waiting for it to begin"]
        tasks = [asyncio.create_task(_listen(events, said)), asyncio.create_task(_tick(said, moving))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(events: AsyncIterator[Event], said: list[str]) -> None:
    async for event in events:
        if isinstance(event, Progress):
            said[0] = progress_text(event)


async def _tick(said: list[str], moving: Moving) -> None:
    while True:
        moving.show(said[0])
        await asyncio.sleep(TICK_S)


def progress_text(event: Progress) -> str:
    """Say a progress event in words."""
    share = f" {event.fraction:.0%}" if event.fraction is not None else ""
    return f"{event.what}: {event.stage}{share}" + (f", {event.detail}" if event.detail else "")
