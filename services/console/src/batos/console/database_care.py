"""Care for an image in PostgreSQL: there is no vessel to ask, so a process of this command's own does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from batos.console.errors import ConsoleError, WrongUsage
from batos.protocol import Event, ImagePack, ImagePin, ImagePinsGet, ImageUnpin, Message, Progress
from batos.vessel.tool import run_tool

TOOL = "batos.image.care"

R = TypeVar("R", bound=Message)


class DatabaseCare:
    """In the place of a fleet's image vessel: takes the same requests, as far as they are not PostgreSQL's business."""

    def __init__(self, tell: Callable[[Progress], None] = lambda _progress: None) -> None:
        """Begin.

        Args:
            tell: is told how far something is.
        """
        self._tell = tell

    async def request(self, service: str, body: Message, reply: type[R], *, timeout_s: float) -> R:
        """Do what is asked.

        Raises:
            WrongUsage: it is done by PostgreSQL's own tools.
            VesselError: it was refused.
        """
        del service, timeout_s
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
        outcome = await run_tool(TOOL, arguments, self._tell)
        if not isinstance(outcome, reply):
            raise ConsoleError("tool_answer", f"{TOOL} answered with {type(outcome).__name__}", "this is a fault of it")
        return outcome

    def subscribe(self, *topics: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen to nothing: nobody publishes."""
        del topics
        return _silence()


@asynccontextmanager
async def _silence() -> AsyncIterator[AsyncIterator[Event]]:
    async def nothing() -> AsyncIterator[Event]:
        events: tuple[Event, ...] = ()
        for event in events:
            yield event

    yield nothing()
