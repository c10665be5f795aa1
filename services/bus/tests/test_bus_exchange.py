from __future__ import annotations

import pytest

from batos.bus.exchange import (
    GRACE_S,
    LOST_BEATS,
    PATIENT_BEATS,
    SETTLE_S,
    WAITING_PER_SERVICE,
    Exchange,
)
from batos.bus.instructions import Gone, Instruction, Now, Seen, Send
from batos.protocol import (
    Cancel,
    ErrorReply,
    Goodbye,
    Header,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    Kind,
    Message,
    MissionAccepted,
    MissionSubmit,
    Ping,
    Pong,
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


@pytest.fixture
def scene() -> Scene:
    found = Scene()
    found.hello(card("console"))
    return found


def error_of(said: list[tuple[str, Kind, Message]]) -> tuple[str, ErrorReply]:
    [(to, _, body)] = [message for message in said if message[1] is Kind.ERROR]
    assert isinstance(body, ErrorReply)
    return to, body


def test_a_hello_is_acknowledged_and_seen() -> None:
    """Who says Hello hears which bus it is, and its card goes to the roster."""
    scene = Scene()
    said = scene.hello(card("kernel-1"), "kernel")
    assert said == [("kernel-1!", Kind.HEARTBEAT_ACK, HeartbeatAck(bus_incarnation="bus-1"))]
    assert Seen(card("kernel-1")) in scene.done
    assert scene.exchange.peers == 1


def test_a_request_goes_to_who_serves_it_and_its_reply_comes_back(scene: Scene) -> None:
    """The frames of a request reach a worker as they are, and so do those of its reply."""
    scene.hello(card("kernel-1"), "kernel")
    assert scene.ask("console!", "r") == [("kernel-1!", Kind.REQUEST, SUBMIT)]
    assert scene.exchange.in_flight == 1
    assert scene.reply("kernel-1!", "r") == [("console!", Kind.REPLY, DONE)]
    assert scene.exchange.in_flight == 0
    assert scene.exchange.outcomes == {("kernel", "replied"): 1}


def test_errors_come_back_too(scene: Scene) -> None:
    """An error reply is routed like a reply and counted apart."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    refused = ErrorReply(code="mission_empty", message="no text")
    assert scene.reply("kernel-1!", "r", refused) == [("console!", Kind.ERROR, refused)]
    assert scene.exchange.outcomes == {("kernel", "failed"): 1}


def test_work_goes_to_the_least_loaded(scene: Scene) -> None:
    """Load is what is in flight over capacity; equals take turns."""
    scene.hello(card("kernel-1"), "kernel", capacity=4)
    scene.hello(card("kernel-2"), "kernel", capacity=2)
    given = [scene.ask("console!", f"r{number}")[0][0] for number in range(6)]
    assert given.count("kernel-1!") == 4
    assert given.count("kernel-2!") == 2
    scene.reply("kernel-2!", f"r{given.index('kernel-2!')}")
    scene.reply("kernel-1!", f"r{given.index('kernel-1!')}")
    assert scene.ask("console!", "next")[0][0] == "kernel-2!"


def test_equals_take_turns(scene: Scene) -> None:
    """Of two idle peers the one that was asked longer ago is next."""
    for name in ("kernel-1", "kernel-2"):
        scene.hello(card(name), "kernel")
    given = []
    for number in range(4):
        given.append(scene.ask("console!", f"r{number}")[0][0])
        scene.reply(given[-1], f"r{number}")
    assert given == ["kernel-1!", "kernel-2!", "kernel-1!", "kernel-2!"]


def test_what_nobody_is_free_for_waits_its_turn(scene: Scene) -> None:
    """Requests beyond the capacity wait, first come, first served."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r1")
    assert scene.ask("console!", "r2") == []
    assert scene.ask("console!", "r3") == []
    assert scene.exchange.waiting() == {"kernel": 2}
    said = scene.reply("kernel-1!", "r1")
    assert [message[0] for message in said] == ["console!", "kernel-1!"]
    assert scene.sends()[1].request_id == "r2"
    scene.reply("kernel-1!", "r2")
    assert scene.sends()[1].request_id == "r3"
    assert scene.exchange.waiting() == {}


