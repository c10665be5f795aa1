"""Streamed text on its way to whoever watches a thought."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from batos.protocol import Message, PromptLabel, TokenDelta

Publish = Callable[[str, Message], None]


class DeltaFeed:
    """Gathers pieces of one answer for a moment and publishes them together."""

    def __init__(self, publish: Publish, label: PromptLabel, gather_s: float) -> None:
        """Begin.

        Args:
            publish: takes a topic and an event.
            label: where in a thought the prompt stands; without a mission nothing is published.
            gather_s: how long pieces are gathered, in seconds.
        """
        self._publish = publish
        self._label = label
        self._gather_s = gather_s
        self._pieces: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        """Take the next piece."""
        if not self._label.mission_id:
            return
        self._pieces.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gather_s, self.flush)

    def flush(self) -> None:
        """Publish what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pieces:
            text, self._pieces = "".join(self._pieces), []
            self._publish(f"mission/{self._label.mission_id}", TokenDelta(label=self._label, text=text))
