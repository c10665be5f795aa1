"""What can go wrong while a fleet is kept or rolled."""

from __future__ import annotations


class SupervisorError(Exception):
    """The root of all errors of this package.

    Attributes:
        code: stable, for programs.
        message: what is wrong.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class PlaceError(SupervisorError):
    """A place of the fleet cannot do what was asked of it now.

    Attributes:
        place: name of the place.
    """

    def __init__(self, code: str, place: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.place = place


class RollError(SupervisorError):
    """A roll could not be begun, or stopped half way.

    Attributes:
        vessel: the plank at which it stopped; empty where none was touched.
    """

    def __init__(self, code: str, vessel: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.vessel = vessel


class RosterUnknown(SupervisorError):  # noqa: N818 - it names what is not known
    """The bus does not say who is there: it may be about to be back."""
