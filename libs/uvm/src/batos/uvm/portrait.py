"""An object of the image as people look at it: what it has, what it inherits from whom, how it came to be so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from persistent.timestamp import TimeStamp
from ZODB.blob import Blob
from ZODB.POSException import POSKeyError

from batos.uvm.errors import NoSuchMoment
from batos.uvm.methods import LiveMethod, own_methods
from batos.uvm.objects import UvmObject, lineage, own_names, slots
from batos.uvm.paths import path_of
from batos.uvm.places import Place
from batos.uvm.session import seen_tid
from batos.uvm.sketch import short_text, whole_text
from batos.uvm.values import BTREES

SHOWN_ITEMS = 100
"""Of a container that is looked at by itself."""


@dataclass(frozen=True)
class Entry:
    """A slot, or an item of a container.

    Attributes:
        name: of the slot, or the item's key as Python writes it.
        kind: of the value.
        shown: the value in one line, shortened.
    """

    name: str
    kind: str
    shown: str


@dataclass(frozen=True)
class Inherited:
    """A name that an object understands by one of its ancestors.

    Attributes:
        name: of the slot or method.
        holder: path of the ancestor.
    """

    name: str
    holder: str


@dataclass(frozen=True)
class Portrait:
    """What stands at a path.

    Attributes:
        path: where.
        kind: `object`, `method`, or the type of the value.
        oid: of the record that it stands in (16 hexadecimal digits); empty where it has none of its own.
        tid: the transaction that wrote this record last.
        parents: paths of the objects that it delegates to.
        entries: an object's own slots, or a container's first items.
        methods: an object's own live methods in force, or the one method itself.
        inherited: what else it understands.
        text: a value in full; a method's source.
        items: how many items a container has; -1 where it is none.
    """

    path: str
    kind: str
    oid: str = ""
    tid: str = ""
    parents: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    methods: tuple[LiveMethod, ...] = ()
    inherited: tuple[Inherited, ...] = ()
    text: str = ""
    items: int = -1


@dataclass(frozen=True)
class Change:
    """A transaction that wrote a record.

    Attributes:
        tid: 16 hexadecimal digits.
        time: seconds since the epoch.
        user: who did it.
        note: what it did.
        cycle: id of the cycle that did it; may be empty.
        mission: id of the mission that it was done for; may be empty.
        size: of the record, in bytes.
    """

    tid: str
    time: float
    user: str
    note: str
    cycle: str
    mission: str
    size: int


def portray(place: Place) -> Portrait:
    """Return what a person sees who looks there."""
    if place.method is not None:
        oid, tid = _record(place.holder)
        return Portrait(place.path, "method", oid=oid, tid=tid, methods=(place.method,), text=place.method.source)
    value = place.value
    oid, tid = _record(value)
    if isinstance(value, UvmObject):
        return Portrait(
            place.path,
            "object",
            oid=oid,
            tid=tid,
            parents=tuple(path_of(parent) for parent in value.parents),
            entries=tuple(_entry(name, found) for name, found in sorted(slots(value).items())),
            methods=tuple(method for _, method in sorted(own_methods(value).items())),
            inherited=tuple(_inherited(value)),
        )
    pairs = _pairs(value)
    if pairs is None:
        return Portrait(place.path, type(value).__name__, oid=oid, tid=tid, text=whole_text(value))
    entries = tuple(_entry(short_text(key), found) for key, found in itertools.islice(pairs, SHOWN_ITEMS))
    return Portrait(place.path, type(value).__name__, oid=oid, tid=tid, entries=entries, items=len(value))


def changes_of(place: Place, limit: int) -> list[Change]:
    """Return the transactions that wrote the record in which a place stands, the newest first.

    A plain value has no record of its own. Meant is then that of the object whose slot it is, or of the container whose
    item it is, and so the changes of all other slots and items in it; a tree is kept in parts, and the one in which the
    item lies is meant: it tells of the item's neighbours, and only since it was parted from others. A view of the past
    knows only what came until then. A storage that was packed remembers no more than since.

    Args:
        place: the place.
        limit: how many at most.
    """
    subject: Any = place.value if _record(place.value)[0] else place.holder
    oid, _ = _record(subject)
    if not oid:
        return []
    jar: Any = subject._p_jar  # noqa: SLF001 - ZODB's public protocol has underscores
    return [_change(entry) for entry in _history(jar.db().storage, bytes.fromhex(oid), seen_tid(jar.root()), limit)]


def _history(storage: Any, oid: bytes, until: str, limit: int) -> list[Any]:
    """A storage tells a record's history from now back only: ask for more until enough lies before that moment."""
    asked = limit
    while True:
        told = storage.history(oid, size=asked)
        found = [entry for entry in told if bytes(entry["tid"]).hex() <= until]
        if len(found) >= limit or len(told) < asked:
            return found[:limit]
        asked *= 2


def _change(entry: Any) -> Change:
    def words(value: Any) -> str:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")

    return Change(
        tid=bytes(entry["tid"]).hex(),
        time=TimeStamp(entry["tid"]).timeTime(),
        # ZODB stores a user behind the path of its folder, which is empty here.
        user=words(entry.get("user_name")).strip(),
        note=words(entry.get("description")),
        cycle=words(entry.get("cycle")),
        mission=words(entry.get("mission")),
        size=int(entry.get("size") or 0),
    )


def _record(value: Any) -> tuple[str, str]:
    oid = getattr(value, "_p_oid", None)
    serial = getattr(value, "_p_serial", None)
    if not isinstance(oid, bytes):
        return "", ""
    try:
        value._p_activate()  # noqa: SLF001 - ZODB's public protocol; a ghost knows no serial
    except (POSKeyError, NoSuchMoment):
        if not isinstance(value, Blob) or not value._p_serial.strip(b"\0"):  # noqa: SLF001 - as above
            raise  # a blob's record was read all the same, where its bytes are missing
    serial = value._p_serial  # noqa: SLF001 - as above
    return oid.hex(), serial.hex() if isinstance(serial, bytes) else ""


def _entry(name: str, value: Any) -> Entry:
    if isinstance(value, UvmObject):
        return Entry(name, "object", path_of(value))
    if type(value) in BTREES:
        return Entry(name, type(value).__name__, f"{len(value)} items")
    return Entry(name, type(value).__name__, short_text(value))


def _inherited(value: UvmObject) -> Iterator[Inherited]:
    seen = set(own_names(value))
    for holder in itertools.islice(lineage(value), 1, None):
        path = path_of(holder)
        for name in own_names(holder):
            if name not in seen:
                seen.add(name)
                yield Inherited(name, path)


def _pairs(value: Any) -> Iterator[tuple[Any, Any]] | None:
    if isinstance(value, str | bytes | Blob):
        return None
    if hasattr(value, "items"):
        pairs: Iterator[tuple[Any, Any]] = iter(value.items())
        return pairs
    if isinstance(value, list | tuple) or (hasattr(value, "__getitem__") and hasattr(value, "__len__")):
        return iter(enumerate(value))
    return None
