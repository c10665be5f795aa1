"""What an exchange tells its broker to do, and the time that the broker tells it."""

from __future__ import annotations

from typing import NamedTuple

from batos.protocol import VesselCard


class Now(NamedTuple):
    """The time: seconds of the monotonic clock for intervals, of the epoch for deadlines."""

    mono: float
    wall: float


class Send(NamedTuple):
    """Hand these frames to a peer. `request_id` is set where they are a request."""

    route: bytes
    frames: list[bytes]
    request_id: str = ""


class Seen(NamedTuple):
    """A peer came or its card changed. `seq` numbers what it said of itself, over both channels."""

    card: VesselCard
    seq: int = 0


class Gone(NamedTuple):
    """A peer is no more on this channel: it left in order or was lost."""

    session: str
    lost: bool


Instruction = Send | Seen | Gone