def test_a_request_waits_for_a_service_that_nobody_serves_yet(scene: Scene) -> None:
    """The first vessel of a service gets what waited for it."""
    assert scene.ask("console!", "r", "curator") == []
    said = scene.hello(card("curator"), "curator")
    assert ("curator!", Kind.REQUEST, SUBMIT) in said


def test_a_waiting_request_is_dropped_at_its_deadline(scene: Scene) -> None:
    """Nobody gets a request that nobody waits for any more."""
    scene.ask("console!", "r", within_s=2.0)
    scene.beat(card("console"))
    scene.tick()
    scene.beat(card("console"))
    scene.tick(1.5)
    said = scene.hello(card("kernel-1"), "kernel")
    assert all(kind is not Kind.REQUEST for _, kind, _ in said)
    assert scene.exchange.outcomes == {("unknown", "expired"): 1}


def test_a_request_past_its_deadline_is_not_routed(scene: Scene) -> None:
    """A dead request is dropped where it arrives."""
    scene.hello(card("kernel-1"), "kernel")
    assert scene.ask("console!", "r", within_s=-1.0) == []
    assert scene.exchange.in_flight == 0


def test_a_full_queue_says_so(scene: Scene) -> None:
    """Beyond the bound a request gets a transient error at once."""
    for number in range(WAITING_PER_SERVICE):
        assert scene.ask("console!", f"r{number}") == []
    to, error = error_of(scene.ask("console!", "one more"))
    assert (to, error.code, error.transient) == ("console!", "queue_full", True)


def test_unready_vessels_take_only_what_is_theirs(scene: Scene) -> None:
    """A vessel that is not ready answers under its own name but gets no shared work until it is."""
    starting = card("kernel-1", ready=False)
    scene.hello(starting, "kernel", "kernel/kernel-1", capacity=2)
    assert scene.ask("console!", "r1", "kernel/kernel-1")[0][0] == "kernel-1!"
    assert scene.ask("console!", "r2", "kernel") == []
    said = scene.say("kernel-1!", Kind.HEARTBEAT, Heartbeat(card=card("kernel-1", ready=True)))
    assert said == [("kernel-1!", Kind.REQUEST, SUBMIT)]
    assert Seen(card("kernel-1", ready=True)) in scene.done


def test_of_two_incarnations_the_newest_ready_one_has_the_name(scene: Scene) -> None:
    """While a successor is not ready the name is its predecessor's; then it is the successor's."""
    old = card("kernel-1", started_at=1.0, incarnation="old")
    new = card("kernel-1", started_at=2.0, incarnation="new", ready=False)
    scene.hello(old, "vessel/kernel-1", "vessel/old", capacity=8)
    scene.hello(new, "vessel/kernel-1", "vessel/new", capacity=8)
    assert scene.ask("console!", "r1", "vessel/kernel-1")[0][0] == "old"
    assert scene.ask("console!", "r2", "vessel/new")[0][0] == "new"
    scene.say("new", Kind.HEARTBEAT, Heartbeat(card=card("kernel-1", started_at=2.0, incarnation="new")))
    assert scene.ask("console!", "r3", "vessel/kernel-1")[0][0] == "new"
    assert scene.ask("console!", "r4", "vessel/old")[0][0] == "old"


def test_who_says_goodbye_gets_nothing_new_and_may_still_answer(scene: Scene) -> None:
    """Requests at work are answered; new ones go elsewhere or wait."""
    scene.hello(card("kernel-1"), "kernel", capacity=2)
    scene.ask("console!", "r1")
    scene.say("kernel-1!", Kind.GOODBYE, Goodbye())
    assert scene.ask("console!", "r2") == []
    assert scene.reply("kernel-1!", "r1") == [("console!", Kind.REPLY, DONE)]
    assert ("kernel-2!", Kind.REQUEST, SUBMIT) in scene.hello(card("kernel-2"), "kernel")


