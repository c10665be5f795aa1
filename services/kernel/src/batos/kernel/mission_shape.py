"""The slots of a mission's record: all of them are there from its beginning.

In an image of version 1 a record has the slots of what has happened to it so far, and one that is COMPLETE tells the
transaction of its thought only by having been written last in it: nothing can ever be written to it again. Since
version 2 every record has every slot, and whoever writes one that has ended notes the transactions of its past there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from batos.uvm import slots

COMPLETE = "COMPLETE"
UNDONE = "UNDONE"

AT_FIRST: Mapping[str, Any] = {
    "answer": "",
    "error": "",
    "personas": (),
    "weaver": "",
    "model": "",
    "adapter": "",
    "dna_version": 0,
    "usage": (0, 0),
    "duration_ms": 0,
    "thought": None,
    "thought_tid": "",
    "undone_tid": "",
    "restored": (),
    "made": 0,
    "left": (),
}
"""What a record holds of what has not happened yet. A transaction's slot is also empty as long as that transaction is
the one that wrote the record last: nobody knows the name of a transaction within it."""


def whole(record: Any) -> dict[str, Any]:
    """Return every slot of a record. Image version 1: those that it lacks are as if nothing had happened."""
    return {**AT_FIRST, **slots(record)}


def is_whole(record: Any) -> bool:
    """Say whether a record has the shape of image version 2."""
    return slots(record).keys() >= AT_FIRST.keys()


def make_whole(record: Any) -> bool:
    """Give a record of an image of version 1 the shape of version 2; return whether that changed anything."""
    if is_whole(record):
        return False
    found = {**whole(record), **_transactions(record)}
    for name in AT_FIRST:
        setattr(record, name, found[name])
    return True


def thought_tid(record: Any) -> str:
    """Return the transaction that a mission's thought committed as; empty where none did."""
    if record.state not in {COMPLETE, UNDONE}:
        return ""
    return _transactions(record)["thought_tid"]


def undone_tid(record: Any) -> str:
    """Return the transaction in which a mission's thought was undone; empty where none did."""
    return _transactions(record)["undone_tid"] if record.state == UNDONE else ""


def _transactions(record: Any) -> dict[str, str]:
    """Return the transactions that a record names, the one that wrote it last among them."""
    own = whole(record)
    named = {name: str(own[name]) for name in ("thought_tid", "undone_tid")}
    last = {COMPLETE: "thought_tid", UNDONE: "undone_tid"}.get(own["state"])
    if last is not None and not named[last]:
        named[last] = cast(bytes, record._p_serial).hex()  # noqa: SLF001 - ZODB's public protocol; it was read above
    return named
