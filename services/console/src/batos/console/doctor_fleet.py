"""What a fleet says of itself, and of its image's files: backups, packs, pins."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batos.console.attended import IMAGE_KIND
from batos.console.care import moment, size
from batos.console.doctor_home import disk
from batos.console.findings import Finding, note, well, wrong
from batos.console.keeping import unready
from batos.console.settings import ConsoleSettings
from batos.console.status import shown
from batos.protocol import ImageLooked, PinView, Roster

DAY_S = 86_400.0
KINDS = ("kernel", "inference", "curator", "forge", "supervisor")
"""Of which every fleet in containers has at least one, beside the bus that is asked and the image's own vessel."""


@dataclass(frozen=True)
class Bounds:
    """From when on something is wrong.

    Attributes:
        pin_days: a pin that is older is forgotten.
        backup_days: a newest backup that is older is too old.
        free_bytes: least room on a disk.
    """

    pin_days: float
    backup_days: float
    free_bytes: int


def vessels(roster: Roster, places: Sequence[str], kinds: Sequence[str], helps: str) -> Iterator[Finding]:
    """Whether each vessel is there and ready, and what it says although it is.

    Args:
        roster: who is there.
        places: names of all that should be; empty where nobody wrote them down.
        kinds: of each of these one should be there.
        helps: what helps where none is.
    """
    cards = shown(roster)
    names = list(dict.fromkeys([*places, *(card.name for card in cards)]))
    missing = [kind for kind in kinds if not any(card.kind == kind for card in cards)]
    for kind in missing:
        yield wrong("vessel", f"no {kind} is on the bus", helps)
    waiting = unready(names, cards)
    for name, why in waiting.items():
        yield wrong("vessel", f"{name} is not ready: {why}", "batos status")
    for card in cards:
        if card.notice:
            makes_room = "batos image pack" if card.kind == IMAGE_KIND else ""
            yield wrong("vessel", f"{card.name} is ready, but {card.notice}", makes_room)
    if names and not (missing or waiting):
        yield well("fleet", f"{len(places or names)} vessels, every one is ready")


def image(found: ImageLooked, settings: ConsoleSettings, bounds: Bounds, now: float) -> Iterator[Finding]:
    """How the image's files are."""
    if not found.oldest_at:  # no file, or one without a transaction
        yield note("image", "there is nothing in the image yet", "batos up")
        return
    since = moment(found.oldest_at)
    yield well("image", f"{size(found.file_bytes)} and {size(found.blob_bytes)} of blobs, kept since {since}")
    yield disk(settings.home / "image", found.free_bytes, bounds.free_bytes, "the image")
    if found.free_bytes < found.file_bytes:
        yield note("disk", f"a pack may need room for a copy of the image's file, {size(found.file_bytes)}")
    yield _backup(found, bounds.backup_days, now)
    yield _pack(found, now)
    yield from pins(found.pins, bounds.pin_days, now)


def _backup(found: ImageLooked, days: float, now: float) -> Finding:
    helps = f"batos image backup {shlex.quote(found.backup_folder) if found.backup_folder else 'DIR'}"
    if not found.backup_at:
        if now - found.oldest_at > days * DAY_S:
            return wrong("backup", "there never was one", helps)
        return note("backup", "there never was one; the image is young", helps)
    says = f"the newest was made {_ago(now - found.backup_at)} in {found.backup_folder}"
    if found.backup_whole:
        return well("backup", f"{says}, and nothing was committed since")
    if now - found.backup_at > days * DAY_S:
        return wrong("backup", f"{says}, more than {days:g} days", helps)
    return well("backup", says)


def _pack(found: ImageLooked, now: float) -> Finding:
    if found.pack_error:
        return wrong("pack", f"the last by schedule could not be done: {found.pack_error}", "batos image pack")
    if not found.packed_at:
        return note("pack", "the image was never packed")
    return well("pack", f"the last was {_ago(now - found.packed_at)}")


def pins(pinned: Sequence[PinView], days: float, now: float) -> Iterator[Finding]:
    """Pins that are older than that, each by its name."""
    forgotten = [pin for pin in pinned if now - pin.at > days * DAY_S]
    for pin in forgotten:
        reason = f" ({pin.reason})" if pin.reason else ""
        yield wrong(
            "pin",
            f"{pin.name}{reason} is {_days(now - pin.at)} old and keeps packing from going on",
            f"batos image unpin {'-- ' if pin.name.startswith('-') else ''}{shlex.quote(pin.name)}",
        )
    if not forgotten:
        yield well("pin", f"{len(pinned)} pins, none is older than {days:g} days" if pinned else "no pins")


def _ago(seconds: float) -> str:
    return f"{_days(seconds)} ago" if seconds >= DAY_S else "within the last day"


def _days(seconds: float) -> str:
    whole = int(seconds // DAY_S)
    return f"{whole} day" if whole == 1 else f"{whole} days"
