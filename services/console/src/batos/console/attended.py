"""Requests that may take hours: they wait for the image as long as it is there, or has only just gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from batos.console.errors import START_IT, FleetUnreachable
from batos.console.fleet import Fleet, roster
from batos.protocol import Event, Message, ProtocolError

R = TypeVar("R", bound=Message)

GONE_S = 60.0
"""So long may the image be away: a vessel that ended is started again within seconds, a container within a minute."""
LOOK_S = 5.0
IMAGE_KIND = "image"


class Attended:
    """In the place of a fleet: asks it the same, and looks meanwhile whether its image is still there."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def request(self, service: str, body: Message, reply: type[R], *, timeout_s: float) -> R:
        """Ask a service; errors as the fleet has them.

        Raises:
            FleetUnreachable: the fleet, or its image alone, has been gone for too long.
        """
        asked = asyncio.ensure_future(self._fleet.request(service, body, reply, timeout_s=timeout_s))
        gone = asyncio.create_task(self._gone())
        try:
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise gone.result()
            return asked.result()
        finally:
            for task in (asked, gone):
                task.cancel()
            await asyncio.gather(asked, gone, return_exceptions=True)

    def subscribe(self, *topics: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen, as the fleet does."""
        return self._fleet.subscribe(*topics)

    async def _gone(self) -> FleetUnreachable:
        """Return, once the image has been away for so long, how that is said."""
        seen_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            why = await self._away()
            if not why:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at >= GONE_S:
                return FleetUnreachable(
                    "fleet_down",
                    f"{why}, and has been gone for {GONE_S:g} s; what was under way there may have ended with it",
                    f"see `batos status`, or {START_IT}; then ask again",
                )

    async def _away(self) -> str:
        try:
            found = await roster(self._fleet, LOOK_S)
        except ProtocolError:
            return "the fleet's bus does not answer"
        is_there = any(card.kind == IMAGE_KIND and (card.ready or card.draining) for card in found.vessels)
        return "" if is_there else "the fleet has no image that is ready"