def test_a_lost_worker_is_told_to_who_waits(scene: Scene) -> None:
    """Silence of four beats loses a worker; its requester gets a transient error, and the bus forgets it."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    for _ in range(LOST_BEATS):
        scene.beat(card("console"))
        assert scene.tick() == []
    scene.beat(card("console"))
    to, error = error_of(scene.tick())
    assert (to, error.code, error.transient) == ("console!", "worker_lost", True)
    assert "kernel-1" in error.message
    assert Gone("kernel-1!", lost=True) in scene.done
    assert scene.exchange.peers == 1
    assert scene.exchange.in_flight == 0


def test_silence_on_one_channel_only_is_borne_longer(scene: Scene) -> None:
    """While a peer is heard on the other channel, a large body may be holding up its heartbeats on this one."""
    scene.hello(card("kernel-1"), "kernel")
    for _ in range(PATIENT_BEATS):
        scene.beat(card("console"))
        scene.time += 1.0
        scene.exchange.tick(scene.now, lambda _: scene.time - 1.0)
    assert scene.exchange.peers == 2
    scene.time += 1.0
    scene.exchange.tick(scene.now, lambda _: scene.time - 1.0)
    assert scene.exchange.peers == 1


def test_an_unreachable_worker_is_lost_sooner_and_its_request_goes_to_another(scene: Scene) -> None:
    """What could not be handed over is given to the next; who cannot be reached for a beat is lost."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    [send] = scene.sends()
    scene.hello(card("kernel-2"), "kernel")
    assert scene.fail(send) == [("kernel-2!", Kind.REQUEST, SUBMIT)]
    assert scene.ask("console!", "r2") == []
    scene.tick()
    assert Gone("kernel-1!", lost=True) in scene.done


def test_a_worker_that_cannot_be_reached_for_an_instant_is_not_lost(scene: Scene) -> None:
    """A sign of life ends the doubt."""
    scene.hello(card("kernel-1"), "kernel")
    scene.fail(Send(b"kernel-1!", []))
    scene.beat(card("kernel-1"))
    scene.tick()
    assert scene.exchange.peers == 2
    assert scene.ask("console!", "r")[0][0] == "kernel-1!"


def test_a_vessel_that_left_is_gone_not_lost(scene: Scene) -> None:
    """After a Goodbye the end of a connection is in order."""
    scene.hello(card("kernel-1"), "kernel")
    scene.say("kernel-1!", Kind.GOODBYE, Goodbye())
    scene.fail(Send(b"kernel-1!", []))
    scene.tick()
    assert Gone("kernel-1!", lost=False) in scene.done


def test_a_bus_that_stood_still_blames_nobody(scene: Scene) -> None:
    """Time in which the bus itself did not run does not count as silence."""
    scene.hello(card("kernel-1"), "kernel")
    scene.tick(after_s=60.0)
    assert scene.exchange.peers == 2


def test_an_unknown_peer_is_asked_who_it_is() -> None:
    """Whatever it says first, a peer that the bus does not know is asked for its Hello."""
    scene = Scene()
    wanted = [("stranger", Kind.HELLO_WANTED, HelloWanted(bus_incarnation="bus-1"))]
    assert scene.say("stranger", Kind.HEARTBEAT, Heartbeat(card=card("stranger"))) == wanted
    assert scene.ask("stranger", "r") == wanted


def test_a_repeated_request_goes_to_who_has_it(scene: Scene) -> None:
    """While it is in flight its worker gets the repetition; while it waits there is only one of it."""
    scene.hello(card("kernel-1"), "kernel", capacity=4)
    scene.hello(card("kernel-2"), "kernel", capacity=4)
    first = scene.ask("console!", "r")[0][0]
    assert scene.ask("console!", "r", attempt=1)[0][0] == first
    assert scene.exchange.in_flight == 1
    scene.ask("console!", "w", "curator")
    scene.ask("console!", "w", "curator", attempt=1)
    assert len(scene.exchange.waiting()) == 1
    assert sum(scene.exchange.waiting().values()) == 1


