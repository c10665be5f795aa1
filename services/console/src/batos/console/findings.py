"""What `batos doctor` finds: one line each, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from rich.text import Text

from batos.console.show import clean


class Level(StrEnum):
    """How one thing is."""

    WELL = "well"
    NOTE = "note"
    """Nothing is wrong, but it is good to know."""
    WRONG = "wrong"


_STYLES = {Level.WELL: "green", Level.NOTE: "yellow", Level.WRONG: "red"}


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        about: `home`, `keys`, `environment`, `fleet`, `vessel`, `disk`, `image`, `backup`, `pack`, `pin` or `log`.
        level: how it is.
        says: that, in one sentence.
        helps: the command that helps; empty where none is needed.
    """

    about: str
    level: Level
    says: str
    helps: str = ""


def well(about: str, says: str) -> Finding:
    """Nothing is wrong with it."""
    return Finding(about, Level.WELL, says)


def note(about: str, says: str, helps: str = "") -> Finding:
    """Nothing is wrong with it, but it is good to know."""
    return Finding(about, Level.NOTE, says, helps)


def wrong(about: str, says: str, helps: str = "") -> Finding:
    """Something has to be done about it."""
    return Finding(about, Level.WRONG, says, helps)


def any_wrong(findings: Iterable[Finding]) -> bool:
    """Whether something has to be done."""
    return any(finding.level is Level.WRONG for finding in findings)


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what `doctor --json` says, as programs rely on it."""
    return {
        "wrong": sum(finding.level is Level.WRONG for finding in findings),
        "findings": msgspec.to_builtins(findings),
    }


def render(findings: Sequence[Finding]) -> Text:
    """Render them for people, each in a line that is never broken."""
    lines = [
        Text.assemble(
            (f"{finding.level:<6}", _STYLES[finding.level]),
            (f"{finding.about:<12}", "bold"),
            clean(" ".join(finding.says.split())),
            (f"  -> {clean(finding.helps)}" if finding.helps else "", "dim"),
        )
        for finding in findings
    ]
    count = sum(finding.level is Level.WRONG for finding in findings)
    lines.append(Text(f"{count} wrong" if count else "nothing is wrong", "red" if count else "green"))
    return Text("\n").join(lines)
