"""Frames: one of protocol version and kind, one of the header, one of the body (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import msgspec

from batos.protocol.errors import ProtocolError, Undecodable
from batos.protocol.messages import (
    Cancel,
    ErrorReply,
    Event,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    Message,
    Reply,
    Request,
    Subscribed,
)

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest frame that any socket of the bus accepts: a log chunk fits 60 times, a runaway body does not."""

_FRAMES = 3
_TYPE_FRAME_BYTES = 2


class Kind(IntEnum):
    """What a message is for: the second byte of its type frame. Numbers are never reused."""

    HELLO = 1
    HEARTBEAT = 2
    HEARTBEAT_ACK = 3
    HELLO_WANTED = 4
    GOODBYE = 5
    REQUEST = 16
    REPLY = 17
    ERROR = 18
    CANCEL = 19
    EVENT = 32
    SUBSCRIBED = 33


class Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who says this, in answer to what, and until when it matters.

    A msgpack array: fields are only ever appended, each with a default.

    Attributes:
        id: of this message.
        parent: of the message that caused this one; in a reply the id of its request.
        session: incarnation of the sender: another session under the same name is another process.
        sender: name of the sender.
        service: whom a request is for; a reply repeats it; empty elsewhere.
        deadline: seconds since the epoch after which nobody waits for the answer; 0 where there is none.
        attempt: 0 for the first sending of a request, one more each time it is sent again.
        seq: counts, from 1, what this session published; in HELLO, HEARTBEAT and GOODBYE what it said of itself over
            both channels, so that what was said last is known.
        topic_seq: events: counts what this session published on this topic, from 1, so that a gap is seen.
    """

    id: str
    parent: str = ""
    session: str = ""
    sender: str = ""
    service: str = ""
    deadline: float = 0.0
    attempt: int = 0
    seq: int = 0
    topic_seq: int = 0


TYPE_FRAMES: dict[Kind, bytes] = {kind: bytes((PROTOCOL_VERSION, kind)) for kind in Kind}
_KINDS: dict[bytes, Kind] = {frame: kind for kind, frame in TYPE_FRAMES.items()}
_BODIES: dict[Kind, Any] = {
    Kind.HELLO: Hello,
    Kind.HEARTBEAT: Heartbeat,
    Kind.HEARTBEAT_ACK: HeartbeatAck,
    Kind.HELLO_WANTED: HelloWanted,
    Kind.GOODBYE: Goodbye,
    Kind.REQUEST: Request,
    Kind.REPLY: Reply,
    Kind.ERROR: ErrorReply,
    Kind.CANCEL: Cancel,
    Kind.EVENT: Event,
    Kind.SUBSCRIBED: Subscribed,
}
_ENCODER = msgspec.msgpack.Encoder()
_HEADER_DECODER = msgspec.msgpack.Decoder(Header)
_BODY_DECODERS: dict[Kind, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(body) for kind, body in _BODIES.items()
}


def encode_header(header: Header) -> bytes:
    """Encode a header frame."""
    return _ENCODER.encode(header)


def encode_body(body: Message) -> bytes:
    """Encode a body frame.

    Raises:
        ProtocolError: it is larger than any socket of the bus accepts, or holds what msgpack has no form for.
    """
    try:
        encoded = _ENCODER.encode(body)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError("body_unencodable", f"{type(body).__name__} cannot be encoded: {error}") from error
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise ProtocolError(
            "body_too_large",
            f"{type(body).__name__} takes {len(encoded)} bytes, the bus carries {MAX_MESSAGE_BYTES}",
            "ask for it in parts",
        )
    return encoded


def encode(kind: Kind, header: Header, body: Message) -> list[bytes]:
    """Encode a whole message: type frame, header, body."""
    return [TYPE_FRAMES[kind], _ENCODER.encode(header), encode_body(body)]


def open_frames(frames: Sequence[bytes]) -> tuple[Kind, Header, bytes]:
    """Take a message apart as far as its header; the body stays bytes.

    Raises:
        Undecodable: not three frames, another version, an unknown kind, or a header that is none.
    """
    if len(frames) != _FRAMES:
        raise Undecodable("frames", f"a message has {_FRAMES} frames, this one has {len(frames)}")
    type_frame, header, body = frames
    kind = _KINDS.get(type_frame)
    if kind is None:
        if len(type_frame) == _TYPE_FRAME_BYTES and type_frame[0] != PROTOCOL_VERSION:
            raise Undecodable(
                "version",
                f"protocol version {type_frame[0]} is not spoken here, version {PROTOCOL_VERSION} is",
                "bring both vessels to the same release",
            )
        raise Undecodable("kind", f"no kind of message has the type frame {type_frame[:8].hex()!r}")
    try:
        return kind, _HEADER_DECODER.decode(header), body
    except msgspec.DecodeError as error:
        raise Undecodable("header", f"the header of a {kind.name} is none: {error}") from error


def decode_body(kind: Kind, body: bytes) -> Message:
    """Decode a body by the decoder of its kind.

    Raises:
        Undecodable: it is not msgpack, or no body that this kind knows.
    """
    try:
        decoded: Message = _BODY_DECODERS[kind].decode(body)
    except msgspec.ValidationError as error:
        raise Undecodable(
            "body_invalid", f"the body of a {kind.name} is none that is known here: {error}", "see docs/protocol.md"
        ) from error
    except msgspec.DecodeError as error:
        raise Undecodable(
            "body_undecodable", f"the body of a {kind.name} is not msgpack: {error}", "see docs/protocol.md"
        ) from error
    return decoded
