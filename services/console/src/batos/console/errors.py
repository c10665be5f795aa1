"""What can go wrong at the console, each with the exit code that it ends the command with."""

from __future__ import annotations

from typing import ClassVar

DONE = 0
MISSION_FAILED = 1
WRONG_USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

USAGE_CODES = frozenset(
    {
        "adapter_unknown",
        "ancestor_unknown",
        "method_broken",
        "method_name",
        "method_unknown",
        "mission_empty",
        "mission_id_invalid",
        "mission_not_complete",
        "mission_too_large",
        "mission_unknown",
        "moment_invalid",
        "moment_unknown",
        "order_id_invalid",
        "order_unknown",
        "path_unknown",
        "persona_unknown",
        "request_id_invalid",
        "roll_target_unknown",
        "settings_invalid",
        "settings_unknown",
        "settings_unreadable",
        "version_unknown",
    }
)
"""Codes of errors that say: this was asked for wrongly."""

NO_FLEET_CODES = frozenset({"bus_unknown", "bus_unreachable", "fleet_unknown"})
"""Codes of errors that say: there is nobody to ask."""

START_IT = "start it with `batos up`"


class ConsoleError(Exception):
    """The root of all errors of this package: the command ends with `exit_code` and says `message` and `hint`.

    Attributes:
        code: stable, for programs.
        message: what is wrong, in one sentence.
        hint: what to do about it; may be empty.
    """

    exit_code: ClassVar[int] = MISSION_FAILED

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class WrongUsage(ConsoleError):  # noqa: N818 - it says what it was
    """The command was given something that cannot be done."""

    exit_code = WRONG_USAGE


class FleetUnreachable(ConsoleError):  # noqa: N818 - it says how the fleet is
    """There is no fleet to talk to."""

    exit_code = UNREACHABLE


class StillRunning(ConsoleError):  # noqa: N818 - it says how the mission is
    """The time to wait is over and the mission is not; it goes on without this command."""


def explained(error: Exception) -> ConsoleError | None:
    """Turn an error of another package into one of ours; None where it is not one that a sentence explains."""
    from batos.protocol import ProtocolError  # noqa: PLC0415 - `batos --help` needs no bus
    from batos.vessel import VesselError  # noqa: PLC0415

    if isinstance(error, ConsoleError):
        return error
    if not isinstance(error, (ProtocolError, VesselError)):
        return None
    if error.code in NO_FLEET_CODES:
        return FleetUnreachable(error.code, error.message, START_IT)
    kind = WrongUsage if error.code in USAGE_CODES else ConsoleError
    return kind(error.code, error.message, error.hint)
