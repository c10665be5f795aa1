"""Where requests and replies go: the least loaded worker, a queue, a name, everybody who asked."""

from __future__ import annotations

from bus_exchange_scene import DONE, SUBMIT, Scene, card, error_of

from batos.bus.exchange import GRACE_S, WAITING_PER_SERVICE
from batos.bus.instructions import Seen
from batos.protocol import Cancel, ErrorReply, Heartbeat, Kind


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


def test_names_that_nobody_ever_served_share_one_label(scene: Scene) -> None:
    """Requests to invented services cannot fill the metrics."""
    for number in range(50):
        scene.ask("console!", f"r{number}", f"invented-{number}", within_s=-1.0)
    assert scene.exchange.outcomes == {("unknown", "expired"): 50}
