"""What may be written: each record is looked at before it is stored, and refused with the path of what is wrong in it.

A record may hold what is immutable all the way down, and references to other records. What is written to a slot or a
twin was looked at then; what comes into trees and the root, or went round the write, is stopped here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from BTrees.Length import Length
from ZODB.blob import Blob
from ZODB.POSException import InvalidObjectReference
from ZODB.serialize import ObjectWriter

from batos.uvm.errors import BelongsToVessel, NotStorable
from batos.uvm.loading import LOADABLE, RECORDS
from batos.uvm.objects import METHODS, UvmObject
from batos.uvm.paths import path_of
from batos.uvm.values import (
    ATOMS,
    BTREES,
    COMPOSED,
    MAX_DEPTH,
    PLAIN_MUTABLE,
    TOO_DEEP,
    ImageObject,
    check_parts,
    no_attributes,
)

ROLLED_BACK = "this was new, and what made it was rolled back or aborted: nothing of it is left; make it anew"

_CONTAINERS: frozenset[type] = PLAIN_MUTABLE | {tuple, frozenset}
_INLINE: frozenset[type] = ATOMS | COMPOSED | _CONTAINERS
_BY_NAME: frozenset[type] = frozenset(LOADABLE.values())
_OWN_NAMES: dict[type, frozenset[str]] = {Length: frozenset({"value"}), Blob: frozenset({"readers", "writers"})}
_ITEMS_ONLY = frozenset({"data"})
_ITEM, _KEY = "[{!r}]", "<key {!r}>"


class GateWriter(ObjectWriter):  # type: ignore[misc]  # ZODB has no types
    """Turns objects into records, and refuses what is not of the image, with its path."""

    def __init__(self, connection: Any, stack: list[Any]) -> None:
        super().__init__()
        self._jar = connection
        self._stack = stack

    def persistent_id(self, obj: Any) -> Any:
        """ZODB's hook: called for every value in a record. None means that it is stored within the record.

        Classes come here as what makes a value again. Those that stand as values were refused before.
        """
        kind = type(obj)
        if kind in ATOMS:
            return None
        if isinstance(obj, ImageObject):
            reference = super().persistent_id(obj)
            return (reference[0], UvmObject) if type(reference) is tuple else reference
        if kind in RECORDS:
            return super().persistent_id(obj)
        if kind in _INLINE or (isinstance(obj, type) and obj in _BY_NAME):
            return None
        raise BelongsToVessel("", kind)

    def serialize(self, obj: Any) -> bytes:
        """One object's record. It always names `batos.uvm.UvmObject`, whatever shape the object wears."""
        try:
            if isinstance(obj, ImageObject):
                state: Any = obj.__getstate__()
                _check_object(state)
                return self._dump(UvmObject, state)  # type: ignore[no-any-return]  # ZODB has no types
            if type(obj) not in RECORDS:
                raise BelongsToVessel("", type(obj))
            _check_record(obj)
            return super().serialize(obj)  # type: ignore[no-any-return]  # ZODB has no types
        except NotStorable as refusal:
            raise refusal.inside(path_of(obj)) from None
        except InvalidObjectReference as foreign:
            raise NotStorable(
                path_of(obj), "it refers to an object of another session; copy that object, or write both in one"
            ) from foreign


def _check_object(state: dict[str, Any]) -> None:
    _check_all(((name, value) for name, value in state.items() if name != METHODS), ".{}", 0)
    _check_all(state.get(METHODS, {}).items(), f".{METHODS}[{{!r}}]", 0)


def _check_record(record: Any) -> None:
    """Look at what stands directly in the record of a twin, a tree, a counter, a blob or the root.

    Raises:
        NotStorable: something may not stand there; its path begins within the record.
    """
    kind = type(record)
    if kind in BTREES:
        keys, values = _tree_content(record)
        _check_all(((key, key) for key in keys), _KEY, 0)
        _check_all(zip(keys, values, strict=False), _ITEM, 0)
        return
    own = record.__dict__
    for name in own.keys() - _OWN_NAMES.get(kind, _ITEMS_ONLY):
        if name[:3] != "_p_":
            raise NotStorable(f".{name}", no_attributes(kind))
    if kind is Length:
        _check_all(own.items(), ".{}", 0)
    elif kind is not Blob:
        data = own["data"]
        if type(data) not in PLAIN_MUTABLE:
            raise BelongsToVessel(".data", type(data))
        _check_inside(data, 0)


def _check_all(items: Iterable[tuple[Any, Any]], place: str, depth: int) -> None:
    for key, value in items:
        if type(value) in ATOMS:
            continue
        try:
            _check(value, depth)
        except NotStorable as refusal:
            raise refusal.inside(place.format(key)) from None


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind in RECORDS or isinstance(value, ImageObject):
        if value._p_oid in getattr(value._p_jar, "gone", ()):  # noqa: SLF001 - ZODB's public protocol has underscores
            raise NotStorable("", ROLLED_BACK)
    elif kind in COMPOSED:
        check_parts(value)
    elif kind not in _CONTAINERS:
        raise BelongsToVessel("", kind)
    elif depth >= MAX_DEPTH:
        raise NotStorable("", TOO_DEEP)
    else:
        _check_inside(value, depth + 1)
        if kind in PLAIN_MUTABLE:
            name = kind.__name__
            raise NotStorable(
                "",
                f"changes made in place of a plain {name} here would be lost: store a Persistent{name.title()} or a "
                "tuple",
            )


def _check_inside(container: Any, depth: int) -> None:
    kind = type(container)
    if kind is dict:
        _check_all(zip(container, container, strict=True), _KEY, depth)
        _check_all(container.items(), _ITEM, depth)
    elif kind is list or kind is tuple:
        _check_all(enumerate(container), _ITEM, depth)
    else:
        _check_all(zip(container, container, strict=True), "<item>", depth)


def _tree_content(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The keys and the values that stand in a node's own record: a small tree holds its only bucket itself."""
    state = node.__getstate__()
    if state is None:
        return (), ()
    if not hasattr(node, "_next") and len(state) > 1:  # a tree of several buckets has a second part: the first bucket
        return state[0][1::2], ()
    content = state[0] if hasattr(node, "_next") else state[0][0][0]
    return (content[::2], content[1::2]) if hasattr(node, "items") else (content, ())
