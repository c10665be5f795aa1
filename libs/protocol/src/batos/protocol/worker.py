"""The answering side of a channel: handlers by message type, each request executed once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batos.protocol.envelope import TYPE_FRAMES, Header, Kind, decode_body, encode_body, encode_header
from batos.protocol.errors import ProtocolError, RequestFailed, Transient, Undecodable
from batos.protocol.ids import new_id
from batos.protocol.messages import ErrorReply, Message, VesselCard
from batos.protocol.stats import PeerStats

REMEMBERED_REPLIES = 2_000
REMEMBERED_BYTES = 64 * 1024 * 1024
"""How much is kept to answer repeated requests without executing them again; the oldest goes first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a handler may know of its request besides the body.

    Attributes:
        id: of the request; the same when it is made again.
        parent: of what caused it.
        sender: name of the vessel that asks.
        session: its incarnation.
        attempt: how often it was sent before.
        deadline: seconds since the epoch after which the handler is cancelled.
    """

    id: str
    parent: str
    sender: str
    session: str
    attempt: int
    deadline: float

    @property
    def deadline_s(self) -> float:
        """Seconds that remain until the deadline, at least 0."""
        return max(0.0, self.deadline - time.time())


Handler = Callable[[Any, RequestContext], Awaitable[Message]]


class ReplyMemory:
    """Recent successful replies by request id, bounded in number and bytes."""

    def __init__(self, *, replies: int = REMEMBERED_REPLIES, size: int = REMEMBERED_BYTES) -> None:
        self._limit = replies
        self._size_limit = size
        self._size = 0
        self._replies: OrderedDict[str, bytes] = OrderedDict()

    def get(self, request_id: str) -> bytes | None:
        """Return the encoded reply to a request that was answered."""
        return self._replies.get(request_id)

    def put(self, request_id: str, body: bytes) -> None:
        """Remember a reply; forget the oldest where there are too many."""
        self._size += len(body) - len(self._replies.pop(request_id, b""))
        self._replies[request_id] = body
        while self._replies and (len(self._replies) > self._limit or self._size > self._size_limit):
            _, forgotten = self._replies.popitem(last=False)
            self._size -= len(forgotten)

    def ids(self) -> tuple[str, ...]:
        """Ids of the remembered replies, oldest first."""
        return tuple(self._replies)


class Worker:
    """Executes requests of one channel."""

    def __init__(
        self,
        *,
        send: Callable[[list[bytes]], bool],
        card: Callable[[], VesselCard],
        stats: PeerStats,
    ) -> None:
        self._send_frames = send
        self._card = card
        self._stats = stats
        self._handlers: dict[type[Message], Handler] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self.memory = ReplyMemory()

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the requests at work."""
        return tuple(self._running)

    def add(self, handlers: Mapping[type[Message], Handler]) -> None:
        """Add handlers.

        Raises:
            ValueError: a type has one already.
        """
        for message_type in handlers:
            if message_type in self._handlers:
                raise ValueError(f"{message_type.__name__} has a handler already")
        self._handlers.update(handlers)

    def requested(self, header: Header, body: bytes) -> None:
        """Take a REQUEST: start its handler, or answer what needs none."""
        remembered = self.memory.get(header.id)
        if remembered is not None:
            self._stats.duplicates += 1
            self._send(Kind.REPLY, header, remembered)
            return
        if header.id in self._running:
            self._stats.duplicates += 1
            return
        if header.deadline <= time.time():
            self._refuse(header, ErrorReply(code="deadline_passed", message="its deadline has passed"))
            return
        try:
            message = decode_body(Kind.REQUEST, body)
        except Undecodable as error:
            self._stats.undecodable += 1
            _log.warning("undecodable request from %s: %s", header.sender, error)
            self._refuse(header, ErrorReply(code=error.code, message=error.message, hint=error.hint))
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            self._refuse(
                header,
                ErrorReply(
                    code="not_served",
                    message=f"{self._card().name} does not handle {type(message).__name__}",
                    hint=f"check which service it belongs to; this one is {header.service!r}",
                ),
            )
            return
        task = asyncio.get_running_loop().create_task(self._execute(handler, message, header), name=header.id)
        self._running[header.id] = task

    def cancel(self, request_id: str) -> None:
        """Stop a handler whose answer nobody waits for."""
        task = self._running.get(request_id)
        if task is not None:
            self._cancelled.add(request_id)
            task.cancel()

    async def close(self) -> None:
        """Cancel what runs and wait until it has stopped."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _execute(self, handler: Handler, message: Message, header: Header) -> None:
        try:
            answer = await self._outcome(handler, message, header)
        finally:
            del self._running[header.id]
            self._cancelled.discard(header.id)
        if isinstance(answer, ErrorReply):
            self._refuse(header, answer)
            return
        try:
            body = encode_body(answer)
        except ProtocolError as error:
            _log.exception("the reply to %s cannot be sent", type(message).__name__)
            self._refuse(header, ErrorReply(code=error.code, message=error.message, hint=error.hint))
            return
        self._stats.handled += 1
        self.memory.put(header.id, body)
        self._send(Kind.REPLY, header, body)

    async def _outcome(self, handler: Handler, message: Message, header: Header) -> Message:
        """Run a handler; whatever it raises becomes an ErrorReply."""
        name = type(message).__name__
        context = RequestContext(
            id=header.id,
            parent=header.parent,
            sender=header.sender,
            session=header.session,
            attempt=header.attempt,
            deadline=header.deadline,
        )
        limit = asyncio.timeout(context.deadline_s)
        try:
            async with limit:
                return await handler(message, context)
        except asyncio.CancelledError:
            if header.id in self._cancelled:
                return ErrorReply(code="cancelled", message=f"{name} was cancelled by who asked", transient=True)
            self._refuse(header, ErrorReply(code="worker_stopped", message="the vessel stops", transient=True))
            raise
        except RequestFailed as error:
            return ErrorReply(code=error.code, message=error.message, hint=error.hint, transient=error.transient)
        except ProtocolError as error:
            return ErrorReply(
                code=error.code, message=error.message, hint=error.hint, transient=isinstance(error, Transient)
            )
        except Exception as error:  # noqa: BLE001 - its faults end here: in the log and an ErrorReply
            if isinstance(error, TimeoutError) and limit.expired():
                return ErrorReply(code="deadline_passed", message=f"{name} was not done by its deadline")
            _log.exception("handler of %s failed", name)
            return ErrorReply(
                code="internal",
                message=f"{type(error).__name__} in the handler of {name}",
                hint=f"the traceback is in the log of {self._card().name}",
            )

    def _refuse(self, request: Header, error: ErrorReply) -> None:
        self._stats.failed += 1
        self._send(Kind.ERROR, request, encode_body(error))

    def _send(self, kind: Kind, request: Header, body: bytes) -> None:
        card = self._card()
        header = Header(
            id=new_id(), parent=request.id, session=card.incarnation, sender=card.name, service=request.service
        )
        self._send_frames([TYPE_FRAMES[kind], encode_header(header), body])
