"""What may stand in a slot: a closed set of types, checked when written; plain containers become persistent twins.

A list, dict or set that is changed in place has to tell its image so. Plain ones cannot; therefore they are stored as
twins that can, and the twins convert what is put into them in the same way. Trees (BTrees) and the image's root convert
nothing: there a plain list, dict or set is refused when it is committed.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSet
from importlib import import_module
from types import NoneType
from typing import Any, Self

from BTrees.Length import Length
from persistent import Persistent
from persistent.list import PersistentList as _ListBase
from persistent.mapping import PersistentMapping as _MappingBase
from ZODB.blob import Blob

from batos.uvm.blobs import store_blob
from batos.uvm.errors import BelongsToVessel, NotStorable

MAX_DEPTH = 100
"""How deeply plain containers may be nested in one value."""
TOO_DEEP = f"nested more than {MAX_DEPTH} deep, or containing itself"

BTREE_FAMILIES = ("OO", "OI", "OL", "IO", "LO", "II", "LL")


class ImageObject(Persistent):  # type: ignore[misc]  # ZODB has no types
    """The root of `UvmObject`, so that values can be told without knowing objects."""


def _btree_kinds() -> Iterator[type]:
    for family in BTREE_FAMILIES:
        module = import_module(f"BTrees.{family}BTree")
        for kind in ("BTree", "Bucket", "TreeSet", "Set"):
            yield getattr(module, family + kind)


BTREES: frozenset[type] = frozenset(_btree_kinds())
"""Trees, tree sets and their buckets. What stands in them is checked when it is committed."""

ATOMS: frozenset[type] = frozenset({
    NoneType, bool, int, float, complex, str, bytes,
    dt.date, dt.timedelta, decimal.Decimal,
})  # fmt: skip
"""Plain immutable values, told by their exact type."""

COMPOSED: frozenset[type] = frozenset({dt.datetime, dt.time, dt.timezone, uuid.UUID})
"""Immutable too, where all that they are made of is: a zone of time that is a fixed offset, plain names and numbers."""

PLAIN_MUTABLE: frozenset[type] = frozenset({list, dict, set})


class ItemsOnly(Persistent):  # type: ignore[misc]  # ZODB has no types
    """A container whose record is its items. An attribute beside them would hold what nobody watches."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "data" and name[:3] != "_p_":
            raise NotStorable(f"{_path_of(self)}.{name}", no_attributes(type(self)))
        super().__setattr__(name, value)


class PersistentList(ItemsOnly, _ListBase):  # type: ignore[misc]  # ZODB has no types
    """A list that knows when it is changed and lets in only what may be stored."""

    __module__ = "batos.uvm"

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__([_at(self, f"[{place}]", item) for place, item in enumerate(items)])

    def append(self, item: Any) -> None:
        """Add an item at the end."""
        super().append(_at(self, f"[{len(self)}]", item))

    def insert(self, i: int, item: Any) -> None:
        """Insert an item before position `i`."""
        super().insert(i, _at(self, f"[{i}]", item))

    def extend(self, other: Iterable[Any]) -> None:
        """Add all items at the end, or none where one is refused."""
        super().extend([_at(self, f"[{place}]", item) for place, item in enumerate(other, len(self))])

    def __iadd__(self, other: Iterable[Any]) -> Self:
        self.extend(other)
        return self

    def __setitem__(self, i: int | slice, item: Any) -> None:
        if isinstance(i, slice):
            super().__setitem__(i, [_at(self, f"[{place}]", value) for place, value in enumerate(item)])
        else:
            super().__setitem__(i, _at(self, f"[{i}]", item))

    def __copy__(self) -> PersistentList:
        return PersistentList(self.data)


