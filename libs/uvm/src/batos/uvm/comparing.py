"""Two objects side by side, above all one with the object that it was cloned from: what was added, removed, changed.

Compared is what each has of its own. What they inherit is the same where their parents are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from BTrees.Length import Length
from ZODB.blob import Blob

from batos.uvm.blobs import read_blob
from batos.uvm.errors import NoAncestor
from batos.uvm.methods import own_methods
from batos.uvm.objects import UvmObject, slots
from batos.uvm.paths import path_of
from batos.uvm.sketch import lines_text
from batos.uvm.values import ATOMS, BTREES, COMPOSED, PersistentDict, PersistentList, PersistentSet

ANCESTOR = "ancestor"
"""The slot in which a clone names its original."""


@dataclass(frozen=True)
class Difference:
    """A slot or live method in which an object differs from the other one.

    Attributes:
        name: of the slot or method.
        kind: which of both.
        change: `added`: the other has none; `removed`: only the other has one.
        before: the other's value as text, or its method's source; empty where it has none.
        after: the object's own.
    """

    name: str
    kind: Literal["slot", "method"]
    change: Literal["added", "removed", "changed"]
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Comparison:
    """An object and another one.

    Attributes:
        path: of the object.
        other: path of the other one.
        is_ancestor: whether the object was cloned from the other one.
        parents: paths of the objects that it delegates to.
        other_parents: those of the other one.
        same_parents: whether they are the same, in the same order.
        differences: slots first, then methods, each by name; not among them the slot `ancestor`.
        same: how many slots and methods are the same.
    """

    path: str
    other: str
    is_ancestor: bool
    parents: tuple[str, ...]
    other_parents: tuple[str, ...]
    same_parents: bool
    differences: tuple[Difference, ...]
    same: int


def ancestor_of(obj: UvmObject) -> UvmObject | None:
    """The object that this one was cloned from; None where it was not. A parent's ancestor is not its own."""
    found = slots(obj).get(ANCESTOR)
    return found if isinstance(found, UvmObject) else None


def compare(obj: UvmObject, other: UvmObject | None = None) -> Comparison:
    """What an object has that another has not, and the other way round: slot by slot, method by method.

    Args:
        obj: the object.
        other: the one that it is compared with; None: its ancestor.

    Raises:
        NoAncestor: it was not cloned, and no other object is given.
    """
    ancestor = ancestor_of(obj)
    if other is None:
        other = ancestor
    if other is None:
        raise NoAncestor(path_of(obj))
    mine, theirs = _own(obj), _own(other)
    found = [_difference(name, kind, theirs, mine) for kind, name in sorted({*mine, *theirs}, key=_slots_first)]
    differences = tuple(one for one in found if one is not None)
    return Comparison(
        path=path_of(obj),
        other=path_of(other),
        is_ancestor=other is ancestor,
        parents=tuple(path_of(parent) for parent in obj.parents),
        other_parents=tuple(path_of(parent) for parent in other.parents),
        same_parents=_pairwise_the_same(obj.parents, other.parents),
        differences=differences,
        same=len(found) - len(differences),
    )


_Name = tuple[Literal["slot", "method"], str]


def _own(obj: UvmObject) -> dict[_Name, Any]:
    """An object's own slots and the sources of its own methods in force."""
    found: dict[_Name, Any] = {("slot", name): value for name, value in slots(obj).items() if name != ANCESTOR}
    found.update({("method", name): method.source for name, method in own_methods(obj).items()})
    return found


def _slots_first(name: _Name) -> tuple[bool, str]:
    return name[0] == "method", name[1]


def _difference(
    name: str, kind: Literal["slot", "method"], before: dict[_Name, Any], after: dict[_Name, Any]
) -> Difference | None:
    key = (kind, name)
    if key not in before:
        return Difference(name, kind, "added", after=lines_text(after[key]))
    if key not in after:
        return Difference(name, kind, "removed", before=lines_text(before[key]))
    if _same(before[key], after[key]):
        return None
    return Difference(name, kind, "changed", lines_text(before[key]), lines_text(after[key]))


def _same(one: Any, other: Any) -> bool:
    """Whether two values hold the same. Objects of the image are the same only where they are one object."""
    compared: dict[tuple[int, int], _Pair] = {}  # containers: they may contain themselves, or stand in many places
    ways: list[Iterator[_Pair]] = [iter([(one, other)])]
    while ways:
        pair = next(ways[-1], None)
        if pair is None:
            ways.pop()
            continue
        mine, theirs = pair
        if mine is theirs:
            continue
        kind = type(mine)
        if kind is not type(theirs):
            return False
        if kind not in _CONTAINERS:
            if _held(mine) != _held(theirs):
                return False
        elif (id(mine), id(theirs)) not in compared:
            compared[id(mine), id(theirs)] = pair
            ways.append(_pairs(mine, theirs))
    return True


def _pairs(mine: Any, theirs: Any) -> Iterator[_Pair]:
    """What has to be the same in two containers of one kind."""
    if type(mine) is PersistentDict:
        own, others = ({_held(key): value for key, value in found.items()} for found in (mine, theirs))
        yield frozenset(own), frozenset(others)
        yield from ((value, others[key]) for key, value in own.items())
    elif hasattr(mine, "items"):
        for item, other in itertools.zip_longest(mine.items(), theirs.items(), fillvalue=_NO_ITEM):
            yield from zip(item, other, strict=True)
    else:
        yield from itertools.zip_longest(mine, theirs, fillvalue=_NOTHING)


def _held(value: Any) -> Any:
    """What a value holds, so that the same is equal: 1 is not True, and what is no number is that each time."""
    kind = type(value)
    if kind is tuple or kind in _SETS:
        return kind, (tuple if kind is tuple else frozenset)(_held(item) for item in value)
    if kind in _BY_TEXT:
        return kind, repr(value)
    if kind in _READ:
        return kind, _READ[kind](value)
    return (kind, value) if kind in ATOMS or kind in COMPOSED else id(value)


_Pair = tuple[Any, Any]
_READ: dict[type, Callable[[Any], Any]] = {Blob: read_blob, Length: Length.__call__}
_BY_TEXT: frozenset[type] = frozenset({float, complex, Decimal})
_SETS: frozenset[type] = frozenset({PersistentSet, frozenset})
_CONTAINERS: frozenset[type] = BTREES.union({PersistentDict, PersistentList, tuple})
_NOTHING = object()
_NO_ITEM = (_NOTHING, _NOTHING)


def _pairwise_the_same(some: tuple[UvmObject, ...], others: tuple[UvmObject, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
