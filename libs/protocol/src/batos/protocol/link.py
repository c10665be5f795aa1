"""One channel between a peer and the bus: hello, heartbeats both ways, fresh sockets when the bus has been silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import zmq

from batos.protocol.envelope import Header, Kind, decode_body, encode, open_frames
from batos.protocol.errors import Undecodable
from batos.protocol.ids import new_id
from batos.protocol.messages import Goodbye, Heartbeat, HeartbeatAck, Hello, HelloWanted, Message, VesselCard
from batos.protocol.sockets import LINGER_MS
from batos.protocol.stats import PeerStats
from batos.protocol.wire import Wire

SILENT_BEATS = 4
"""Heartbeats of the bus that may fail to come before it counts as silent."""

PATIENT_BEATS = 30
"""The same while the bus is heard on the other channel: a large body on its way holds up the heartbeats behind it."""

HANDSHAKE_S = 4.0
"""Seconds that a new connection may take at least. ZeroMQ itself tries again where nobody listens yet; only after a
refused handshake it does not, and a fresh socket is needed."""

_log = logging.getLogger(__name__)


class Link:
    """Keeps one channel up. What it does not handle itself goes to `on_message`."""

    def __init__(
        self,
        channel: str,
        connect: Callable[[], zmq.Socket[bytes]],
        *,
        card: Callable[[], VesselCard],
        hello: Callable[[], Hello],
        heartbeat_s: float,
        stats: PeerStats,
        count: Callable[[], int],
        on_message: Callable[[Kind, Header, bytes], None],
        on_fresh: Callable[[], None],
        heard_elsewhere: Callable[[], bool],
    ) -> None:
        """Begin closed.

        Args:
            channel: `work` or `control`, for logs.
            connect: makes a connected DEALER.
            card: what the vessel says of itself now.
            hello: what it says on this channel first.
            heartbeat_s: seconds between two heartbeats.
            stats: where things are counted.
            count: numbers what the vessel says of itself, over both channels.
            on_message: gets requests, replies and errors; their bodies are not decoded yet.
            on_fresh: called after each Hello but the first: the bus may have forgotten all it was told before.
            heard_elsewhere: whether the bus is heard on the other channel.
        """
        self.channel = channel
        self._connect = connect
        self._card = card
        self._hello = hello
        self._heartbeat_s = heartbeat_s
        self._stats = stats
        self._count = count
        self._on_message = on_message
        self._on_fresh = on_fresh
        self._heard_elsewhere = heard_elsewhere
        self._wire: Wire | None = None
        self._beats: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._greeted_at = 0.0
        self._bus = ""
        self._leaving = False
        self.connected = asyncio.Event()

    @property
    def heard(self) -> bool:
        """Whether the bus was heard of on this channel within the last two heartbeats."""
        silent = asyncio.get_running_loop().time() - self._heard_at
        return self.connected.is_set() and silent <= 2 * self._heartbeat_s

    @property
    def reachable(self) -> bool:
        """Whether the bus was heard of lately, here or, while a large body may be on its way, on the other channel."""
        return self.connected.is_set() and (self.heard or self._heard_elsewhere())

    def open(self) -> None:
        """Connect, say Hello, begin to beat."""
        self._reopen()
        self._beats = asyncio.get_running_loop().create_task(self._beat(), name=f"heartbeat-{self.channel}")

    async def close(self) -> None:
        """Say Goodbye and let go of the socket."""
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)
            self._beats = None
        if self._wire is not None:
            self.goodbye()
            self._wire.close(LINGER_MS if self.connected.is_set() else 0)
            self._wire = None
        self.connected.clear()

    def send(self, frames: list[bytes]) -> bool:
        """Send frames; False when they cannot even be kept for later."""
        return self._wire is not None and self._wire.send(frames)

    def say(self, kind: Kind, body: Message) -> bool:
        """Send a message about the channel itself."""
        card = self._card()
        header = Header(id=new_id(), session=card.incarnation, sender=card.name, seq=self._count())
        return self.send(encode(kind, header, body))

    def greet(self) -> None:
        """Say Hello with what is served now."""
        if self._wire is not None:
            self._greeted_at = asyncio.get_running_loop().time()
            self.say(Kind.HELLO, self._hello())
            if self._leaving:
                self.say(Kind.GOODBYE, Goodbye())

    def announce(self) -> None:
        """Send a heartbeat now, because what the vessel says of itself has changed."""
        self.say(Kind.HEARTBEAT, Heartbeat(card=self._card()))

    def goodbye(self) -> None:
        """Say that nothing new may come, now and after every Hello from here on."""
        self._leaving = True
        self.say(Kind.GOODBYE, Goodbye())

    def _reopen(self) -> None:
        if self._wire is not None:
            self._wire.close(0)
        self.connected.clear()
        self._heard_at = asyncio.get_running_loop().time()
        self._wire = Wire(self._connect(), self._received)
        self.greet()

    async def _beat(self) -> None:
        """Say every beat that this vessel is here; replace the socket when the bus has been silent for too long."""
        loop = asyncio.get_running_loop()
        while True:
            slept_at = loop.time()
            await asyncio.sleep(self._heartbeat_s)
            late = loop.time() - slept_at - self._heartbeat_s
            if late > self._heartbeat_s:
                self._heard_at += late  # this process stood still, not the bus
            silent = loop.time() - self._heard_at
            if silent > self._patience_s():
                _log.warning(
                    "bus silent on %s for %.1f s, connecting anew%s",
                    self.channel,
                    silent,
                    "" if self._bus else ": is it up, and does it know this vessel's public key?",
                )
                self._stats.reconnects += 1
                self._reopen()
                self._on_fresh()
            else:
                self.announce()

    def _patience_s(self) -> float:
        """Seconds of silence that are borne before the socket is replaced."""
        if not self.connected.is_set():
            return max(SILENT_BEATS * self._heartbeat_s, HANDSHAKE_S)
        return (PATIENT_BEATS if self._heard_elsewhere() else SILENT_BEATS) * self._heartbeat_s

    def _received(self, frames: list[bytes]) -> None:
        """Handle what concerns the channel, hand on the rest."""
        try:
            kind, header, body = open_frames(frames)
            if kind is Kind.HEARTBEAT_ACK or kind is Kind.HELLO_WANTED:
                message = decode_body(kind, body)
            else:
                self._hear()
                self._on_message(kind, header, body)
                return
        except Undecodable as error:
            self._stats.undecodable += 1
            _log.warning("undecodable message on %s: %s", self.channel, error)
            return
        if isinstance(message, HeartbeatAck):
            self._bus = message.bus_incarnation
            self._hear()
            self.connected.set()
        elif isinstance(message, HelloWanted):
            self._hear()
            self._wanted(message.bus_incarnation)

    def _wanted(self, bus: str) -> None:
        """Greet a bus that does not know this peer; once, however many of its messages say so."""
        recent = asyncio.get_running_loop().time() - self._greeted_at < self._heartbeat_s
        if bus == self._bus and recent:
            return
        self._bus = bus
        self.greet()
        self._on_fresh()

    def _hear(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()
