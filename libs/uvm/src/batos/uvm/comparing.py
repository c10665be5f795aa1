"""Two objects side by side, above all one with the object that it was cloned from: what was added, removed, changed.

Compared is what each has of its own. What they inherit is the same where their parents are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from BTrees.Length import Length
from ZODB.blob import Blob

from batos.uvm.blobs import read_blob
from batos.uvm.errors import NoAncestor
from batos.uvm.methods import own_methods
from batos.uvm.objects import UvmObject, slots
from batos.uvm.paths import path_of
from batos.uvm.portrait import whole_text
from batos.uvm.values import BTREES, PersistentDict, PersistentList, PersistentSet

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
        return Difference(name, kind, "added", after=whole_text(after[key]))
    if key not in after:
        return Difference(name, kind, "removed", before=whole_text(before[key]))
    if _same(before[key], after[key], set()):
        return None
    return Difference(name, kind, "changed", whole_text(before[key]), whole_text(after[key]))


def _same(one: Any, other: Any, comparing: set[tuple[int, int]]) -> bool:
    """Whether two values hold the same. Objects of the image are the same only where they are one object.

    Args:
        one: a value.
        other: another one.
        comparing: the containers that are being compared, by identity: a value may contain itself.
    """
    kind = type(one)
    if one is other or isinstance(one, UvmObject) or kind is not type(other):
        return one is other
    if kind in _READ:
        return bool(_READ[kind](one) == _READ[kind](other))
    if kind not in _CONTAINERS:
        return bool(one == other)
    pair = (id(one), id(other))
    if pair in comparing:
        return True
    if kind is not tuple:  # a tuple may be made for this comparison alone, and its identity be given to the next one
        comparing.add(pair)
    if kind is PersistentDict:
        return one.keys() == other.keys() and all(_same(value, other[key], comparing) for key, value in one.items())
    pairs = itertools.zip_longest(_items(one), _items(other), fillvalue=_NOTHING)
    return all(_same(mine, theirs, comparing) for mine, theirs in pairs)


_READ: dict[type, Callable[[Any], Any]] = {Blob: read_blob, Length: Length.__call__, PersistentSet: set}
_PLAIN_CONTAINERS: tuple[type, ...] = (PersistentDict, PersistentList, tuple)
_CONTAINERS = BTREES.union(_PLAIN_CONTAINERS)
_NOTHING = object()


def _items(value: Any) -> Iterator[Any]:
    return iter(value.items() if hasattr(value, "items") else value)


def _pairwise_the_same(some: tuple[UvmObject, ...], others: tuple[UvmObject, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
