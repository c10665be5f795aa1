"""The events channel as a cycle's thread sees it."""

from __future__ import annotations

import asyncio

from batos.protocol import Event, Peer


class BusEvents:
    """Publishes from any thread."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self._peer = peer
        self._loop = loop

    def publish(self, topic: str, event: Event) -> None:
        """Publish an event, in the order of the calls of each thread. Never waits."""
        self._loop.call_soon_threadsafe(self._peer.publish, topic, event)
