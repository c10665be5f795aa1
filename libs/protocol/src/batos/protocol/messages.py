"""What vessels say to each other: every body that may travel on the bus, as frozen tagged structs.

Growth rules (they keep old frames readable, see docs/protocol.md): a new field has a default, a field never changes its
type or meaning, a tag is never reused. Ids are 32 lower-case hexadecimal digits (UUIDv7) unless said otherwise; times
are seconds since the epoch; durations say their unit in their name.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=False):
    """The root of everything that may be the body of a frame. The tag is the class's name."""


# --------------------------------------------------------------------------------------------- the fleet


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


# --------------------------------------------------------------------------------------------- missions


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, by the model's own tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class MissionSubmit(Message, frozen=True, kw_only=True):
    """To a kernel: think about this. The same id twice is one mission."""

    mission_id: str
    text: str
    weaver: str = ""
    """Persona that weaves the answer; empty leaves it to the state machine (ROBIN)."""
    author: str = "architect"


class MissionAccepted(Message, frozen=True, kw_only=True):
    """The mission is durable in the image."""

    mission_id: str
    duplicate: bool = False


class MissionWait(Message, frozen=True, kw_only=True):
    """To any kernel: how does this mission stand? Answers when it has ended or the timeout has passed."""

    mission_id: str
    timeout_s: float = 0.0


class MissionStatus(Message, frozen=True, kw_only=True):
    """One mission as the image records it."""

    mission_id: str
    text: str
    state: str
    """ACCEPTED, RUNNING, COMPLETE or FAILED."""
    author: str = ""
    answer: str = ""
    error: str = ""
    cycle_id: str = ""
    tid: str = ""
    """Transaction of the thought, 16 hexadecimal digits; empty until COMPLETE."""
    personas: tuple[str, ...] = ()
    weaver: str = ""
    model: str = ""
    adapter: str = ""
    """Serving name (content hash) of the weaving adapter, as the engine reported it; empty for the base."""
    dna_version: int = 0
    usage: Usage = Usage()
    duration_ms: int = 0
    kernel: str = ""
    incarnation: str = ""
    epoch: int = 0
    submitted_at: float = 0.0


class MissionList(Message, frozen=True, kw_only=True):
    """To any kernel: the newest missions."""

    limit: int = 20


class Missions(Message, frozen=True, kw_only=True):
    """Newest first."""

    missions: tuple[MissionStatus, ...]


class PersonaGet(Message, frozen=True, kw_only=True):
    """To any kernel: one persona as the image holds it."""

    persona: str


class PersonaView(Message, frozen=True, kw_only=True):
    """A persona: its DNA, what it stands for, its pillars, what it was cloned from."""

    name: str
    dna: dict[str, Any]
    codex: dict[str, Any]
    pillars: dict[str, str]
    ancestor: str = ""


# --------------------------------------------------------------------------------------------- inference


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen and when to stop."""

    temperature: float = 0.7
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None
    repeat_penalty: float = 1.0


class PromptLabel(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a thought a prompt stands; token deltas carry it."""

    mission_id: str = ""
    cycle_id: str = ""
    state: str = ""
    step: str = ""
    persona: str = ""
    facet: str = ""


class Infer(Message, frozen=True, kw_only=True):
    """To persona-inference: answer this. The header's deadline bounds it."""

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()
    adapter: str = ""
    """Serving name of the adapter (its content hash, for example `brick-3f9a2c…`); empty asks the base model."""
    schema: dict[str, Any] | None = None
    """JSON Schema that the answer must follow; every string and list in it is bounded."""
    label: PromptLabel = PromptLabel()
    probe: bool = False
    """A readiness probe: counted apart, never published."""


class Inferred(Message, frozen=True, kw_only=True):
    """The answer, and the weights that gave it as the engine itself reported them."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    engine: str
    model: str
    model_hash: str
    adapter: str
    duration_ms: int


class EngineDescribe(Message, frozen=True, kw_only=True):
    """To persona-inference: which engine, which model, how much fits."""


class EngineDescription(Message, frozen=True, kw_only=True):
    """What the engine is. `context_tokens` is what one request may use: prompt and answer together."""

    engine: str
    model: str
    model_hash: str
    context_tokens: int
    slots: int
    adapters: tuple[str, ...] = ()


class Tokenize(Message, frozen=True, kw_only=True):
    """To persona-inference: count texts by the model's own tokenizer; `limits` cuts text i to limits[i] tokens."""

    texts: tuple[str, ...]
    limits: tuple[int, ...] = ()
    """Empty: only count. Else one limit a text."""


class Tokenized(Message, frozen=True, kw_only=True):
    """Token counts of the texts as given, and the texts cut to their limits (empty when none were given)."""

    counts: tuple[int, ...]
    cut: tuple[str, ...] = ()
    overhead_per_message: int = 0
    """Tokens that the chat template adds to each message, at most."""


class AdapterLoad(Message, frozen=True, kw_only=True):
    """To persona-inference: fetch this adapter, verify its hash, load it, answer once requests can use it."""

    adapter: str


class AdapterUnload(Message, frozen=True, kw_only=True):
    """To persona-inference: this adapter is no longer needed."""

    adapter: str


class AdaptersLoaded(Message, frozen=True, kw_only=True):
    """The adapters that this replica can answer with now."""

    adapters: tuple[str, ...]


# --------------------------------------------------------------------------------------------- log and forge


