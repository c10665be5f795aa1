"""Pins: moments of the image that packing never passes. They stand in the image itself, at `root()['pins']`."""

from __future__ import annotations

import time
from typing import Any

from BTrees.OOBTree import OOBTree

from batos.image.errors import CareError
from batos.image.moments import tid_of
from batos.protocol import PinView
from batos.uvm import Image, NoSuchMoment, Root

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
    if not name or len(name) > MAX_TEXT or not name.isprintable() or len(reason) > MAX_TEXT or len(by) > MAX_TEXT:
        raise CareError("pin_invalid", f"a pin has a name of up to {MAX_TEXT} characters", "give it another name")
    newest = image.last_tid()
    is_tid, tid = tid_of(moment) if moment else (True, newest)
    tid = tid if is_tid else min(tid, newest)
    try:
        with image.at(tid):
            pass
    except NoSuchMoment as error:
        raise CareError("moment_unknown", str(error), "pin a moment that can be looked at") from error

    def write(root: Root) -> None:
        known: Any = root.get(PINS)
        if known is None:
            known = root[PINS] = OOBTree()
        there = known.get(name)
        if there is not None and there[0] != tid:
            raise CareError(
                "pin_taken",
                f"{name!r} pins transaction {there[0]} already",
                f"choose another name, or `batos image unpin {name}` first",
            )
        if there is None and len(known) >= MAX_PINS:
            raise CareError("pin_limit", f"there are {MAX_PINS} pins", "unpin what is not needed any more")
        if there is None:
            known[name] = (tid, reason, by, time.time())

    image.run(write, user=by or "architect", note=f"pin {name}")


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
