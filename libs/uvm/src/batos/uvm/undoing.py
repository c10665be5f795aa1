"""Undoing what a past transaction did, as a new transaction: nothing is rewritten, and nothing that came later is lost.

Storage's own undo fails as a whole once later transactions touched the same objects, and it would put back what must
not go back (a mission's record to running). Here each object that the transaction wrote is looked at by itself: where
it still stands as the transaction left it, its state before is written again; where something built on it, it is left,
and said.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ZODB.blob import Blob
from ZODB.utils import p64

from batos.uvm.errors import NoSuchMoment
from batos.uvm.objects import UvmObject, restore_state
from batos.uvm.paths import path_of
from batos.uvm.session import Root
from batos.uvm.values import BTREES

TID_DIGITS = 16


@dataclass(frozen=True)
class Left:
    """An object that was not restored.

    Attributes:
        path: where it stands.
        why: what stood against it.
    """

    path: str
    why: str


@dataclass(frozen=True)
class Undone:
    """What became of everything that a transaction wrote.

    Attributes:
        restored: paths of the objects that have their state of before again.
        made: how many objects the transaction made; they stay, reachable only through what was left.
        left: the others.
    """

    restored: tuple[str, ...]
    made: int
    left: tuple[Left, ...]


def undo(root: Root, tid: str, *, spared: Collection[bytes] = ()) -> Undone:
    """Restore, within the caller's transaction, what a past transaction changed wherever nothing built on it.

    Args:
        root: the image's root in that transaction.
        tid: of the past transaction, 16 hexadecimal digits.
        spared: ids of objects that are not to be looked at.

    Raises:
        NoSuchMoment: there was no such transaction, or it was packed away.
    """
    number = int(tid, 16) if len(tid) == TID_DIGITS and set(tid) <= set("0123456789abcdef") else -1
    if number < 0:
        raise NoSuchMoment(tid, f"a transaction has {TID_DIGITS} hexadecimal digits")
    jar: Any = root._p_jar  # type: ignore[attr-defined]  # noqa: SLF001 - the root is a persistent mapping
    written = [record.oid for found in jar.db().storage.iterator(p64(number), p64(number)) for record in found]
    if not written:
        raise NoSuchMoment(tid, "there was no such transaction, or it was packed away")
    restored: list[str] = []
    left: list[Left] = []
    made = 0
    for oid in written:
        if oid in spared:
            continue
        obj = jar.get(oid)
        obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
        before = jar.db().storage.loadBefore(oid, p64(number))
        why = _against(obj, tid)
        if before is None:
            made += 1
        elif why:
            left.append(Left(path_of(obj), why))
        else:
            _restore(jar, obj, before[1])
            restored.append(path_of(obj))
    return Undone(tuple(sorted(restored)), made, tuple(left))


def _against(obj: Any, tid: str) -> str:
    """Return what stands against restoring an object; empty where nothing does."""
    serial = obj._p_serial.hex()  # noqa: SLF001 - ZODB's public protocol has underscores
    if serial != tid:
        return f"it was changed again by {serial}"
    if type(obj) in BTREES:
        # A node's state of before may know children that others have emptied or filled since.
        return "it is part of a tree: what was put into it stays"
    return "its bytes are in a file of their own" if isinstance(obj, Blob) else ""


def _restore(jar: Any, obj: Any, serial: bytes) -> None:
    state = jar.oldstate(obj, serial)
    if isinstance(obj, UvmObject):
        restore_state(obj, state)
        return
    obj.__setstate__(state)
    obj._p_changed = True  # noqa: SLF001 - ZODB's public protocol has underscores