class LogRead(Message, frozen=True, kw_only=True):
    """To one kernel (service `kernel/<name>`): the log from a byte offset on, whole lines only."""

    segment: str = ""
    """File name of a segment; empty asks for the oldest."""
    offset: int = 0
    limit: int = 1_000_000
    """Bytes."""


class LogChunk(Message, frozen=True, kw_only=True):
    """Whole lines of one segment. `next_segment` is set once this one is closed and read to its end."""

    segment: str
    offset: int
    data: bytes
    next_offset: int
    next_segment: str = ""
    kernel: str = ""


class Curate(Message, frozen=True, kw_only=True):
    """To the curator: ingest what is new in the logs, then build the data set of a persona from its COMPLETE cycles."""

    persona: str
    request_id: str


class DatasetBuilt(Message, frozen=True, kw_only=True):
    """A data set stands in the image."""

    dataset_id: str
    persona: str
    sha256: str
    rows: int
    train_rows: int
    held_out_rows: int
    records_ingested: int
    path: str = ""
    """Where it was written for reading (JSON Lines), relative to the fleet's home."""


class OrderCreate(Message, frozen=True, kw_only=True):
    """To a kernel: commit a training order for this data set."""

    order_id: str
    persona: str
    dataset_id: str


class OrderGet(Message, frozen=True, kw_only=True):
    """To a kernel: how does this training order stand?"""

    order_id: str


class OrderStatus(Message, frozen=True, kw_only=True):
    """A training order as the image records it."""

    order_id: str
    persona: str
    dataset_id: str
    state: str
    """ORDERED, TRAINING, PASSED, REFUSED, FAILED, LOADED or BOUND."""
    adapter: str = ""
    base_loss: float | None = None
    candidate_loss: float | None = None
    margin: float = 0.0
    """Relative improvement over the base that the gate asks for, for example 0.02."""
    verdict: str = ""
    error: str = ""


class AdapterPromote(Message, frozen=True, kw_only=True):
    """To a kernel: have every replica load this order's adapter, then bind it to its persona in one transaction."""

    order_id: str
    approver: str


class AdapterRollback(Message, frozen=True, kw_only=True):
    """To a kernel: bind what was bound before. The request's id makes a retry harmless."""

    persona: str
    approver: str
    request_id: str


class AdapterBound(Message, frozen=True, kw_only=True):
    """The binding as it stands after the transaction."""

    persona: str
    adapter: str
    """Empty: the base model."""
    previous: str
    dna_version: int
    tid: str


Request = (
    RosterGet
    | Ping
    | Drain
    | Roll
    | SpawnSuccessor
    | AbandonSuccessor
    | MissionSubmit
    | MissionWait
    | MissionList
    | PersonaGet
    | Infer
    | EngineDescribe
    | Tokenize
    | AdapterLoad
    | AdapterUnload
    | LogRead
    | Curate
    | OrderCreate
    | OrderGet
    | AdapterPromote
    | AdapterRollback
)
Reply = (
    Roster
    | Pong
    | Draining
    | Rolled
    | SuccessorSpawned
    | SuccessorAbandoned
    | MissionAccepted
    | MissionStatus
    | Missions
    | PersonaView
    | Inferred
    | EngineDescription
    | Tokenized
    | AdaptersLoaded
    | LogChunk
    | DatasetBuilt
    | OrderStatus
    | AdapterBound
)


class ErrorReply(Message, frozen=True, kw_only=True):
    """A request that could not be done: what was wrong, and what to do about it."""

    code: str
    """Stable, for programs: for example `mission_empty`, `persona_unknown`, `engine_lost`."""
    message: str
    hint: str = ""
    transient: bool = False
    """Whether the same request may succeed if it is made again; nothing else is ever retried."""


# --------------------------------------------------------------------------------------------- events


class StateEntered(Message, frozen=True, kw_only=True):
    """A cycle entered a state of the state machine. Topic `mission/<id>`."""

    mission_id: str
    cycle_id: str
    state: str
    persona: str


class FacetAsked(Message, frozen=True, kw_only=True):
    """A prompt went out. Topic `mission/<id>`."""

    label: PromptLabel
    adapter: str = ""


class TokenDelta(Message, frozen=True, kw_only=True):
    """Text as it is decoded; may be lost. Topic `mission/<id>`."""

    label: PromptLabel
    text: str


class FacetAnswered(Message, frozen=True, kw_only=True):
    """A prompt was answered. Topic `mission/<id>`."""

    label: PromptLabel
    usage: Usage
    duration_ms: int
    adapter: str = ""


class MissionEnded(Message, frozen=True, kw_only=True):
    """A mission ended; its record is committed. Topic `mission/<id>`."""

    status: MissionStatus


class Progress(Message, frozen=True, kw_only=True):
    """How far something slow is. Topic `progress/<what>/<id>`, for example `progress/forge/<order id>`."""

    what: str
    id: str
    stage: str
    fraction: float | None = None
    """0 to 1, or None where no end is known."""
    detail: str = ""


class VesselChanged(Message, frozen=True, kw_only=True):
    """A vessel came, became ready, drains or is gone. Published by the bus. Topic `fleet`."""

    card: VesselCard
    change: Literal["joined", "ready", "unready", "draining", "left", "lost"]


Event = StateEntered | FacetAsked | TokenDelta | FacetAnswered | MissionEnded | Progress | VesselChanged
