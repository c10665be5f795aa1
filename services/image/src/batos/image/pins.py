"""Pins: moments of the image that packing never passes. They stand in the image itself, at `root()['pins']`."""

from __future__ import annotations

import shlex
import time
from typing import Any

from BTrees.OOBTree import OOBTree

from batos.image.errors import CareError
from batos.image.moments import moment_refused
from batos.protocol import PinView
from batos.uvm import Image, Root, seen_tid

PINS = "pins"
"""Name to (tid, reason, by whom, when in seconds since the epoch)."""
MAX_PINS = 1000
MAX_TEXT = 500


def pins(root: Root) -> tuple[PinView, ...]:
    """Return all pins, the oldest moment first."""
    found = [
        PinView(name=name, tid=tid, reason=reason, by=by, at=at)
        for name, (tid, reason, by, at) in root.get(PINS, {}).items()
    ]
    return tuple(sorted(found, key=lambda pin: (pin.tid, pin.name)))


def pin(image: Image, name: str, moment: str, *, reason: str, by: str) -> None:
    """Pin a moment under a name. The same again changes nothing.

    Args:
        image: where.
        name: of the pin.
        moment: a transaction, or a time with its zone; empty: the newest transaction.
        reason: what it is kept for.
        by: who wants that.

    Raises:
        CareError: the name is taken by another moment, or the moment cannot be looked at.
    """
    _check(name, reason, by)
    with moment_refused("pin a moment that can be looked at"), image.at(moment) if moment else image.snapshot() as seen:
        tid = seen_tid(seen)

    def write(root: Root) -> None:
        known: Any = root.get(PINS)
        if known is None:
            known = root[PINS] = OOBTree()
        there = known.get(name)
        if there is not None and there[0] != tid:
            raise CareError(
                "pin_taken",
                f"{name!r} pins transaction {there[0]} already",
                f"choose another name, or `batos image unpin -- {shlex.quote(name)}` first",
            )
        if there is None and len(known) >= MAX_PINS:
            raise CareError("pin_limit", f"there are {MAX_PINS} pins", "unpin what is not needed any more")
        if there is None:
            known[name] = (tid, reason, by, time.time())

    image.run(write, user=by or "architect", note=f"pin {name}")


def _check(name: str, reason: str, by: str) -> None:
    """Refuse texts that cannot be kept or shown.

    Raises:
        CareError: which, and why.
    """
    if not name:
        raise CareError("pin_invalid", "a pin has a name", "give it one")
    if not name.isprintable():
        raise CareError("pin_invalid", f"{name!r} has characters that cannot be shown", "give it another name")
    for what, text in (("name", name), ("reason", reason), ("author", by)):
        if len(text) > MAX_TEXT:
            raise CareError(
                "pin_invalid", f"the pin's {what} has {len(text)} characters, at most {MAX_TEXT} are kept", "shorten it"
            )


def unpin(image: Image, name: str) -> None:
    """Forget a pin.

    Raises:
        CareError: there is none of this name.
    """

    def write(root: Root) -> None:
        known: Any = root.get(PINS, {})
        if name not in known:
            raise CareError("pin_unknown", f"there is no pin {name!r}", "`batos image pins` lists them")
        del known[name]

    image.run(write, user="architect", note=f"unpin {name}")
