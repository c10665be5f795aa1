"""One request channel of the bus as a state machine: what arrives goes in, what is to be sent comes out. No sockets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batos.bus.directory import Directory
from batos.bus.instructions import Gone, Instruction, Now, Seen, Send
from batos.bus.peers import PeerState, choose
from batos.bus.voice import Voice
from batos.bus.waiting import Waiting, WaitingRoom
from batos.protocol import (
    TYPE_FRAMES,
    Cancel,
    ErrorReply,
    Header,
    Heartbeat,
    Hello,
    Kind,
    Message,
    Undecodable,
    VesselCard,
    decode_body,
    open_frames,
)

LOST_BEATS = 4
"""Heartbeats that may fail to come before a peer counts as lost."""

PATIENT_BEATS = 30
"""The same while the peer is heard on the other channel: a large body on its way holds up the heartbeats behind it."""

UNREACHABLE_BEATS = 1
"""Heartbeats for which nothing could be handed to a peer before it counts as lost: its connection is gone."""

SETTLE_S = 1.0
"""Seconds, after its first heartbeat, during which a new bus gives repeated requests to nobody: peers of a former bus
connect again within that time, and whoever is at work on a request says so in its Hello, and gets it."""

GRACE_S = 30.0
"""Seconds past its deadline after which a request that was never answered no longer occupies its worker."""

CLAIM_S = 3_600.0
"""The same for a request that a worker said it is at, whose deadline the bus does not know."""

REMEMBERED_ANSWERS = 10_000
"""Answered requests of which the bus knows who answered, so that a repetition goes where the reply is remembered."""

WAITING_PER_SERVICE = 1_000
WAITING_BYTES = 256 * 1024 * 1024
WAITING_SERVICES = 1_000


Local = Callable[[Message], Message]
_Taker = Callable[[PeerState, Header, list[bytes], Now], list[Instruction]]


@dataclass(slots=True, eq=False)
class _Flight:
    """A request that somebody works on. It has no requesters while only the worker has told of it."""

    requesters: tuple[str, ...]
    worker: str
    service: str


class Exchange:
    """Requests in, replies out, by service name."""

    def __init__(
        self,
        card: VesselCard,
        *,
        own_services: frozenset[str],
        local: Mapping[type[Message], Local],
        heartbeat_s: float,
        now: Now,
    ) -> None:
        """Begin without peers.

        Args:
            card: the bus's own name and incarnation.
            own_services: services that the bus answers itself.
            local: how it answers them, by type of message.
            heartbeat_s: seconds between two ticks and between two heartbeats of a peer.
            now: the time.
        """
        self._voice = Voice(card)
        self._own_services = own_services
        self._local = local
        self._heartbeat_s = heartbeat_s
        self._settled_at = now.mono + heartbeat_s + SETTLE_S
        self._ticked_at = now.mono
        self._directory = Directory()
        self._waiting = WaitingRoom(per_service=WAITING_PER_SERVICE, size=WAITING_BYTES, services=WAITING_SERVICES)
        self._flights: dict[str, _Flight] = {}
        self._answered: OrderedDict[str, str] = OrderedDict()
        self._arrivals = 0
        self._turns = 0
        self._takers: dict[Kind, _Taker] = {
            Kind.REQUEST: self._request,
            Kind.REPLY: self._reply,
            Kind.ERROR: self._reply,
            Kind.HEARTBEAT: self._heartbeat,
            Kind.CANCEL: self._cancel,
            Kind.GOODBYE: self._goodbye,
        }
        self.outcomes: dict[tuple[str, str], int] = {}
        self.undecodable = 0

    # ------------------------------------------------------------------------------------------ what may be asked

    @property
    def peers(self) -> int:
        """Peers that are there."""
        return len(self._directory)

    @property
    def in_flight(self) -> int:
        """Requests that somebody works on."""
        return len(self._flights)

    def waiting(self) -> dict[str, int]:
        """How many requests wait, by family of services (`kernel` for `kernel/kernel-1`)."""
        lengths: dict[str, int] = {}
        for service, length in self._waiting.lengths().items():
            family = self._directory.family(service)
            lengths[family] = lengths.get(family, 0) + length
        return lengths

    def heard_at(self, session: str) -> float | None:
        """Monotonic seconds when a peer was last heard of on this channel."""
        peer = self._directory.get(session)
        return None if peer is None else peer.seen_at

    # ------------------------------------------------------------------------------------------ events

    def receive(self, route: bytes, frames: list[bytes], now: Now) -> list[Instruction]:
        """Take a message that arrived from a route."""
        try:
            kind, header, body = open_frames(frames)
            if kind is Kind.HELLO:
                return self._hello(route, header, body, now)
            peer = self._directory.at(route)
            if peer is None:
                return [self._voice.wanted(route)]
            peer.seen_at = now.mono
            peer.unreachable_since = None
            return self._takers.get(kind, _misplaced)(peer, header, frames, now)
        except Undecodable as error:
            self.undecodable += 1
            return [self._voice.undecodable(route, error)]

    def undelivered(self, send: Send, now: Now) -> list[Instruction]:
        """Take note that frames could not be handed to a peer: a request among them goes to another."""
        peer = self._directory.at(send.route)
        if peer is None:
            return []
        if peer.unreachable_since is None:
            peer.unreachable_since = now.mono
        flight = self._flights.get(send.request_id)
        if flight is None or flight.worker != peer.session:
            return []
        del self._flights[send.request_id]
        peer.in_flight.pop(send.request_id, None)
        _, header, _ = open_frames(send.frames)
        return self._dispatch_or_wait(flight.requesters, header, send.frames, now)

    def tick(self, now: Now, elsewhere: Callable[[str], float | None] = lambda _: None) -> list[Instruction]:
        """Once a heartbeat: say that the bus is here, find the lost, drop what nobody waits for, give out the rest.

        Args:
            now: the time.
            elsewhere: when a session was heard of on the other channel.
        """
        late = now.mono - self._ticked_at - self._heartbeat_s
        self._ticked_at = now.mono
        done: list[Instruction] = []
        ack = self._voice.ack()
        for peer in self._directory:
            if late > self._heartbeat_s:
                peer.seen_at += late  # the bus stood still, not the peers
            if self._is_gone(peer, now, elsewhere(peer.session)):
                done += self._remove(peer)
            else:
                done.append(Send(peer.route, ack))
                self._release(peer, now)
        for request in self._waiting:
            if request.expires <= now.mono:
                self._waiting.remove(request.id)
                self._count(request.service, "expired")
            elif not any(requester in self._directory for requester in request.requesters):
                self._waiting.remove(request.id)
                self._count(request.service, "unclaimed")
        for service in self._waiting.services():
            for peer in list(self._directory.providers(service)):
                done += self._pump(peer, now)
        return done

    # ------------------------------------------------------------------------------------------ messages

    def _hello(self, route: bytes, header: Header, body: bytes, now: Now) -> list[Instruction]:
        hello = decode_body(Kind.HELLO, body)
        if not isinstance(hello, Hello):
            raise Undecodable("body_invalid", "a HELLO carries a Hello")
        done: list[Instruction] = []
        known = self._directory.get(hello.card.incarnation)
        if known is not None and known.route != route:
            done += self._lost_on_the_way(known, hello)
        peer = self._directory.welcome(route, hello, now.mono)
        for request_id in hello.running:
            peer.in_flight.setdefault(request_id, now.mono + CLAIM_S)
            if request_id not in self._flights:
                self._flights[request_id] = _Flight((), peer.session, "")
        for request_id in hello.answered:
            self._remember(request_id, peer.session)
        done += [Send(route, self._voice.ack()), Seen(peer.card, header.seq)]
        for request_id in (*hello.running, *hello.answered):
            request = self._waiting.remove(request_id)
            if request is not None:
                done.append(self._give(peer, request))
        return done + self._pump(peer, now)

    def _lost_on_the_way(self, peer: PeerState, hello: Hello) -> list[Instruction]:
        """A peer came back by another route: what it does not have was lost on the old one."""
        done: list[Instruction] = []
        for request_id in [key for key in peer.in_flight if key not in hello.running]:
            del peer.in_flight[request_id]
            done += self._fail_flight(request_id, peer, "connection_lost", "its connection was lost on the way")
        return done

    def _goodbye(self, peer: PeerState, header: Header, frames: list[bytes], now: Now) -> list[Instruction]:
        del header, frames, now
        peer.leaving = True
        return []

    def _heartbeat(self, peer: PeerState, header: Header, frames: list[bytes], now: Now) -> list[Instruction]:
        heartbeat = decode_body(Kind.HEARTBEAT, frames[2])
        if not isinstance(heartbeat, Heartbeat) or heartbeat.card == peer.card:
            return []
        if heartbeat.card.incarnation != peer.session:
            raise Undecodable("body_invalid", "a heartbeat in the name of another incarnation")
        peer.card = heartbeat.card
        return [Seen(peer.card, header.seq), *self._pump(peer, now)]

    def _request(self, peer: PeerState, header: Header, frames: list[bytes], now: Now) -> list[Instruction]:
        if header.deadline <= now.wall:
            self._count(header.service, "expired")
            return []
        if header.service in self._own_services:
            return [self._answer(peer, header, frames[2])]
        flight = self._flights.get(header.id)
        if flight is not None:
            worker = self._directory.get(flight.worker)
            if worker is not None:
                if peer.session not in flight.requesters:
                    flight.requesters = (*flight.requesters, peer.session)
                flight.service = header.service
                return [Send(worker.route, frames, header.id)]
            del self._flights[header.id]
        waiting = self._waiting.get(header.id)
        if waiting is not None:
            if peer.session not in waiting.requesters:
                waiting.requesters = (*waiting.requesters, peer.session)
            return []
        return self._dispatch_or_wait((peer.session,), header, frames, now)

    def _reply(self, peer: PeerState, header: Header, frames: list[bytes], now: Now) -> list[Instruction]:
        done: list[Instruction] = []
        replied = frames[0] == TYPE_FRAMES[Kind.REPLY]
        request_id = header.parent
        peer.in_flight.pop(request_id, None)
        if replied:
            self._remember(request_id, peer.session)
        flight = self._flights.get(request_id)
        if flight is not None and (replied or flight.worker == peer.session):
            del self._flights[request_id]
            done += [Send(requester.route, frames) for requester in self._present(flight.requesters)]
            outcome = "replied" if replied else "failed"
            self._count(flight.service, outcome if done else "unclaimed")
        return done + self._pump(peer, now)

    def _cancel(self, peer: PeerState, header: Header, frames: list[bytes], now: Now) -> list[Instruction]:
        del header, now
        message = decode_body(Kind.CANCEL, frames[2])
        if not isinstance(message, Cancel):
            raise Undecodable("body_invalid", "a CANCEL carries a Cancel")
        waiting = self._waiting.get(message.request_id)
        if waiting is not None and waiting.requesters == (peer.session,):
            self._waiting.remove(waiting.id)
            self._count(waiting.service, "cancelled")
            return []
        request = waiting or self._flights.get(message.request_id)
        if request is None or peer.session not in request.requesters:
            return []
        request.requesters = tuple(other for other in request.requesters if other != peer.session)
        worker = self._directory.get(request.worker) if isinstance(request, _Flight) else None
        if request.requesters or worker is None:
            return []
        return [Send(worker.route, frames)]

    def _answer(self, peer: PeerState, header: Header, body: bytes) -> Send:
        """Answer a request to the bus itself."""
        try:
            message = decode_body(Kind.REQUEST, body)
        except Undecodable as error:
            self.undecodable += 1
            return self._voice.undecodable(peer.route, error, header)
        local = self._local.get(type(message))
        if local is None:
            self._count(header.service, "failed")
            refusal = ErrorReply(code="not_served", message=f"the bus does not handle {type(message).__name__}")
            return self._voice.error(peer.route, header.id, header.service, refusal)
        self._count(header.service, "replied")
        return self._voice.reply(peer.route, header, local(message))

    # ------------------------------------------------------------------------------------------ steps

    def _dispatch_or_wait(
        self, requesters: tuple[str, ...], header: Header, frames: list[bytes], now: Now
    ) -> list[Instruction]:
        """Give a request to somebody, or let it wait."""
        worker = self._directory.get(self._answered.get(header.id))
        if worker is not None and worker.unreachable_since is not None:
            worker = None
        not_before = self._settled_at if header.attempt and worker is None else 0.0
        if worker is None and not_before <= now.mono:
            worker = choose(header.service, self._directory.providers(header.service))
        self._arrivals += 1
        expires = now.mono + header.deadline - now.wall
        request = Waiting(header.id, header.service, requesters, frames, expires, not_before, self._arrivals)
        if worker is not None:
            return [self._give(worker, request)]
        if self._waiting.add(request):
            return []
        self._count(header.service, "refused")
        error = ErrorReply(
            code="queue_full",
            message=f"too many requests wait for {header.service!r} already",
            hint="ask less at a time, or start more vessels of that service",
            transient=True,
        )
        return [
            self._voice.error(requester.route, header.id, header.service, error)
            for requester in self._present(requesters)
        ]

    def _give(self, worker: PeerState, request: Waiting) -> Send:
        self._turns += 1
        worker.turn = self._turns
        worker.in_flight[request.id] = request.expires
        self._flights[request.id] = _Flight(request.requesters, worker.session, request.service)
        return Send(worker.route, request.frames, request.id)

    def _pump(self, worker: PeerState, now: Now) -> list[Instruction]:
        """Give out what waits for a peer's services, oldest first, while it is free."""
        done: list[Instruction] = []
        while len(self._waiting) and worker.free:
            ready = [
                (first.order, first, taker)
                for service in worker.services
                if (first := self._waiting.first(service)) is not None
                and first.not_before <= now.mono
                and (taker := choose(service, self._directory.providers(service))) is not None
            ]
            if not ready:
                break
            _, request, taker = min(ready, key=lambda candidate: candidate[0])
            self._waiting.remove(request.id)
            if request.expires <= now.mono:
                self._count(request.service, "expired")
                continue
            done.append(self._give(taker, request))
        return done

    def _release(self, peer: PeerState, now: Now) -> None:
        """Free a peer of requests that were never answered."""
        for request_id in [key for key, until in peer.in_flight.items() if until + GRACE_S < now.mono]:
            del peer.in_flight[request_id]
            flight = self._flights.get(request_id)
            if flight is not None and flight.worker == peer.session:
                del self._flights[request_id]
                self._count(flight.service, "unanswered")

    def _is_gone(self, peer: PeerState, now: Now, elsewhere: float | None) -> bool:
        unreachable = peer.unreachable_since
        if unreachable is not None and now.mono - unreachable >= UNREACHABLE_BEATS * self._heartbeat_s:
            return True
        limit = LOST_BEATS * self._heartbeat_s
        if elsewhere is not None and now.mono - elsewhere <= limit:
            limit = PATIENT_BEATS * self._heartbeat_s
        return now.mono - peer.seen_at > limit

    def _remove(self, peer: PeerState) -> list[Instruction]:
        """Forget a peer; who waits for its answers is told to ask again."""
        self._directory.remove(peer)
        done: list[Instruction] = []
        message = f"{peer.card.name} was lost while it worked on it"
        for request_id in peer.in_flight:
            done += self._fail_flight(request_id, peer, "worker_lost", message)
        return [*done, Gone(peer.session, lost=not peer.leaving)]

    def _fail_flight(self, request_id: str, worker: PeerState, code: str, message: str) -> list[Instruction]:
        flight = self._flights.get(request_id)
        if flight is None or flight.worker != worker.session:
            return []
        del self._flights[request_id]
        self._count(flight.service, code)
        error = ErrorReply(code=code, message=message, transient=True)
        return [
            self._voice.error(requester.route, request_id, flight.service, error)
            for requester in self._present(flight.requesters)
        ]

    def _present(self, sessions: tuple[str, ...]) -> list[PeerState]:
        return [peer for session in sessions if (peer := self._directory.get(session)) is not None]

    def _remember(self, request_id: str, session: str) -> None:
        self._answered[request_id] = session
        self._answered.move_to_end(request_id)
        if len(self._answered) > REMEMBERED_ANSWERS:
            self._answered.popitem(last=False)

    def _count(self, service: str, outcome: str) -> None:
        key = (self._directory.family(service), outcome)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1


def _misplaced(peer: PeerState, header: Header, frames: list[bytes], now: Now) -> list[Instruction]:
    """Refuse a kind of message that is never sent to the bus."""
    del header, now
    raise Undecodable("kind", f"{Kind(frames[0][1]).name} from {peer.card.name} is not for the bus")
