"""What the bus answers itself: greetings, its own services, and what is no proper message."""

from __future__ import annotations

import pytest
from bus_exchange_scene import BUS, ROSTER, Scene, card, error_of

from batos.bus.instructions import Seen, Send
from batos.protocol import (
    Header,
    Heartbeat,
    HeartbeatAck,
    HelloWanted,
    Kind,
    Ping,
    Pong,
    RosterGet,
    encode,
    open_frames,
)


def test_a_hello_is_acknowledged_and_seen() -> None:
    """Who says Hello hears which bus it is, and its card goes to the roster."""
    scene = Scene()
    said = scene.hello(card("kernel-1"), "kernel")
    assert said == [("kernel-1!", Kind.HEARTBEAT_ACK, HeartbeatAck(bus_incarnation="bus-1"))]
    assert Seen(card("kernel-1")) in scene.done
    assert scene.exchange.peers == 1


def test_an_unknown_peer_is_asked_who_it_is() -> None:
    """Whatever it says first, a peer that the bus does not know is asked for its Hello."""
    scene = Scene()
    wanted = [("stranger", Kind.HELLO_WANTED, HelloWanted(bus_incarnation="bus-1"))]
    assert scene.say("stranger", Kind.HEARTBEAT, Heartbeat(card=card("stranger"))) == wanted
    assert scene.ask("stranger", "r") == wanted


def test_the_bus_answers_for_itself(scene: Scene) -> None:
    """Its own services are answered without a worker; what it does not handle is refused."""
    header = Header(id="r", service="bus", deadline=scene.now.wall + 5)
    assert scene.say("console!", Kind.REQUEST, RosterGet(), header=header) == [("console!", Kind.REPLY, ROSTER)]
    _, error = error_of(scene.say("console!", Kind.REQUEST, Ping(), header=header))
    assert error.code == "not_served"


def test_pong_is_no_request(scene: Scene) -> None:
    """A reply in the frame of a request is refused by who it is for."""
    header = Header(id="r", service="bus", deadline=scene.now.wall + 5)
    _, error = error_of(scene.say("console!", Kind.REQUEST, Pong(card=BUS), header=header))
    assert error.code == "body_invalid"


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