def test_an_answered_request_goes_to_who_remembers_it(scene: Scene) -> None:
    """A request whose reply was lost on the way is repeated to the worker that has the reply, however busy."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    scene.reply("kernel-1!", "r")
    scene.hello(card("kernel-2"), "kernel")
    scene.ask("console!", "other")
    scene.ask("console!", "another")
    assert scene.ask("console!", "r", attempt=1)[0][0] == "kernel-1!"


def test_a_new_bus_learns_who_works_on_what() -> None:
    """Repeated requests wait until the bus has settled, unless who has them says so in its Hello."""
    scene = Scene(settled=False)
    scene.hello(card("console"))
    scene.hello(card("kernel-2"), "kernel", capacity=4)
    assert scene.ask("console!", "r", attempt=1) == []
    assert scene.ask("console!", "s", attempt=1) == []
    assert scene.ask("console!", "fresh")[0][0] == "kernel-2!"
    said = scene.hello(card("kernel-1"), "kernel", capacity=4, running=("r",), answered=("t",))
    assert [to for to, kind, _ in said if kind is Kind.REQUEST] == ["kernel-1!"]
    assert [send.request_id for send in scene.sends() if send.request_id] == ["r"]
    assert scene.ask("console!", "t", attempt=1)[0][0] == "kernel-1!"
    scene.beat(card("console"), card("kernel-1"), card("kernel-2"))
    said = scene.tick(after_s=1.0 + SETTLE_S)
    assert [kind for _, kind, _ in said] == [Kind.REQUEST]
    assert [send.request_id for send in scene.sends() if send.request_id] == ["s"]


def test_a_reply_that_a_new_bus_cannot_place_is_found_again() -> None:
    """A reply before its requester is known is dropped, and the repetition goes to who remembers it."""
    scene = Scene(settled=False)
    scene.hello(card("kernel-1"), "kernel", running=("r",))
    assert scene.reply("kernel-1!", "r") == []
    scene.hello(card("console"))
    assert scene.ask("console!", "r", attempt=1)[0][0] == "kernel-1!"


def test_a_peer_that_comes_back_by_another_route_keeps_what_it_has(scene: Scene) -> None:
    """After a broken connection what the worker does not have is asked for again, the rest goes on."""
    scene.hello(card("kernel-1"), "kernel", capacity=4)
    scene.ask("console!", "has")
    scene.ask("console!", "lost")
    said = scene.hello(card("kernel-1"), "kernel", capacity=4, running=("has",), route="fresh")
    to, error = error_of(said)
    assert (to, error.code, error.transient) == ("console!", "connection_lost", True)
    assert scene.exchange.in_flight == 1
    assert scene.reply("kernel-1!", "has") == [("kernel-1!", Kind.HELLO_WANTED, HelloWanted(bus_incarnation="bus-1"))]
    reply = scene.say("", Kind.REPLY, DONE, header=Header(id="y", parent="has"), route="fresh")
    assert reply == [("console!", Kind.REPLY, DONE)]


def test_a_requester_that_comes_back_gets_its_answer_there(scene: Scene) -> None:
    """Replies go to where the requester is now."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    scene.hello(card("console"), route="fresh")
    assert scene.reply("kernel-1!", "r") == [("fresh", Kind.REPLY, DONE)]


def test_an_answer_for_who_is_gone_frees_its_worker(scene: Scene) -> None:
    """Nobody hears the reply, and the worker takes the next request."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    for _ in range(LOST_BEATS + 1):
        scene.beat(card("kernel-1"))
        scene.tick()
    assert scene.reply("kernel-1!", "r") == []
    assert scene.exchange.outcomes == {("kernel", "unclaimed"): 1}


def test_a_request_that_is_never_answered_frees_its_worker_in_the_end(scene: Scene) -> None:
    """Some time after its deadline a request no longer counts against its worker."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r", within_s=1.0)
    for _ in range(int(GRACE_S) + 2):
        scene.beat(card("kernel-1"), card("console"))
        scene.tick()
    assert scene.exchange.in_flight == 0
    assert scene.ask("console!", "r2")[0][0] == "kernel-1!"


def test_a_cancelled_request_leaves_the_queue_or_reaches_its_worker(scene: Scene) -> None:
    """CANCEL takes out what waits and follows what is in flight; others' requests are not touched."""
    scene.hello(card("kernel-1"), "kernel")
    scene.hello(card("other"))
    scene.ask("console!", "r1")
    scene.ask("console!", "r2")
    assert scene.say("other!", Kind.CANCEL, Cancel(request_id="r1")) == []
    assert scene.say("other!", Kind.CANCEL, Cancel(request_id="r2")) == []
    assert scene.exchange.waiting() == {"kernel": 1}
    assert scene.say("console!", Kind.CANCEL, Cancel(request_id="r2")) == []
    assert scene.exchange.waiting() == {}
    forwarded = scene.say("console!", Kind.CANCEL, Cancel(request_id="r1"))
    assert forwarded == [("kernel-1!", Kind.CANCEL, Cancel(request_id="r1"))]