class PersistentDict(ItemsOnly, _MappingBase):  # type: ignore[misc]  # ZODB has no types
    """A dict that knows when it is changed and lets in only what may be stored."""

    __module__ = "batos.uvm"

    def __init__(self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), **named: Any) -> None:
        super().__init__()
        given = dict(items, **named)
        if given:
            self.update(given)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_at(self, f"<key {key!r}>", key), _at(self, f"[{key!r}]", value))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value under `key`, which becomes `default` where there was none."""
        if key not in self.data:
            self[key] = default
        return self.data[key]

    def update(self, *args: Any, **named: Any) -> None:
        """Take over all items, or none where one is refused."""
        given = dict(*args, **named)
        super().update(
            {_at(self, f"<key {key!r}>", key): _at(self, f"[{key!r}]", value) for key, value in given.items()}
        )

    def __ior__(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> Self:
        self.update(other)
        return self

    def copy(self) -> PersistentDict:
        """A new dict with the same items (the items themselves are not copied)."""
        return PersistentDict(self.data)

    def __copy__(self) -> PersistentDict:
        return self.copy()


class PersistentSet(ItemsOnly, MutableSet[Any]):
    """A set that knows when it is changed and lets in only what may be stored."""

    __module__ = "batos.uvm"

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self.data = {_at(self, "<item>", item) for item in items}

    def __contains__(self, item: object) -> bool:
        return item in self.data

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"PersistentSet({sorted(self.data, key=repr)!r})"

    def add(self, value: Any) -> None:
        """Put an item in."""
        if value not in self.data:
            self.data.add(_at(self, "<item>", value))
            self._p_changed = True

    def discard(self, value: Any) -> None:
        """Take an item out, if it is there."""
        if value in self.data:
            self.data.discard(value)
            self._p_changed = True

    def __getstate__(self) -> dict[str, Any]:
        self._p_activate()
        return {"data": sorted(self.data, key=repr)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__["data"] = set(state["data"])


TWINS: frozenset[type] = frozenset({PersistentList, PersistentDict, PersistentSet})
PERSISTENT_VALUES: frozenset[type] = TWINS | BTREES | {Blob, Length}
"""Records of their own that may stand in a slot, beside `UvmObject`."""


def admit(value: Any) -> Any:
    """What a slot stores for `value`: itself, or its persistent twin.

    Raises:
        NotStorable: the value, or something in it, may not stand in the image; its path begins within the value.
    """
    kind = type(value)
    if kind in ATOMS or kind in PERSISTENT_VALUES or isinstance(value, ImageObject):
        return value
    return _convert(value, kind, 0)


def _at(container: Any, place: str, value: Any) -> Any:
    try:
        return admit(value)
    except NotStorable as refusal:
        way = _path_of(container) if container._p_jar is not None else ""  # noqa: SLF001 - ZODB's public protocol
        raise refusal.inside(way + place) from None


def _path_of(container: Any) -> str:
    from batos.uvm.paths import path_of  # noqa: PLC0415 - paths are made of values

    return path_of(container)


def no_attributes(kind: type) -> str:
    """What to say of an attribute that was given to a twin, a counter or a blob."""
    return f"a {kind.__name__} keeps no attributes of its own; write this to a slot of an object"


def _convert(value: Any, kind: type, depth: int) -> Any:
    if kind in COMPOSED:
        check_parts(value)
        return value
    convert = _CONVERTERS.get(kind)
    if convert is None:
        raise BelongsToVessel("", kind)
    if depth >= MAX_DEPTH:
        raise NotStorable("", TOO_DEEP)
    return convert(value, depth + 1)


def check_parts(value: Any) -> None:
    """Make sure that a composed value is made of plain ones only: pickle would write others by their own classes.

    Raises:
        BelongsToVessel: it is not; its path begins within the value.
    """
    for place, part in _parts(value):
        if type(part) not in ATOMS:
            raise BelongsToVessel(place, type(part))


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    if type(value) is uuid.UUID:
        yield ".int", value.int
    elif type(value) is dt.timezone:
        yield ".utcoffset()", value.utcoffset(None)
        yield ".tzname()", value.tzname(None)
    elif type(value.tzinfo) is dt.timezone:
        yield from ((f".tzinfo{place}", part) for place, part in _parts(value.tzinfo))
    else:
        yield ".tzinfo", value.tzinfo


def _inner(place: str, value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in ATOMS or kind in PERSISTENT_VALUES or isinstance(value, ImageObject):
        return value
    try:
        return _convert(value, kind, depth)
    except NotStorable as refusal:
        raise refusal.inside(place) from None


def _list(value: list[Any], depth: int) -> PersistentList:
    twin = PersistentList()
    twin.data = [_inner(f"[{place}]", item, depth) for place, item in enumerate(value)]
    return twin


def _dict(value: dict[Any, Any], depth: int) -> PersistentDict:
    twin = PersistentDict()
    twin.data = {_inner(f"<key {key!r}>", key, depth): _inner(f"[{key!r}]", item, depth) for key, item in value.items()}
    return twin


def _set(value: set[Any], depth: int) -> PersistentSet:
    twin = PersistentSet()
    twin.data = {_inner("<item>", item, depth) for item in value}
    return twin


def _tuple(value: tuple[Any, ...], depth: int) -> tuple[Any, ...]:
    return tuple(_inner(f"[{place}]", item, depth) for place, item in enumerate(value))


def _frozenset(value: frozenset[Any], depth: int) -> frozenset[Any]:
    return frozenset(_inner("<item>", item, depth) for item in value)


_CONVERTERS: dict[type, Callable[[Any, int], Any]] = {
    list: _list,
    dict: _dict,
    set: _set,
    tuple: _tuple,
    frozenset: _frozenset,
}


def plain(value: Any) -> Any:
    """The plain lists, dicts and sets that persistent twins stand for, all the way down; other values as they are.

    A value that stands in several places is made once, and stands in all of them again.

    Raises:
        NotStorable: it contains itself, or is nested too deeply to be told.
    """
    return _plain(value, {}, 0)


def _plain(value: Any, made: dict[int, Any], depth: int) -> Any:
    kind = type(value)
    if kind not in _TOLD:
        return value
    found = made.get(id(value))
    if depth >= MAX_DEPTH or found is _BEING_MADE:
        raise NotStorable("", TOO_DEEP)
    if found is not None:
        return found
    made[id(value)] = _BEING_MADE
    if hasattr(value, "items"):
        found = {_plain(key, made, depth + 1): _plain(item, made, depth + 1) for key, item in value.items()}
    else:
        items = [_plain(item, made, depth + 1) for item in value]
        found = items if kind is list or kind is PersistentList else tuple(items) if kind is tuple else set(items)
    made[id(value)] = found
    return found


_TOLD: frozenset[type] = TWINS | PLAIN_MUTABLE | {tuple, _MappingBase}
_BEING_MADE = object()


def copy_value(value: Any, copied: dict[int, Any] | None = None) -> Any:
    """A deep copy of what stands in a slot. Objects of the image in it are not copied but referred to.

    Args:
        value: what to copy.
        copied: the copies already made, by the identity of their originals (values may contain themselves).
    """
    copied = {} if copied is None else copied
    kind = type(value)
    if kind in ATOMS or kind in COMPOSED or isinstance(value, ImageObject):
        return value
    if id(value) in copied:
        return copied[id(value)]
    if kind is tuple or kind is frozenset:
        return kind(copy_value(item, copied) for item in value)
    if kind is Length:
        return Length(value())
    if kind is Blob:
        with value.open("r") as source:
            return store_blob(source.read())
    twin = copied[id(value)] = kind()
    if kind is PersistentList:
        twin.extend(copy_value(item, copied) for item in value)
    elif hasattr(value, "items"):
        twin.update({copy_value(key, copied): copy_value(item, copied) for key, item in value.items()})
    elif kind is PersistentSet:
        for item in value:
            twin.add(copy_value(item, copied))
    else:
        twin.update(copy_value(item, copied) for item in value)
    return twin
