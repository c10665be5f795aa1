"""What may go wrong with what stands in the image beside its objects."""

from __future__ import annotations


class MindError(Exception):
    """The root of all errors of this package. None of them goes away by trying again.

    Attributes:
        code: stable, for programs, for example `adapter_unknown`.
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


class NotFound(MindError):  # noqa: N818 - it says what happened
    """The image holds no such thing.

    Attributes:
        kind: persona, adapter, dataset, order or collection.
        name: what was looked for.
    """

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(f"{kind}_unknown", f"the image holds no {kind} {name!r}", hint)
        self.kind = kind
        self.name = name


class NotAllowed(MindError):  # noqa: N818 - it says what happened
    """A rule of the image stands against it, and nothing was changed."""


class Corrupt(MindError):  # noqa: N818 - it says what the data is
    """Bytes that are not what their name says."""


class PositionMoved(MindError):  # noqa: N818 - it says what happened
    """Somebody else ingested this part of a log first: read the position again.

    Attributes:
        kernel: whose log.
        expected: position that the caller read from, as (segment, offset in bytes).
        found: position that the image holds.
    """

    def __init__(self, kernel: str, expected: tuple[str, int], found: tuple[str, int]) -> None:
        super().__init__(
            "position_moved",
            f"the log of {kernel} is ingested up to {found[0]}:{found[1]}, not {expected[0]}:{expected[1]}",
            "read the position from the image again",
        )
        self.kernel = kernel
        self.expected = expected
        self.found = found