def test_everybody_who_asks_under_one_id_gets_its_answer(scene: Scene) -> None:
    """Two requesters of one id share its execution, whether it waits or is in flight; one may leave it."""
    scene.hello(card("other"))
    scene.ask("console!", "r")
    scene.ask("other!", "r")
    scene.hello(card("kernel-1"), "kernel")
    assert scene.exchange.in_flight == 1
    assert {to for to, _, _ in scene.reply("kernel-1!", "r")} == {"console!", "other!"}
    scene.ask("console!", "s")
    assert scene.ask("other!", "s") == [("kernel-1!", Kind.REQUEST, SUBMIT)]
    assert scene.say("console!", Kind.CANCEL, Cancel(request_id="s")) == []
    assert scene.reply("kernel-1!", "s") == [("other!", Kind.REPLY, DONE)]


def test_the_bus_answers_for_itself(scene: Scene) -> None:
    """Its own services are answered without a worker; what it does not handle is refused."""
    header = Header(id="r", service="bus", deadline=scene.now.wall + 5)
    assert scene.say("console!", Kind.REQUEST, RosterGet(), header=header) == [("console!", Kind.REPLY, ROSTER)]
    _, error = error_of(scene.say("console!", Kind.REQUEST, Ping(), header=header))
    assert error.code == "not_served"


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x01\x10", b"garbage", b""],
        [b"\x01\xff", b"\x91\xa1x", b""],
        [b"\x01\x01", b"\x91\xa1x", b"\xc1"],
        [b"\x01\x02", b"\x91\xa1x", b"\xc1"],
        [b"\x01\x13", b"\x91\xa1x", b"\xc1"],
        [b"\x01\x20", b"\x91\xa1x", b"\xc1"],
        [b"\x01"],
        [],
    ],
)
def test_what_is_no_message_gets_an_error_and_is_counted(scene: Scene, frames: list[bytes]) -> None:
    """Garbage is answered and counted, and the exchange goes on."""
    [answer] = scene.exchange.receive(b"console!", frames, scene.now)
    assert isinstance(answer, Send)
    assert open_frames(answer.frames)[0] is Kind.ERROR
    assert scene.exchange.undecodable == 1
    scene.hello(card("kernel-1"), "kernel")
    assert scene.ask("console!", "r")[0][0] == "kernel-1!"


def test_a_body_that_is_no_message_is_the_workers_affair_unless_it_is_for_the_bus(scene: Scene) -> None:
    """The bus looks into no body but its own."""
    scene.hello(card("kernel-1"), "kernel")
    for service, expected in (("kernel", Kind.REQUEST), ("bus", Kind.ERROR)):
        frames = encode(Kind.REQUEST, Header(id=service, service=service, deadline=scene.now.wall + 5), Ping())
        frames[2] = b"\xc1"
        [send] = scene.exchange.receive(b"console!", frames, scene.now)
        assert isinstance(send, Send)
        assert open_frames(send.frames)[0] is expected


def test_a_heartbeat_in_anothers_name_is_refused(scene: Scene) -> None:
    """A route belongs to one incarnation."""
    _, error = error_of(scene.say("console!", Kind.HEARTBEAT, Heartbeat(card=card("kernel-1"))))
    assert "another incarnation" in error.message


def test_names_that_nobody_ever_served_share_one_label(scene: Scene) -> None:
    """Requests to invented services cannot fill the metrics."""
    for number in range(50):
        scene.ask("console!", f"r{number}", f"invented-{number}", within_s=-1.0)
    assert scene.exchange.outcomes == {("unknown", "expired"): 50}


def test_undeliverable_frames_of_unknown_routes_are_dropped(scene: Scene) -> None:
    """Nothing follows from frames that nobody can be told of."""
    assert scene.fail(Send(b"nobody", [])) == []


def test_a_request_undeliverable_to_the_only_worker_waits(scene: Scene) -> None:
    """It is given to the next vessel that comes."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    [send] = scene.sends()
    assert scene.fail(send) == []
    assert scene.exchange.waiting() == {"kernel": 1}
    assert ("kernel-2!", Kind.REQUEST, SUBMIT) in scene.hello(card("kernel-2"), "kernel")


def test_pong_is_no_request(scene: Scene) -> None:
    """A reply in the frame of a request is refused by who it is for."""
    header = Header(id="r", service="bus", deadline=scene.now.wall + 5)
    _, error = error_of(scene.say("console!", Kind.REQUEST, Pong(card=BUS), header=header))
    assert error.code == "body_invalid"
