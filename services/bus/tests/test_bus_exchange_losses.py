"""Who leaves, falls silent or comes back, the bus itself included, and what becomes of their requests."""

from __future__ import annotations

from bus_exchange_scene import DONE, SUBMIT, Scene, card, error_of

from batos.bus.exchange import LOST_BEATS, PATIENT_BEATS, SETTLE_S
from batos.bus.instructions import Gone, Send
from batos.protocol import Goodbye, Header, HelloWanted, Kind


def test_who_says_goodbye_gets_nothing_new_and_may_still_answer(scene: Scene) -> None:
    """Requests at work are answered; new ones go elsewhere or wait."""
    scene.hello(card("kernel-1"), "kernel", capacity=2)
    scene.ask("console!", "r1")
    scene.say("kernel-1!", Kind.GOODBYE, Goodbye())
    assert scene.ask("console!", "r2") == []
    assert scene.reply("kernel-1!", "r1") == [("console!", Kind.REPLY, DONE)]
    assert ("kernel-2!", Kind.REQUEST, SUBMIT) in scene.hello(card("kernel-2"), "kernel")


def test_a_vessel_that_left_is_gone_not_lost(scene: Scene) -> None:
    """After a Goodbye the end of a connection is in order."""
    scene.hello(card("kernel-1"), "kernel")
    scene.say("kernel-1!", Kind.GOODBYE, Goodbye())
    scene.fail(Send(b"kernel-1!", []))
    scene.tick()
    assert Gone("kernel-1!", lost=False) in scene.done


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


def test_a_bus_that_stood_still_blames_nobody(scene: Scene) -> None:
    """Time in which the bus itself did not run does not count as silence."""
    scene.hello(card("kernel-1"), "kernel")
    scene.tick(after_s=60.0)
    assert scene.exchange.peers == 2


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


def test_an_answer_for_who_is_gone_frees_its_worker(scene: Scene) -> None:
    """Nobody hears the reply, and the worker takes the next request."""
    scene.hello(card("kernel-1"), "kernel")
    scene.ask("console!", "r")
    for _ in range(LOST_BEATS + 1):
        scene.beat(card("kernel-1"))
        scene.tick()
    assert scene.reply("kernel-1!", "r") == []
    assert scene.exchange.outcomes == {("kernel", "unclaimed"): 1}


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
