from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batos.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    ErrorReply,
    Event,
    Goodbye,
    Header,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    Kind,
    LogChunk,
    Message,
    MissionAccepted,
    MissionSubmit,
    Ping,
    Progress,
    ProtocolError,
    Reply,
    Request,
    Subscribed,
    Undecodable,
    VesselCard,
    decode_body,
    encode,
    encode_body,
    open_frames,
)

GOLDEN = Path(__file__).parent / "golden"
CARD = VesselCard(
    name="kernel-1",
    kind="kernel",
    incarnation="019a0000000070008000000000000001",
    pid=4711,
    version="0.1.0",
    started_at=1700000000.5,
    metrics="http://127.0.0.1:9000/metrics",
    ready=True,
)
HEADER = Header(
    id="019a0000000070008000000000000002",
    parent="019a0000000070008000000000000003",
    session="019a0000000070008000000000000001",
    sender="kernel-1",
    service="inference",
    deadline=1700000060.25,
    attempt=2,
    seq=7,
    topic_seq=3,
)
WHAT_VERSION_1_SAID: dict[Kind, Message] = {
    Kind.HELLO: Hello(card=CARD, services=("kernel", "kernel/kernel-1"), capacity=8, running=("a",), answered=("b",)),
    Kind.HEARTBEAT: Heartbeat(card=CARD),
    Kind.HEARTBEAT_ACK: HeartbeatAck(bus_incarnation="019a0000000070008000000000000009"),
    Kind.HELLO_WANTED: HelloWanted(bus_incarnation="019a0000000070008000000000000009"),
    Kind.GOODBYE: Goodbye(),
    Kind.REQUEST: MissionSubmit(mission_id="m1", text="Wozu das Gedächtnis?", weaver="BRICK"),
    Kind.REPLY: MissionAccepted(mission_id="m1", duplicate=True),
    Kind.ERROR: ErrorReply(code="mission_empty", message="no text", hint="say something", transient=False),
    Kind.CANCEL: Cancel(request_id="019a0000000070008000000000000003"),
    Kind.EVENT: Progress(what="forge", id="o1", stage="training", fraction=0.5, detail="epoch 2"),
    Kind.SUBSCRIBED: Subscribed(topic="ack/1"),
}


def golden_frames(version: int) -> dict[Kind, list[bytes]]:
    lines = (GOLDEN / f"version_{version}.txt").read_text(encoding="ascii").splitlines()
    parts = [line.split() for line in lines if line and not line.startswith("#")]
    return {Kind[name]: [bytes.fromhex(frame) for frame in frames] for name, *frames in parts}


@pytest.mark.parametrize("kind", list(Kind))
def test_golden_frames_of_version_1_still_say_what_they_said(kind: Kind) -> None:
    """Every kind of message that version 1 ever sent is understood as it was meant."""
    opened, header, body = open_frames(golden_frames(1)[kind])
    assert (opened, header, decode_body(kind, body)) == (kind, HEADER, WHAT_VERSION_1_SAID[kind])


def test_type_frame_is_version_and_kind() -> None:
    """The first frame is one byte of protocol version and one byte of kind."""
    assert encode(Kind.REQUEST, HEADER, Ping())[0] == bytes([PROTOCOL_VERSION, 16])


def test_numbers_of_kinds_stay() -> None:
    """The numbers that stand on the wire are those of docs/protocol.md."""
    assert {kind.name: kind.value for kind in Kind} == {
        "HELLO": 1,
        "HEARTBEAT": 2,
        "HEARTBEAT_ACK": 3,
        "HELLO_WANTED": 4,
        "GOODBYE": 5,
        "REQUEST": 16,
        "REPLY": 17,
        "ERROR": 18,
        "CANCEL": 19,
        "EVENT": 32,
        "SUBSCRIBED": 33,
    }


def test_a_header_of_a_later_version_is_understood() -> None:
    """Fields that were appended to the header are passed over, fields that are missing have their defaults."""
    longer = msgspec.msgpack.encode([*msgspec.structs.astuple(HEADER), "something new"])
    shorter = msgspec.msgpack.encode(["only-an-id"])
    assert open_frames([b"\x01\x10", longer, b""])[1] == HEADER
    assert open_frames([b"\x01\x10", shorter, b""])[1] == Header(id="only-an-id")


