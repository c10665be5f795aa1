"""The asking side of a channel: requests that are made again, under the same id, until their deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from batos.protocol.envelope import TYPE_FRAMES, Header, Kind, decode_body, encode, encode_body, encode_header
from batos.protocol.errors import BusUnreachable, ProtocolError, RemoteError, RequestTimeout, Transient, Undecodable
from batos.protocol.ids import new_id
from batos.protocol.messages import Cancel, ErrorReply, Message, VesselCard
from batos.protocol.stats import PeerStats

R = TypeVar("R", bound=Message)

RESEND_S = 10.0
"""Seconds after which an unanswered request is sent again although nothing is known to be wrong: whatever frame was
lost on the way, it is made good then. Who has the request already ignores the repetition."""

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
"""Bounds of the growing pause between two attempts, in seconds."""


@dataclass(slots=True, eq=False)
class _Pending:
    """One call of `request` that waits."""

    id: str
    service: str
    request: str
    body: bytes
    parent: str
    deadline: float
    timeout_s: float
    answer: asyncio.Future[Message]
    attempt: int = 0
    sent_at: float = 0.0
    last: ProtocolError | None = None


class Requester:
    """Makes requests on one channel."""

    def __init__(
        self,
        *,
        send: Callable[[list[bytes]], bool],
        reachable: Callable[[], bool],
        card: Callable[[], VesselCard],
        stats: PeerStats,
    ) -> None:
        self._send_frames = send
        self._reachable = reachable
        card_now = card()
        self._session = card_now.incarnation
        self._sender = card_now.name
        self._stats = stats
        self._pending: dict[str, list[_Pending]] = {}
        self._closed = False

    async def request(
        self, service: str, body: Message, reply: type[R], *, timeout_s: float, parent: str, request_id: str | None
    ) -> R:
        """Ask a service and return its reply; see `Peer.request`."""
        if self._closed:
            raise _closed(type(body).__name__)
        loop = asyncio.get_running_loop()
        pending = _Pending(
            id=request_id or new_id(),
            service=service,
            request=type(body).__name__,
            body=encode_body(body),
            parent=parent,
            deadline=time.time() + timeout_s,
            timeout_s=timeout_s,
            answer=loop.create_future(),
        )
        self._stats.requests += 1
        self._pending.setdefault(pending.id, []).append(pending)
        timer = loop.call_later(timeout_s, self._expire, pending)
        try:
            self._send(pending)
            try:
                answer = await pending.answer
            except Transient as error:
                pending.last = error
                answer = await self._persist(pending)
        except (asyncio.CancelledError, RequestTimeout) as error:
            self._stats.timeouts += isinstance(error, RequestTimeout)
            self._cancel(pending)
            raise
        finally:
            timer.cancel()
            waiting = self._pending[pending.id]
            waiting.remove(pending)
            if not waiting:
                del self._pending[pending.id]
        if isinstance(answer, reply):
            return answer
        raise ProtocolError(
            "unexpected_reply",
            f"service {service!r} answered {pending.request} with {type(answer).__name__}, not {reply.__name__}",
            "bring both vessels to the same release",
        )

    def answered(self, kind: Kind, header: Header, body: bytes) -> None:
        """Take a REPLY or an ERROR."""
        waiting = self._pending.get(header.parent)
        if not waiting:
            self._stats.replies_unasked += 1
            return
        error: ProtocolError | None = None
        message: Message | None = None
        try:
            message = decode_body(kind, body)
        except Undecodable as undecodable:
            self._stats.undecodable += 1
            error = undecodable
        if isinstance(message, ErrorReply):
            error = (Transient if message.transient else RemoteError)(message.code, message.message, message.hint)
        for pending in waiting:
            if pending.answer.done():
                continue
            if error is not None:
                pending.answer.set_exception(error)
            elif message is not None:
                pending.answer.set_result(message)

    def resend(self) -> None:
        """Send every unanswered request again: the bus may have forgotten them."""
        for pending in [pending for waiting in self._pending.values() for pending in waiting]:
            self._send_again(pending)

    def close(self) -> None:
        """End every call that still waits: nobody will answer. One that pauses ends when it would try again."""
        self._closed = True
        for pending in [pending for waiting in self._pending.values() for pending in waiting]:
            if not pending.answer.done():
                pending.answer.set_exception(_closed(pending.request))

    def sweep(self) -> None:
        """Send again what has been unanswered for long; called about once a second."""
        now = time.monotonic()
        for pending in [pending for waiting in self._pending.values() for pending in waiting]:
            if now - pending.sent_at > RESEND_S:
                self._send_again(pending)

    async def _persist(self, pending: _Pending) -> Message:
        """Try again, with growing pauses, until an answer or the deadline."""
        left = pending.deadline - time.time()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                async for attempt in stamina.retry_context(
                    on=Transient,
                    attempts=None,
                    timeout=None,
                    wait_initial=FIRST_WAIT_S,
                    wait_max=LONGEST_WAIT_S,
                    wait_jitter=FIRST_WAIT_S,
                ):
                    with attempt:
                        if attempt.num == 1:
                            await asyncio.sleep(FIRST_WAIT_S)
                        return await self._try_again(pending)
        except TimeoutError:
            raise self._timeout(pending) from pending.last
        raise AssertionError("a retry without end ended")

    async def _try_again(self, pending: _Pending) -> Message:
        if self._closed:
            raise _closed(pending.request)
        pending.answer = asyncio.get_running_loop().create_future()
        pending.attempt += 1
        self._stats.resent += 1
        self._send(pending)
        try:
            return await pending.answer
        except Transient as error:
            pending.last = error
            raise

    def _send_again(self, pending: _Pending) -> None:
        """Send an unanswered request again; one that pauses between two attempts is left to its pause."""
        if not pending.answer.done():
            pending.attempt += 1
            self._stats.resent += 1
            self._send(pending)

    def _send(self, pending: _Pending) -> None:
        header = Header(
            id=pending.id,
            parent=pending.parent,
            session=self._session,
            sender=self._sender,
            service=pending.service,
            deadline=pending.deadline,
            attempt=pending.attempt,
        )
        pending.sent_at = time.monotonic()
        self._send_frames([TYPE_FRAMES[Kind.REQUEST], encode_header(header), pending.body])

    def _expire(self, pending: _Pending) -> None:
        if not pending.answer.done():
            pending.answer.set_exception(self._timeout(pending))

    def _timeout(self, pending: _Pending) -> RequestTimeout:
        kind = RequestTimeout if self._reachable() else BusUnreachable
        return kind(pending.service, pending.request, pending.timeout_s, pending.last)

    def _cancel(self, pending: _Pending) -> None:
        """Tell that nobody waits for this request any more, unless another call does."""
        if len(self._pending[pending.id]) == 1:
            header = Header(id=new_id(), parent=pending.id, session=self._session, sender=self._sender)
            self._send_frames(encode(Kind.CANCEL, header, Cancel(request_id=pending.id)))


def _closed(request: str) -> ProtocolError:
    return ProtocolError("peer_closed", f"this process has left the bus: {request} gets no answer")
