"""The seam between what keeps missions and what thinks: a ticket goes in, an outcome comes out.

Everything here is called from a cycle's own thread. The vessel implements `Engine`, `LogSink` and `EventSink` over the
bus and the log writer; tests implement them in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from batos.protocol.log import EventType
from batos.protocol.messages import EngineDescription, Event, Infer, Inferred, Tokenized, Usage


@dataclass(frozen=True)
class Ticket:
    """The right to think about one mission: who claimed it, in which epoch, for which cycle."""

    mission_id: str
    text: str
    weaver: str
    """Persona that weaves the answer, upper case; empty leaves it to the state machine."""
    author: str
    cycle_id: str
    epoch: int
    kernel: str
    incarnation: str
    submitted_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class CycleOutcome:
    """How a thought ended. `tid` is the transaction that a COMPLETE one committed as, else empty."""

    outcome: Literal["COMPLETE", "FAILED"]
    answer: str = ""
    error: str = ""
    tid: str = ""
    personas: tuple[str, ...] = ()
    """Every persona that was asked or decided something, in the order of its first word."""
    weaver: str = ""
    model: str = ""
    adapter: str = ""
    """Serving name of the adapter that wove the answer, as the engine reported it; empty for the base model."""
    prompt_hash: str = ""
    """Of the prompt whose answer the mission's was made of."""
    verbatim: bool = False
    """Whether the mission's answer stands in that answer as it is."""
    dna_version: int = 0
    usage: Usage = field(default_factory=Usage)
    """Tokens of every prompt of the cycle together."""
    duration_ms: int = 0
    snapshot_tid: str = ""


class Engine(Protocol):
    """What answers prompts. Synchronous: the caller's thread waits.

    Every method raises `batos.protocol.ProtocolError` where there is no answer; only its subclass `Transient` says that
    asking again may help.
    """

    def infer_all(self, prompts: Sequence[Infer], timeout_s: float) -> list[Inferred]:
        """Ask all prompts at once; the answers stand in the prompts' order. One failure fails the call."""
        ...

    def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> Tokenized:
        """Count texts by the model's own tokenizer and, where limits are given, cut text i to limits[i] tokens."""
        ...

    def describe(self) -> EngineDescription:
        """Which model answers, and how many tokens one request may use."""
        ...


class LogSink(Protocol):
    """The metacognition log as a cycle sees it."""

    def record(self, event_type: EventType, **fields: Any) -> None:
        """Append a record; `fields` are those of `LogRecord`. Thread-safe; never waits for the disk."""
        ...


class EventSink(Protocol):
    """The events channel as a cycle sees it."""

    def publish(self, topic: str, event: Event) -> None:
        """Publish an event under `mission/<id>`. Thread-safe; never waits."""
        ...