def test_a_body_of_a_later_version_is_understood() -> None:
    """Unknown fields of a body are passed over."""
    body = msgspec.msgpack.encode({"type": "MissionSubmit", "mission_id": "m", "text": "t", "mood": "new"})
    assert decode_body(Kind.REQUEST, body) == MissionSubmit(mission_id="m", text="t")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([], "frames"),
        ([b"\x01\x10", b""], "frames"),
        ([b"\x01\x10", b"", b"", b""], "frames"),
        ([b"\x02\x10", b"\x91\xa1x", b""], "version"),
        ([b"\x01\x63", b"\x91\xa1x", b""], "kind"),
        ([b"", b"\x91\xa1x", b""], "kind"),
        ([b"\x01\x10", b"", b""], "header"),
        ([b"\x01\x10", b"\xc1", b""], "header"),
        ([b"\x01\x10", b"\x90", b""], "header"),
        ([b"\x01\x10", b"\x92\xa1x\x05", b""], "header"),
    ],
)
def test_frames_that_are_no_message_are_told_apart(frames: list[bytes], code: str) -> None:
    """Whatever is wrong with frames has a code of its own."""
    with pytest.raises(Undecodable) as caught:
        open_frames(frames)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "body_undecodable"),
        (b"this is not msgpack", "body_invalid"),
        (b"\xc1", "body_undecodable"),
        (msgspec.msgpack.encode({"type": "Unheard"}), "body_invalid"),
        (msgspec.msgpack.encode({"mission_id": "m"}), "body_invalid"),
        (msgspec.msgpack.encode({"type": "MissionSubmit", "mission_id": 5, "text": "t"}), "body_invalid"),
        (msgspec.msgpack.encode({"type": "Pong"}), "body_invalid"),
    ],
)
def test_bodies_that_are_none_are_refused(body: bytes, code: str) -> None:
    """A body is what its kind allows or an `Undecodable`."""
    with pytest.raises(Undecodable) as caught:
        decode_body(Kind.REQUEST, body)
    assert caught.value.code == code


def test_a_body_too_large_for_the_bus_is_refused_before_it_is_sent() -> None:
    """Who sends too much is told, and what to do."""
    with pytest.raises(ProtocolError, match="in parts") as caught:
        encode_body(LogChunk(segment="s", offset=0, data=bytes(MAX_MESSAGE_BYTES), next_offset=0))
    assert caught.value.code == "body_too_large"


@given(frames=st.lists(st.binary(max_size=64), max_size=5))
def test_any_frames_are_a_message_or_undecodable(frames: list[bytes]) -> None:
    """Nothing that arrives raises anything else."""
    try:
        kind, _, body = open_frames(frames)
        decode_body(kind, body)
    except Undecodable:
        pass


@given(body=st.binary(max_size=256), kind=st.sampled_from(Kind))
def test_any_body_is_decoded_or_undecodable(body: bytes, kind: Kind) -> None:
    """No body raises anything else."""
    with contextlib.suppress(Undecodable):
        decode_body(kind, body)


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type of a message."""
    origin, arguments = get_origin(kind), get_args(kind)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False),
        bool: st.booleans(),
        bytes: st.binary(max_size=20),
        type(None): st.none(),
        Any: st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=5),
    }
    if kind in plain:
        return plain[kind]
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(_values(arguments[0]), _values(arguments[1]), max_size=3)
    if origin is Union or type(kind).__name__ == "UnionType":
        return st.one_of([_values(argument) for argument in arguments])
    fields = {field.name: _values(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


@pytest.mark.parametrize(
    ("kind", "body_type"),
    [
        (kind, body_type)
        for kind, union in ((Kind.REQUEST, Request), (Kind.REPLY, Reply), (Kind.EVENT, Event))
        for body_type in get_args(union)
    ]
    + [(kind, type(body)) for kind, body in WHAT_VERSION_1_SAID.items()],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.name,
)
def test_every_body_comes_back_as_it_was_sent(kind: Kind, body_type: type[Message]) -> None:
    """Encoding and decoding is the identity for every message."""

    @given(body=_values(body_type), header=_values(Header))
    def round_trip(body: Message, header: Header) -> None:
        opened, header_back, encoded = open_frames(encode(kind, header, body))
        assert (opened, header_back, decode_body(kind, encoded)) == (kind, header, body)

    round_trip()
