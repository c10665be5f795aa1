"""The bus's sockets: two exchanges behind ROUTERs, and the relay of events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import zmq

from batos.bus.admission import Admission, Gatekeeper
from batos.bus.errors import AddressUnusable
from batos.bus.exchange import Exchange
from batos.bus.fleet import Fleet
from batos.bus.instructions import Gone, Instruction, Now, Seen, Send
from batos.protocol import (
    ACK_PREFIX,
    BusAddresses,
    Drain,
    Draining,
    Header,
    KeyPair,
    KeyRing,
    Kind,
    Message,
    Ping,
    Pong,
    RosterGet,
    SocketMaker,
    Subscribed,
    VesselCard,
    VesselChanged,
    Wire,
    encode,
    new_id,
)

_SUBSCRIBED = b"\x01"
_FLEET_TOPIC = b"fleet"
_RELAY_LINGER_MS = 200

SUBSCRIBERS_BACK_S = 3.0
"""Seconds after its start in which the bus does not listen to publishers, who keep what they have to say: the
subscribers of a former bus need some time to connect again, and would miss it."""

PASSER_BY = "console"
"""Kind of who comes for a question and goes: commands, checks. Their coming and going is no news of the fleet."""

_log = logging.getLogger(__name__)


def now() -> Now:
    """Return the time by both clocks."""
    return Now(time.monotonic(), time.time())


class Broker:
    """Binds, routes, relays. One per process; everything happens on one event loop."""

    def __init__(
        self,
        addresses: BusAddresses,
        keys: KeyPair,
        keys_folder: Path,
        card: Callable[[], VesselCard],
        *,
        heartbeat_s: float = 1.0,
        on_drain: Callable[[Drain], None],
    ) -> None:
        """Begin without sockets.

        Args:
            addresses: what to bind; an empty `server_key` switches CURVE off.
            keys: the bus's own pair.
            keys_folder: where the public keys lie that are admitted.
            card: what the bus says about itself.
            heartbeat_s: seconds between two heartbeats, as all peers have it.
            on_drain: called when somebody asks the bus to drain.
        """
        self._addresses = addresses
        self._card = card
        self._heartbeat_s = heartbeat_s
        self._on_drain = on_drain
        curve = bool(addresses.server_key)
        self._sockets = SocketMaker(keys, serve=curve)
        self.admission = Admission(KeyRing(keys_folder), keys.public)
        self._gatekeeper = Gatekeeper(self._sockets.context, self.admission) if curve else None
        self.fleet = Fleet(card)
        own = card()
        self.exchanges = {
            "work": Exchange(
                own,
                own_services=frozenset({"bus"}),
                local={RosterGet: lambda _: self.fleet.roster()},
                heartbeat_s=heartbeat_s,
                now=now(),
            ),
            "control": Exchange(
                own,
                own_services=frozenset({f"vessel/{own.name}", f"vessel/{own.incarnation}"}),
                local={Ping: lambda _: Pong(card=self._card()), Drain: self._drain},
                heartbeat_s=heartbeat_s,
                now=now(),
            ),
        }
        self._routers: dict[str, Wire] = {}
        self._relay_in: Wire | None = None
        self._relay_out: Wire | None = None
        self._ticks: asyncio.Task[None] | None = None
        self._seq = 0
        self.relayed = 0

    @property
    def addresses(self) -> BusAddresses:
        """What is bound."""
        return self._addresses

    async def start(self) -> None:
        """Bind and begin.

        Raises:
            AddressUnusable: one of the addresses cannot be bound.
        """
        at = self._addresses
        if self._gatekeeper is not None:
            self._gatekeeper.start()
        try:
            for channel, address in (("work", at.work), ("control", at.control)):
                router = self._bound(channel, address, partial(self._sockets.router, work=channel == "work"))
                self._routers[channel] = Wire(router, partial(self._received, channel))
            self._relay_out = Wire(self._bound("subscribe", at.subscribe, self._sockets.relay_out), self._subscription)
            self._relay_in = Wire(self._bound("publish", at.publish, self._sockets.relay_in), self._event)
        except AddressUnusable:
            await self.close()
            raise
        self._ticks = asyncio.get_running_loop().create_task(self._tick(), name="bus-ticks")
        _log.info("bus bound: work %s, control %s", self._addresses.work, self._addresses.control)

    async def close(self) -> None:
        """Let go of everything."""
        if self._ticks is not None:
            self._ticks.cancel()
            await asyncio.gather(self._ticks, return_exceptions=True)
            self._ticks = None
        for wire in (*self._routers.values(), self._relay_in, self._relay_out):
            if wire is not None:
                wire.close(_RELAY_LINGER_MS)
        if self._gatekeeper is not None:
            self._gatekeeper.stop()
        await asyncio.to_thread(self._sockets.context.term)

    @staticmethod
    def _bound(which: str, address: str, bind: Callable[[str], zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        try:
            return bind(address)
        except zmq.ZMQError as error:
            raise AddressUnusable(which, address, error) from error

    def _received(self, channel: str, frames: list[bytes]) -> None:
        self._carry_out(channel, self.exchanges[channel].receive(frames[0], frames[1:], now()))

    def _carry_out(self, channel: str, instructions: Sequence[Instruction]) -> None:
        """Do what an exchange says; tell it what could not be handed over, and do what it says then."""
        exchange = self.exchanges[channel]
        router = self._routers[channel]
        for instruction in instructions:
            if isinstance(instruction, Send):
                if not router.send_now([instruction.route, *instruction.frames]):
                    self._carry_out(channel, exchange.undelivered(instruction, now()))
            elif isinstance(instruction, Seen):
                self._announce(self.fleet.seen(channel, instruction.card, instruction.seq))
            elif isinstance(instruction, Gone):
                self._announce(self.fleet.gone(channel, instruction.session, lost=instruction.lost))

    def _announce(self, changes: Sequence[VesselChanged]) -> None:
        for change in changes:
            level = logging.DEBUG if change.card.kind == PASSER_BY else logging.INFO
            _log.log(level, "%s %s (%s)", change.card.name, change.change, change.card.incarnation)
            self._seq += 1
            self._publish(_FLEET_TOPIC, Kind.EVENT, change, self._seq)

    def _publish(self, topic: bytes, kind: Kind, message: Message, seq: int = 0) -> None:
        if self._relay_out is not None:
            card = self._card()
            header = Header(id=new_id(), session=card.incarnation, sender=card.name, seq=seq, topic_seq=seq)
            self._relay_out.send([topic, *encode(kind, header, message)])

    def _event(self, frames: list[bytes]) -> None:
        """Relay an event unread."""
        if self._relay_out is not None and not frames[0].startswith(ACK_PREFIX.encode()):
            self.relayed += 1
            self._relay_out.send(frames)

    def _subscription(self, frames: list[bytes]) -> None:
        """Say so on the topic itself when somebody subscribed to an `ack/…` topic."""
        topic = frames[0][1:]
        if frames[0][:1] == _SUBSCRIBED and topic.startswith(ACK_PREFIX.encode()):
            self._publish(topic, Kind.SUBSCRIBED, Subscribed(topic=topic.decode(errors="replace")))

    def _drain(self, message: Message) -> Message:
        if isinstance(message, Drain):
            self._on_drain(message)
        return Draining(running=sum(exchange.in_flight for exchange in self.exchanges.values()))

    async def _tick(self) -> None:
        """Beat. Publishers are listened to once the subscribers of a former bus have had the time to come back."""
        listening = False
        began = time.monotonic()
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if not listening and self._relay_in is not None and time.monotonic() - began > SUBSCRIBERS_BACK_S:
                listening = self._relay_in.send([_SUBSCRIBED])
            for channel, other in (("work", "control"), ("control", "work")):
                heard_at = self.exchanges[other].heard_at
                self._carry_out(channel, self.exchanges[channel].tick(now(), heard_at))
