"""Undoing what a past transaction did, as a new transaction: nothing is rewritten, and nothing that came later is lost.

Storage's own undo fails as a whole once later transactions touched the same objects, and it would put back what must
not go back (a mission's record to running). Here each object that the transaction wrote is looked at by itself: where
it still stands as the transaction left it, its state before is written again; where something built on it, it is left,
and said. So is what would cut off something else that stays, and what would become its own ancestor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from BTrees.Length import Length
from ZODB.blob import Blob

from batos.uvm.errors import ParentCycle
from batos.uvm.objects import PARENTS, UvmObject, own_parents, refuse_cycle, restore_state
from batos.uvm.paths import paths_of
from batos.uvm.session import Root
from batos.uvm.values import BTREES
from batos.uvm.written import Written, written_in

_TREE = "it is part of a tree: what was put into it stays"


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
        made: how many objects the transaction made that nothing was built on; they stay, reachable only through what
            was left.
        left: the others.
    """

    restored: tuple[str, ...]
    made: int
    left: tuple[Left, ...]


def undo(root: Root, tid: str, *, spared: Collection[bytes] = ()) -> Undone:
    """Restore, within the caller's transaction, what a past transaction changed wherever nothing built on it.

    Objects are named by the paths that they have afterwards; where none is found in bounded work, by class and id.

    Args:
        root: the image's root in that transaction.
        tid: of the past transaction, 16 hexadecimal digits.
        spared: ids of objects that stay as they are and are not told of.

    Raises:
        NoSuchMoment: there was no such transaction, or what stood before it was packed away; nothing was changed.
    """
    written = {one.oid: one for one in written_in(root, tid)}
    staying = _staying(written, spared)
    told = {oid: why for oid, why in staying.items() if why.words}
    made = [one for oid, one in written.items() if one.made and oid not in told]
    restored = [one for oid, one in written.items() if not one.made and oid not in staying]
    jar: Any = root._p_jar  # type: ignore[attr-defined]  # noqa: SLF001 - the root is a persistent mapping
    for one in made:
        jar.readCurrent(one.obj)  # others may be about to build on it
    for one in restored:
        _restore(one)
    named = {*told, *(why.about for why in told.values() if why.about), *(one.oid for one in restored)}
    paths = paths_of(jar.get(oid) for oid in named)
    # In a set, because all parts of a tree have one path.
    left = {Left(paths[oid], why.words + (f" {paths[why.about]}" if why.about else "")) for oid, why in told.items()}
    return Undone(
        restored=tuple(sorted(paths[one.oid] for one in restored)),
        made=len(made),
        left=tuple(sorted(left, key=lambda one: (one.path, one.why))),
    )


@dataclass(frozen=True)
class _Reason:
    """Why an object stays as it is.

    Attributes:
        words: for people; empty where they are not told of the object.
        about: id of the object that the words end with.
    """

    words: str = ""
    about: bytes | None = None


def _staying(written: dict[bytes, Written], spared: Collection[bytes]) -> dict[bytes, _Reason]:
    """Return what is not restored, or stays in use, by ids, and why."""
    staying = {oid: _Reason(words) for oid, one in written.items() if (words := _against(one))}
    staying.update({oid: _Reason() for oid in spared if oid in written})
    _spread(staying, written)
    while cycle := _cycle(staying, written):
        staying.update(cycle)
        _spread(staying, written)
    if any(type(one.obj) in BTREES and _in_use(one, staying, written) for one in written.values()):
        counts = (oid for oid, one in written.items() if type(one.obj) is Length and not one.made)
        staying = {oid: _Reason("it counts a tree, and what was put into that stays") for oid in counts} | staying
    return staying


def _against(one: Written) -> str:
    """Return what stands against letting go of an object's newest state; empty where nothing does by itself."""
    if type(one.obj) in BTREES:
        # A node's state of before may know children that others have emptied or filled since.
        return "" if one.made and not one.again else _TREE
    if one.again:
        return f"it was {'made then, and ' if one.made else ''}changed again {one.again}"
    return "its bytes are in a file of their own" if isinstance(one.obj, Blob) and not one.made else ""


def _spread(staying: dict[bytes, _Reason], written: dict[bytes, Written]) -> None:
    """Let stay, too, what alone leads to something else that does: made then, or taken from where it cannot return."""
    gainers, losers = defaultdict[bytes, set[bytes]](set), defaultdict[bytes, set[bytes]](set)
    for one in written.values():
        for oid in one.gained:
            gainers[oid].add(one.oid)
        for oid in one.lost:
            losers[oid].add(one.oid)
    todo = list(staying)
    while todo:
        one = written[todo.pop()]
        cut_off = {oid for oid in one.lost if losers[oid] <= staying.keys()} | ({one.oid} if one.made else set())
        for oid in sorted(cut_off):
            for holder in sorted(holder for holder in gainers[oid] if holder not in staying):
                staying[holder] = _Reason() if written[holder].made else _Reason("restored, it would cut off", oid)
                todo.append(holder)


def _cycle(staying: dict[bytes, _Reason], written: dict[bytes, Written]) -> dict[bytes, _Reason]:
    """Return the first object that would become its own ancestor if all that does not stay were restored."""
    before: dict[int, tuple[UvmObject, ...]] = {
        id(one.obj): one.before[PARENTS]
        for oid, one in written.items()
        if isinstance(one.obj, UvmObject) and not one.made and oid not in staying
    }

    def parents_then(ancestor: UvmObject) -> tuple[UvmObject, ...]:
        return before[id(ancestor)] if id(ancestor) in before else own_parents(ancestor)

    for oid, one in written.items():
        if id(one.obj) in before and before[id(one.obj)] != own_parents(one.obj):
            try:
                refuse_cycle(one.obj, before[id(one.obj)], parents_then)
            except ParentCycle as refusal:
                return {oid: _Reason(refusal.reason)}
    return {}


def _in_use(one: Written, staying: dict[bytes, _Reason], written: dict[bytes, Written]) -> bool:
    """Say whether an object stays, or something that does refers to it since."""
    return one.oid in staying or any(one.oid in written[oid].gained for oid in staying)


def _restore(one: Written) -> None:
    if isinstance(one.obj, UvmObject):
        restore_state(one.obj, one.before)
        return
    one.obj.__setstate__(one.before)
    one.obj._p_changed = True  # noqa: SLF001 - ZODB's public protocol has underscores
