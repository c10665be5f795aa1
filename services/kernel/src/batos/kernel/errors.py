"""What may go wrong in a kernel, as one family of errors with a code for programs and a hint for people."""

from __future__ import annotations


class KernelError(Exception):
    """The root of the kernel's own errors.

    Attributes:
        code: Stable, for programs, for example `plan_invalid`.
        message: What is wrong, in one sentence.
        hint: What to do about it; may be empty.
        transient: Whether the same thing may succeed if it is tried again; nothing else is ever retried.
    """

    transient = False

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.code = code
        self.message = message
        self.hint = hint


class Fenced(KernelError):  # noqa: N818 - says what happened to the owner
    """The mission belongs to another kernel or epoch by now: its former owner may not write anything about it."""

    def __init__(self, mission_id: str, found: str) -> None:
        super().__init__("fenced", f"mission {mission_id} is no longer this kernel's: {found}")
        self.mission_id = mission_id
        self.found = found


class ThoughtFailed(KernelError):  # noqa: N818 - an outcome of thinking
    """A cycle cannot go on: the reason becomes the mission's error."""


class GivenUp(ThoughtFailed):
    """A live method says itself that it cannot go on."""
