"""What the mind is asked to do, how that stands, and who it is."""

from __future__ import annotations

from typing import Any

import msgspec

from batos.protocol.messages.message import Message


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
    at: str = ""
    """A moment of the past, as `ImageShow` has it: how did it stand then? Answers at once."""


class MissionStatus(Message, frozen=True, kw_only=True):
    """One mission as the image records it."""

    mission_id: str
    text: str
    state: str
    """ACCEPTED, RUNNING, COMPLETE, FAILED or UNDONE."""
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
    as_of: str = ""
    """Up to which tid this view sees; empty where no moment of the past was asked for."""


class MissionList(Message, frozen=True, kw_only=True):
    """To any kernel: the newest missions."""

    limit: int = 20
    at: str = ""
    """A moment of the past, as `ImageShow` has it."""


class Missions(Message, frozen=True, kw_only=True):
    """Newest first."""

    missions: tuple[MissionStatus, ...]
    as_of: str = ""
    """Up to which tid this view sees; where a time was asked for, that of its very moment."""


class MissionUndo(Message, frozen=True, kw_only=True):
    """To any kernel: undo what the thought of a COMPLETE mission changed, wherever nothing built on it."""

    mission_id: str
    dry_run: bool = False


class LeftView(msgspec.Struct, frozen=True, kw_only=True):
    """An object that an undo did not restore, and why."""

    path: str
    why: str


class MissionUndone(Message, frozen=True, kw_only=True):
    """What an undo restored and what it left; the mission is UNDONE now, unless this was asked for on paper only."""

    mission_id: str
    thought: str
    """Transaction that was undone."""
    tid: str = ""
    """The new transaction; empty on paper."""
    restored: tuple[str, ...] = ()
    made: int = 0
    """Objects that the thought made: they stay in the image, reachable only through what was left."""
    left: tuple[LeftView, ...] = ()


class PersonaGet(Message, frozen=True, kw_only=True):
    """To any kernel: one persona as the image holds it."""

    persona: str
    at: str = ""
    """A moment of the past, as `ImageShow` has it."""


class PersonaView(Message, frozen=True, kw_only=True):
    """A persona: its DNA, what it stands for, its pillars, what it was cloned from."""

    name: str
    dna: dict[str, Any]
    codex: dict[str, Any]
    pillars: dict[str, str]
    ancestor: str = ""
    as_of: str = ""
    """Up to which tid this view sees; where a time was asked for, that of its very moment."""
