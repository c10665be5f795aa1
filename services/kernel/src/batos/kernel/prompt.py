"""What a live method wants to ask, in parts that say how dear each of them is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from batos.protocol import ChatMessage

PartKind = Literal["fixed", "memory", "partial", "mission"]
Role = Literal["system", "user", "assistant"]


class Part(NamedTuple):
    """A piece of a turn. A `fixed` one is never cut; the others give way in the governor's order."""

    kind: PartKind
    text: str


@dataclass(frozen=True)
class Turn:
    """One message of a prompt, its parts a line (or more) each."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The message as the model reads it; parts that were cut to nothing leave no line."""
        return "\n".join(part.text for part in self.parts if part.text)


@dataclass(frozen=True)
class Prompt:
    """A question to a persona, before it is cut to the model's context.

    Attributes:
        persona: who is asked; its DNA gives temperature and adapter.
        step: where in the thought it stands, for example `plan` or `facet-2`.
        turns: what is said; the last one is the user's.
        max_tokens: bound of the answer, in tokens.
        facet: the pillar that is asked, if one is.
        attempt: counts from 1 within a step; each attempt draws with another seed.
        schema: JSON Schema of a structured answer; None asks for free text.
        top_p: share of the probability that is drawn from, 0 to 1.
        repeat_penalty: 1.0 is none.
    """

    persona: str
    step: str
    turns: tuple[Turn, ...]
    max_tokens: int
    facet: str = ""
    attempt: int = 1
    schema: dict[str, Any] | None = None
    top_p: float = 0.95
    repeat_penalty: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What came back, and where it came from.

    Attributes:
        finish_reason: `stop`, or `length` where the answer was cut at its bound.
        adapter: serving name of the adapter that gave it; empty for the base model.
    """

    text: str
    persona: str
    facet: str
    finish_reason: Literal["stop", "length"]
    prompt_hash: str
    model: str
    adapter: str


def turn(role: Role, *parts: tuple[PartKind, str] | str) -> Turn:
    """Build a turn; a bare text is a fixed part."""
    return Turn(role, tuple(Part("fixed", part) if isinstance(part, str) else Part(*part) for part in parts))


def prompt_hash(messages: Sequence[ChatMessage], schema: dict[str, Any] | None, adapter: str) -> str:
    """Return what tells two prompts apart: SHA-256 over messages, schema and adapter, 64 hexadecimal digits."""
    return hashlib.sha256(
        msgspec.json.encode([[(m.role, m.content) for m in messages], schema, adapter], order="deterministic")
    ).hexdigest()
