"""What may be written: each record is looked at before it is stored, and refused with the path of what is wrong in it.

A record may hold what is immutable all the way down, and references to other records. What is written to a slot or a
twin was looked at then; what comes into trees and the root, or went round the write, is stopped here. What stands in
the stored record just so was let in by an earlier release: it is no reason to refuse what is written beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from BTrees.Length import Length
from ZODB.blob import Blob
from ZODB.POSException import InvalidObjectReference, POSKeyError
from ZODB.serialize import ObjectWriter

from batos.uvm.errors import BelongsToVessel, NotStorable
from batos.uvm.loading import LOADABLE, RECORDS
from batos.uvm.objects import METHODS, UvmObject
from batos.uvm.paths import path_of
from batos.uvm.sameness import same
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

ROLLED_BACK = (
    "this was new, and what made it was rolled back, aborted or is not known to be stored: nothing of it is left here; "
    "look in the image whether it is there, or make it anew"
)

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
                self._look_at(obj, state)
                return self._dump(UvmObject, state)  # type: ignore[no-any-return]  # ZODB has no types
            if type(obj) not in RECORDS:
                raise BelongsToVessel("", type(obj))
            self._look_at(obj, obj.__getstate__() if type(obj) in BTREES else obj.__dict__)
            return super().serialize(obj)  # type: ignore[no-any-return]  # ZODB has no types
        except NotStorable as refusal:
            raise refusal.inside(path_of(obj)) from None
        except InvalidObjectReference as foreign:
            raise NotStorable(
                path_of(obj), "it refers to an object of another session; copy that object, or write both in one"
            ) from foreign

    def _look_at(self, obj: Any, content: Any) -> None:
        """Refuse what may not stand directly in a record, unless it stands there already.

        Raises:
            NotStorable: its path begins within the record.
        """
        standing: Mapping[str, Any] | None = None
        for path, value, refusal in _faults(obj, content):
            if standing is None:
                standing = self._standing(obj)
            if path not in standing or not same(standing[path], value):
                raise refusal.inside(path)

    def _standing(self, obj: Any) -> Mapping[str, Any]:
        """What would be refused of an object's stored record, by its path within the record."""
        try:
            record, _ = self._jar._storage.load(obj._p_oid)  # noqa: SLF001 - ZODB gives records by no public name
        except POSKeyError:
            return {}  # it is new
        content = self._jar._reader.getState(record)  # noqa: SLF001 - as above
        readable = type(obj) in BTREES or isinstance(content, dict)  # a counter's is a number, a blob has none
        return {path: value for path, value, _ in _faults(obj, content)} if readable else {}


def is_left_over(obj: Any) -> bool:
    """Whether an object's connection knows another one by its id, or none: it was new, and was not stored."""
    jar = obj._p_jar  # noqa: SLF001 - ZODB's public protocol has underscores
    return jar is not None and jar._cache.get(obj._p_oid) is not obj  # noqa: SLF001 - there is no public name for it


_Fault = tuple[str, Any, NotStorable]
"""A path, what stands there, and why it may not."""


def _faults(record: Any, content: Any) -> Iterator[_Fault]:
    """Tell what may not stand directly in a record, with its path within the record.

    Args:
        record: whose it is.
        content: a tree's or an object's state; the attributes of a twin, a counter, a blob or the root.
    """
    kind = type(record)
    if isinstance(record, ImageObject):
        yield from _faulty(((name, value) for name, value in content.items() if name != METHODS), ".{}", 0)
        yield from _faulty(content.get(METHODS, {}).items(), f".{METHODS}[{{!r}}]", 0)
        return
    if kind in BTREES:
        keys, values = _tree_content(record, content)
        yield from _faulty(((key, key) for key in keys), _KEY, 0)
        yield from _faulty(zip(keys, values, strict=False), _ITEM, 0)
        return
    for name in content.keys() - _OWN_NAMES.get(kind, _ITEMS_ONLY):
        if name[:3] != "_p_":
            yield f".{name}", content[name], NotStorable("", no_attributes(kind))
    if kind is Length:
        yield from _faulty(content.items(), ".{}", 0)
    elif kind is not Blob:
        data = content["data"]
        if type(data) not in PLAIN_MUTABLE:
            yield ".data", data, BelongsToVessel("", type(data))
            return
        for items, place in _inside(data):
            yield from _faulty(items, place, 0)


def _faulty(items: Iterable[tuple[Any, Any]], place: str, depth: int) -> Iterator[_Fault]:
    for key, value in items:
        if type(value) in ATOMS:
            continue
        try:
            _check(value, depth)
        except NotStorable as refusal:
            yield place.format(key), value, refusal


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind in RECORDS or isinstance(value, ImageObject):
        if value._p_changed is None and is_left_over(value):  # noqa: SLF001 - ZODB's public protocol has underscores
            raise NotStorable("", ROLLED_BACK)
    elif kind in COMPOSED:
        check_parts(value)
    elif kind not in _CONTAINERS:
        raise BelongsToVessel("", kind)
    elif depth >= MAX_DEPTH:
        raise NotStorable("", TOO_DEEP)
    else:
        for items, place in _inside(value):
            for path, _, refusal in _faulty(items, place, depth + 1):
                raise refusal.inside(path)
        if kind in PLAIN_MUTABLE:
            name = kind.__name__
            raise NotStorable(
                "",
                f"changes made in place of a plain {name} here would be lost: store a Persistent{name.title()} or a "
                "tuple",
            )


def _inside(container: Any) -> tuple[tuple[Iterable[tuple[Any, Any]], str], ...]:
    """What stands in a plain container: keys and values, and how their places are written."""
    kind = type(container)
    if kind is dict:
        return (zip(container, container, strict=True), _KEY), (container.items(), _ITEM)
    if kind is list or kind is tuple:
        return ((enumerate(container), _ITEM),)
    return ((zip(container, container, strict=True), "<item>"),)


def _tree_content(node: Any, state: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The keys and the values that stand in a node's own record: a small tree holds its only bucket itself."""
    if state is None:
        return (), ()
    if not hasattr(node, "_next") and len(state) > 1:  # a tree of several buckets has a second part: the first bucket
        return state[0][1::2], ()
    content = state[0] if hasattr(node, "_next") else state[0][0][0]
    return (content[::2], content[1::2]) if hasattr(node, "items") else (content, ())
