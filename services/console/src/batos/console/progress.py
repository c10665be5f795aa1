"""How far something slow is: on a terminal one line that moves, elsewhere a line whenever there is something new."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from batos.console.show import Screen, clean

QUIET_S = 2.0
"""Without a terminal, seconds between two lines."""


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
