"""Who is there, who comes, who leaves, and how planks are replaced."""

from __future__ import annotations

import msgspec

from batos.protocol.messages.message import Message


class VesselCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a vessel says about itself in HELLO and in every heartbeat."""

    name: str
    """The plank's place in the fleet, for example `kernel-1`."""
    kind: str
    """Its sort: bus, image, kernel, inference, curator, forge, supervisor, keeper, console."""
    incarnation: str
    pid: int
    version: str
    started_at: float
    metrics: str = ""
    """URL of its /metrics page; /healthz and /readyz stand beside it."""
    ready: bool = False
    reason: str = ""
    """Why it is not ready, in words."""
    draining: bool = False
    notice: str = ""
    """What is wrong although it is ready, in words; empty where nothing is."""


class Hello(Message, frozen=True, kw_only=True):
    """First words of a peer on a channel: who it is and which services it serves there."""

    card: VesselCard
    services: tuple[str, ...] = ()
    capacity: int = 1
    """How many requests it works on at a time."""
    running: tuple[str, ...] = ()
    """Ids of the requests it is at work on, so that a bus that has just started gives them to no other."""
    answered: tuple[str, ...] = ()
    """Ids of the requests whose replies it remembers, oldest first."""


class Heartbeat(Message, frozen=True, kw_only=True):
    """Still here. A peer that the bus does not know is answered with `HelloWanted`."""

    card: VesselCard


class HeartbeatAck(Message, frozen=True, kw_only=True):
    """The bus is still here, and which incarnation of it."""

    bus_incarnation: str


class HelloWanted(Message, frozen=True, kw_only=True):
    """The bus (newly started) does not know this peer: it should say `Hello` again."""

    bus_incarnation: str


class Goodbye(Message, frozen=True, kw_only=True):
    """A peer leaves in order: nothing new is to be sent to it. Its running requests are still answered."""


class Cancel(Message, frozen=True, kw_only=True):
    """Nobody waits for this request any more: the bus forgets it, and who works on it stops."""

    request_id: str


class Subscribed(Message, frozen=True, kw_only=True):
    """The bus has seen a subscription to this `ack/…` topic, so everything subscribed before it is effective."""

    topic: str


class RosterGet(Message, frozen=True, kw_only=True):
    """Who is there? Answered by the bus itself (service `bus`)."""


class Roster(Message, frozen=True, kw_only=True):
    """Every vessel the bus has heard of lately, itself included."""

    bus_incarnation: str
    bus_started_at: float
    vessels: tuple[VesselCard, ...]


class Ping(Message, frozen=True, kw_only=True):
    """Control: are you there?"""


class Pong(Message, frozen=True, kw_only=True):
    """Control: yes, and this is how I am."""

    card: VesselCard


class Drain(Message, frozen=True, kw_only=True):
    """Control: take nothing new, finish what runs, exit 0."""

    timeout_s: float = 120.0
    """What still runs after this long is released to others."""


class Draining(Message, frozen=True, kw_only=True):
    """Control: the drain has begun."""

    running: int


class Roll(Message, frozen=True, kw_only=True):
    """To the supervisor: replace every plank of a kind (or the one vessel named), one after another."""

    target: str
    timeout_s: float = 300.0


class Plank(msgspec.Struct, frozen=True, kw_only=True):
    """One replacement in a roll."""

    name: str
    old: str
    new: str
    duration_ms: int


class Rolled(Message, frozen=True, kw_only=True):
    """How the roll went."""

    planks: tuple[Plank, ...]


class SpawnSuccessor(Message, frozen=True, kw_only=True):
    """To the keeper: start a second process for this vessel's place; the first one will be drained once it is ready.

    Asked again while the successor runs (or has taken the place) it starts nothing and tells how the successor is.
    """

    name: str
    beside: int = 0
    """Process id of the plank that is to be followed; 0 means whichever fills the place."""


class SuccessorSpawned(Message, frozen=True, kw_only=True):
    """From the keeper: the successor's process runs (not yet ready)."""

    name: str
    pid: int


class AbandonSuccessor(Message, frozen=True, kw_only=True):
    """To the keeper: the successor did not become ready; end it and keep the old plank."""

    name: str


class SuccessorAbandoned(Message, frozen=True, kw_only=True):
    """From the keeper: the successor is gone, the old plank keeps its place."""

    name: str
