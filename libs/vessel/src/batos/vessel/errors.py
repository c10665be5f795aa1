"""What can go wrong in the life of a process."""

from __future__ import annotations


class VesselError(Exception):
    """The root of all errors of this package.

    Attributes:
        code: stable, for programs, for example `fleet_unknown`.
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


class SettingsError(VesselError):
    """A setting that is unknown, missing or out of its bounds: the process exits with code 2."""


class StartFailed(VesselError):  # noqa: N818 - it names what happened
    """A vessel could not start, for a reason that its sentence explains: the process exits with code 1."""


class FleetNotFound(VesselError):  # noqa: N818 - it names what is not there
    """No fleet has been started in this home."""


class FleetRunning(VesselError):  # noqa: N818 - it names what is in the way
    """Another keeper owns this home.

    Attributes:
        pid: process id of that keeper; 0 where it has not written it yet.
    """

    def __init__(self, message: str, hint: str, pid: int) -> None:
        super().__init__("fleet_running", message, hint)
        self.pid = pid
