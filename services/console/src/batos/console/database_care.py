"""Care for an image in PostgreSQL: there is no vessel to ask, so a process of this command's own does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from batos.console.errors import WrongUsage
from batos.console.image_tool import run_image_tool
from batos.protocol import Event, ImagePack, ImagePin, ImagePinsGet, ImageUnpin, Message, Progress

R = TypeVar("R", bound=Message)


class DatabaseCare:
    """In the place of a fleet's image vessel: takes the same requests, as far as they are not PostgreSQL's business."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Event]] = set()

    async def request(self, service: str, body: Message, reply: type[R], *, timeout_s: float) -> R:
        """Do what is asked.

        Raises:
            WrongUsage: it is done by PostgreSQL's own tools.
            ConsoleError: it took longer than that.
            VesselError: it was refused.
        """
        del service
        match body:
            case ImagePack():
                arguments = ["pack", *([] if body.days is None else ["--days", str(body.days)])]
            case ImagePin():
                given = {"name": body.name, "at": body.at, "reason": body.reason, "by": body.by}
                arguments = ["pin", *(f"--{name}={value}" for name, value in given.items())]
            case ImageUnpin():
                arguments = ["unpin", f"--name={body.name}"]
            case ImagePinsGet():
                arguments = ["pins"]
            case _:
                raise WrongUsage(
                    "image_elsewhere",
                    "this image is kept in PostgreSQL, whose own tools do that",
                    "use pg_dump and pg_restore, or base backups",
                )
        return await run_image_tool(arguments, reply, self._tell, timeout_s=timeout_s)

    def _tell(self, progress: Progress) -> None:
        for listener in self._listeners:
            listener.put_nowait(progress)

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Listen to how far it is; whatever the topics are, nothing else happens here."""
        del topics
        heard: asyncio.Queue[Event] = asyncio.Queue()

        async def events() -> AsyncIterator[Event]:
            while True:
                yield await heard.get()

        self._listeners.add(heard)
        try:
            yield events()
        finally:
            self._listeners.discard(heard)
