"""What every body of a frame is, and what a refusal says."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=False):
    """The root of everything that may be the body of a frame. The tag is the class's name."""


class ErrorReply(Message, frozen=True, kw_only=True):
    """A request that could not be done: what was wrong, and what to do about it."""

    code: str
    """Stable, for programs: for example `mission_empty`, `persona_unknown`, `engine_lost`."""
    message: str
    hint: str = ""
    transient: bool = False
    """Whether the same request may succeed if it is made again; nothing else is ever retried."""
