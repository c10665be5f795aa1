"""What may go wrong in the forge."""

from __future__ import annotations


class ForgeError(Exception):
    """The root of the forge's own errors: the order fails with this sentence.

    Attributes:
        code: stable, for programs, for example `training_failed`.
        message: what is wrong.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ChildFailed(ForgeError):  # noqa: N818 - it says what happened
    """A program that the forge started did not do its work.

    Attributes:
        program: what it was, in words.
        status: its exit code, negative for a signal.
        last_lines: the last lines that it wrote to stderr.
    """

    def __init__(self, program: str, status: int, last_lines: tuple[str, ...]) -> None:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with exit code {status}"
        said = f": {' | '.join(last_lines)}" if last_lines else ""
        super().__init__("child_failed", f"{program} {how}{said}")
        self.program = program
        self.status = status
        self.last_lines = last_lines


class ChildSilent(ForgeError):  # noqa: N818 - it says what happened
    """A program that the forge started said nothing for too long and was ended.

    Attributes:
        program: what it was, in words.
        seconds: how long it was waited for.
    """

    def __init__(self, program: str, seconds: float) -> None:
        super().__init__(
            "child_silent",
            f"{program} said nothing for {seconds:g} s and was ended",
            "see its log; a slower machine may need a larger BATOS_FORGE_SILENCE_S",
        )
        self.program = program
        self.seconds = seconds
