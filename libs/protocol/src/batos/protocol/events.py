"""What happens, as it happens: one publisher a process, a socket of its own for every subscription."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable

import zmq

from batos.protocol.envelope import Header, Kind, decode_body, encode, open_frames
from batos.protocol.errors import BusUnreachable, Undecodable
from batos.protocol.ids import new_id
from batos.protocol.messages import Event, Message, Subscribed, VesselCard
from batos.protocol.sockets import LINGER_MS
from batos.protocol.stats import PeerStats
from batos.protocol.wire import Wire

ACK_PREFIX = "ack/"
"""Topics of this prefix are the bus's: it publishes `Subscribed` on one when somebody subscribes to it."""

KEPT_WHILE_UNHEARD = 10_000
"""Events kept while the bus does not listen (at the start, or while it restarts); the oldest goes first."""

UNREAD_LIMIT = 100_000
"""Events that a subscription keeps for a reader that is slow; the oldest goes first and is counted."""

COUNTED_TOPICS = 10_000
"""Topics of which the sequence is remembered; the one unused longest is forgotten, and counts from 1 again."""

FRESH_S = 4.0
"""Seconds without a sign of the bus after which an event socket is replaced."""

_log = logging.getLogger(__name__)


class Publisher:
    """Sends events, numbered, once the bus listens."""

    def __init__(
        self, connect: Callable[[], zmq.Socket[bytes]], *, card: Callable[[], VesselCard], stats: PeerStats
    ) -> None:
        self._connect = connect
        self._card = card
        self._stats = stats
        self._wire: Wire | None = None
        self._heard = False
        self._opened_at = 0.0
        self._kept: deque[list[bytes]] = deque()
        self._seq = 0
        self._topic_seqs: OrderedDict[str, int] = OrderedDict()

    def open(self) -> None:
        """Connect."""
        self._heard = False
        self._opened_at = asyncio.get_running_loop().time()
        self._wire = Wire(self._connect(), self._subscriptions)

    def close(self) -> None:
        """Let go of the socket."""
        if self._wire is not None:
            self._wire.close(LINGER_MS if self._heard else 0)
            self._wire = None

    def refresh(self) -> None:
        """Replace a socket that nobody listens to for too long (a refused handshake is not tried again by itself)."""
        if self._wire is not None and not self._heard and self._age() > FRESH_S:
            self.close()
            self.open()

    def publish(self, topic: str, event: Message) -> None:
        """Number an event and send it, or keep it until the bus listens."""
        card = self._card()
        self._seq += 1
        topic_seq = self._topic_seqs.pop(topic, 0) + 1
        self._topic_seqs[topic] = topic_seq
        if len(self._topic_seqs) > COUNTED_TOPICS:
            self._topic_seqs.popitem(last=False)
        header = Header(id=new_id(), session=card.incarnation, sender=card.name, seq=self._seq, topic_seq=topic_seq)
        self._stats.events_published += 1
        self._send([topic.encode(), *encode(Kind.EVENT, header, event)])

    def _send(self, frames: list[bytes]) -> None:
        if self._wire is not None and self._heard:
            if not self._wire.send(frames):
                self._stats.events_dropped += 1
            return
        if len(self._kept) >= KEPT_WHILE_UNHEARD:
            self._kept.popleft()
            self._stats.events_dropped += 1
        self._kept.append(frames)

    def _subscriptions(self, frames: list[bytes]) -> None:
        """Hear that the bus listens to everything, or no more."""
        self._heard = frames[0][:1] == b"\x01"
        self._opened_at = asyncio.get_running_loop().time()
        while self._heard and self._kept:
            self._send(self._kept.popleft())

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._opened_at


class Subscription:
    """An endless iterator of events, in the order in which each publisher sent them.

    Attributes:
        missed: events that were published but never arrived, as far as gaps in the sequences tell.
    """

    def __init__(self, connect: Callable[[], zmq.Socket[bytes]], topics: tuple[str, ...], stats: PeerStats) -> None:
        self._connect = connect
        self._topics = topics
        self._stats = stats
        self._wire: Wire | None = None
        self._unread: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._effective = asyncio.Event()
        self._ack = ""
        self._asked_at = 0.0
        self._heard_at = 0.0
        self._closed = False
        self._sequences: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.missed = 0

    async def open(self, timeout_s: float) -> None:
        """Subscribe and return once the bus has seen it.

        Raises:
            BusUnreachable: it has not within the time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._effective.is_set():
                    self._fresh()
                    try:
                        await asyncio.wait_for(self._effective.wait(), FRESH_S)
                    except TimeoutError:
                        _log.warning("subscription to %s not seen by the bus yet", ", ".join(self._topics))
        except TimeoutError:
            self.close()
            raise BusUnreachable(f"events {', '.join(self._topics)}", "subscribe", timeout_s) from None

    def close(self) -> None:
        """Let go of the socket; iteration ends once what has arrived is read."""
        self._closed = True
        self._arrived.set()
        self._drop()

    def verify(self) -> None:
        """Have the bus acknowledge the subscription once more: it may have started anew."""
        if self._wire is not None:
            self._ask(self._wire)

    def refresh(self) -> None:
        """Replace a socket that is silent, and whose subscription the bus has not acknowledged for too long.

        While events come, the acknowledgement may only stand behind them: a socket replaced then would lose them.
        """
        if self._wire is not None and not self._effective.is_set() and self._waited() > FRESH_S:
            self._fresh()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._unread.popleft()

    def _fresh(self) -> None:
        """Take a new socket; the topic to acknowledge comes after the others, so that it proves them all."""
        self._drop()
        self._wire = Wire(self._connect(), self._received)
        for topic in self._topics:
            self._wire.subscribe(topic.encode())
        self._ask(self._wire)

    def _ask(self, wire: Wire) -> None:
        """Ask for an acknowledgement by a topic of its own."""
        self._effective.clear()
        self._asked_at = asyncio.get_running_loop().time()
        self._ack = f"{ACK_PREFIX}{new_id()}"
        wire.subscribe(self._ack.encode())

    def _waited(self) -> float:
        """Return the seconds since the acknowledgement was asked for, or since the last event, whichever is less."""
        return asyncio.get_running_loop().time() - max(self._asked_at, self._heard_at)

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close(0)
            self._wire = None

    def _received(self, frames: list[bytes]) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        try:
            kind, header, body = open_frames(frames[1:])
            message = decode_body(kind, body)
        except Undecodable as error:
            self._stats.undecodable += 1
            _log.warning("undecodable event: %s", error)
            return
        if isinstance(message, Subscribed):
            if message.topic == self._ack and self._wire is not None:
                self._effective.set()
                self._wire.unsubscribe(self._ack.encode())
            return
        if isinstance(message, Event):
            self._count(header, frames[0].decode(errors="replace"))
            if len(self._unread) >= UNREAD_LIMIT:
                self._unread.popleft()
                self._miss(1)
            self._unread.append(message)
            self._arrived.set()

    def _count(self, header: Header, topic: str) -> None:
        """Notice a gap in what one publisher sent on one topic."""
        key = (header.session, topic)
        before = self._sequences.pop(key, None)
        if before is not None and header.topic_seq > before + 1:
            self._miss(header.topic_seq - before - 1)
        self._sequences[key] = header.topic_seq
        if len(self._sequences) > COUNTED_TOPICS:
            self._sequences.popitem(last=False)

    def _miss(self, count: int) -> None:
        self.missed += count
        self._stats.events_missed += count
