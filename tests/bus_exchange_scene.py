"""An exchange with a clock and with peers that say what a test lets them say, for unit tests of the bus."""

from __future__ import annotations

from batos.bus.exchange import Exchange
from batos.bus.instructions import Instruction, Now, Send
from batos.protocol import (
    ErrorReply,
    Header,
    Heartbeat,
    Hello,
    Kind,
    Message,
    MissionAccepted,
    MissionSubmit,
    Roster,
    RosterGet,
    VesselCard,
    decode_body,
    encode,
    open_frames,
)

BUS = VesselCard(name="bus", kind="bus", incarnation="bus-1", pid=1, version="0", started_at=0.0, ready=True)
ROSTER = Roster(bus_incarnation="bus-1", bus_started_at=0.0, vessels=(BUS,))
SUBMIT = MissionSubmit(mission_id="m", text="t")
DONE = MissionAccepted(mission_id="m")


def card(name: str, *, ready: bool = True, started_at: float = 0.0, incarnation: str = "") -> VesselCard:
    return VesselCard(
        name=name,
        kind=name.partition("-")[0],
        incarnation=incarnation or f"{name}!",
        pid=1,
        version="0",
        started_at=started_at,
        ready=ready,
    )


class Scene:
    """An exchange, a clock, and who said what. A peer's route is its incarnation unless said otherwise."""

    def __init__(self, *, settled: bool = True, own_services: frozenset[str] = frozenset({"bus"})) -> None:
        self.time = 1_000.0
        self.exchange = Exchange(
            BUS, own_services=own_services, local={RosterGet: lambda _: ROSTER}, heartbeat_s=1.0, now=self.now
        )
        self.done: list[Instruction] = []
        if settled:
            for _ in range(3):
                self.tick()

    @property
    def now(self) -> Now:
        return Now(self.time, self.time + 1_700_000_000)

    def say(
        self, who: str, kind: Kind, body: Message, *, header: Header | None = None, route: str = ""
    ) -> list[tuple[str, Kind, Message]]:
        frames = encode(kind, header or Header(id="x", session=who, sender=who), body)
        return self._read(self.exchange.receive((route or who).encode(), frames, self.now))

    def hello(
        self,
        peer: VesselCard,
        *services: str,
        capacity: int = 1,
        running: tuple[str, ...] = (),
        answered: tuple[str, ...] = (),
        route: str = "",
    ) -> list[tuple[str, Kind, Message]]:
        body = Hello(card=peer, services=services, capacity=capacity, running=running, answered=answered)
        return self.say(peer.incarnation, Kind.HELLO, body, route=route)

    def ask(
        self, who: str, request_id: str, service: str = "kernel", *, within_s: float = 60.0, attempt: int = 0
    ) -> list[tuple[str, Kind, Message]]:
        header = Header(id=request_id, session=who, service=service, deadline=self.now.wall + within_s, attempt=attempt)
        return self.say(who, Kind.REQUEST, SUBMIT, header=header)

    def reply(self, who: str, request_id: str, body: Message = DONE) -> list[tuple[str, Kind, Message]]:
        kind = Kind.ERROR if isinstance(body, ErrorReply) else Kind.REPLY
        return self.say(who, kind, body, header=Header(id="y", parent=request_id, session=who))

    def tick(self, after_s: float = 1.0) -> list[tuple[str, Kind, Message]]:
        """Let a beat pass; heartbeat acks are left out."""
        self.time += after_s
        return [said for said in self._read(self.exchange.tick(self.now)) if said[1] is not Kind.HEARTBEAT_ACK]

    def beat(self, *cards: VesselCard) -> None:
        for peer in cards:
            self.say(peer.incarnation, Kind.HEARTBEAT, Heartbeat(card=peer))

    def fail(self, send: Send) -> list[tuple[str, Kind, Message]]:
        return self._read(self.exchange.undelivered(send, self.now))

    def sends(self) -> list[Send]:
        return [instruction for instruction in self.done if isinstance(instruction, Send)]

    def _read(self, instructions: list[Instruction]) -> list[tuple[str, Kind, Message]]:
        self.done = instructions
        said = []
        for instruction in instructions:
            if isinstance(instruction, Send):
                kind, _, body = open_frames(instruction.frames)
                said.append((instruction.route.decode(), kind, decode_body(kind, body)))
        return said


def error_of(said: list[tuple[str, Kind, Message]]) -> tuple[str, ErrorReply]:
    [(to, _, body)] = [message for message in said if message[1] is Kind.ERROR]
    assert isinstance(body, ErrorReply)
    return to, body
