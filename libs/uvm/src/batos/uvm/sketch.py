"""Values as people read them: always text that can be sent and printed, and never more of it than is asked for.

A value of the image may contain itself, stand in many places of another one, be as deep or as large as it likes. What
is written of it here is made from a sketch: plain containers of bounded size that look like it.
"""

from __future__ import annotations

import hashlib
import pprint
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.POSException import POSKeyError

from batos.uvm.errors import NoSuchMoment
from batos.uvm.paths import path_of
from batos.uvm.values import BTREES, ImageObject, PersistentDict, PersistentList, PersistentSet

SHORT_CHARS = 200
"""Of a value that stands in a list; a value that is looked at by itself is shown in full, up to `WHOLE_CHARS`."""
SHORT_ITEMS = 8
SHORT_DEPTH = 3
WHOLE_CHARS = 100_000
WHOLE_DEPTH = 32
LINE_CHARS = 100
"""Of a value that is written in lines."""
INTEGER_BITS = 10_000
"""Python refuses to write integers that are much larger."""
HASH_CHARS = 12


def short_text(value: Any) -> str:
    """A value in one line, shortened."""
    return _cut(repr(_Sketch(SHORT_CHARS, SHORT_ITEMS, SHORT_DEPTH).of(value)), SHORT_CHARS)


def whole_text(value: Any) -> str:
    """A value as Python writes it, a text as it is, a blob with its size and hash; cut where it is very long."""
    if type(value) is Blob:
        return _of_blob(value)
    return _printable(_long(value)) if isinstance(value, str) else _cut(repr(_whole_sketch(value)), WHOLE_CHARS)


def lines_text(value: Any) -> str:
    """A value in lines, so that two of them can be compared line by line; cut where it is very long."""
    if isinstance(value, str | Blob):
        return whole_text(value)
    if isinstance(value, ImageObject):
        return path_of(value)
    return _cut(pprint.pformat(_whole_sketch(value), width=LINE_CHARS), WHOLE_CHARS)


def _whole_sketch(value: Any) -> Any:
    return _Sketch(WHOLE_CHARS, WHOLE_CHARS, WHOLE_DEPTH).of(value)


def _long(text: str) -> str:
    return text if len(text) <= WHOLE_CHARS else f"{text[:WHOLE_CHARS]}… ({len(text)} characters)"


def _cut(text: str, chars: int) -> str:
    return _printable(text if len(text) <= chars else f"{text[: chars - 1]}…")


def _printable(text: str) -> str:
    """Halves of surrogate pairs belong in no text that is sent."""
    return text.encode("utf-8", "backslashreplace").decode()


class _Words:
    """Stands in a sketch for what is not written as it is. No two are equal, however they read."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __lt__(self, other: object) -> bool:
        return repr(self) < repr(other)


_REST = _Words("…")
_ITSELF = _Words("<itself>")


@dataclass
class _Sketch:
    """What makes a sketch of one value.

    Attributes:
        chars: how much may still be written, about.
        items: how many of a container's items are looked at.
        depth: how deep containers are looked into.
    """

    chars: int
    items: int
    depth: int
    _around: set[int] = field(default_factory=set)
    """The containers around what is looked at."""

    def of(self, value: Any) -> Any:
        """Return the sketch of a value; itself where it is one."""
        kind = type(value)
        if kind is Length:
            return self.of(value())
        if kind not in _MAPS and kind not in _ROWS:
            told = _told(value, max(0, self.chars))
            self.chars -= len(told) if isinstance(told, str | bytes) else len(repr(told))
            return told
        if id(value) in self._around:
            return _ITSELF
        if len(self._around) >= self.depth:
            return _REST
        self._around.add(id(value))
        self.chars -= 2
        found = self._map(value) if kind in _MAPS else _ROWS[kind](self._row(value, hashed=kind in _HASHED))
        self._around.discard(id(value))
        return found

    def _map(self, value: Any) -> dict[Any, Any]:
        some = self._some(value.items(), (_REST, _REST))
        return {self._hashable(key): self.of(item) for key, item in some}

    def _row(self, value: Any, *, hashed: bool) -> Iterator[Any]:
        return (self._hashable(item) if hashed else self.of(item) for item in self._some(value, _REST))

    def _some(self, items: Iterable[Any], rest: Any) -> Iterator[Any]:
        """The items that are looked at, and what stands for those that are not."""
        for seen, item in enumerate(items):
            if seen >= self.items or self.chars <= 0:
                yield rest
                return
            yield item

    def _hashable(self, value: Any) -> Any:
        told = self.of(value)
        return told if type(told) not in _ROWS and type(told) not in _MAPS else _Words(repr(told))


def _told(value: Any, chars: int) -> Any:
    """What is written for a value that is no container."""
    kind = type(value)
    if kind is int and value.bit_length() > INTEGER_BITS:
        return _Words(f"<an integer of {value.bit_length()} bits>")
    if kind in (str, bytes) and len(value) > chars:
        return _Words(f"{value[:chars]!r}…")
    if kind is Blob:
        return _Words("<a blob>")  # its bytes may be many, and elsewhere
    return value


def _of_blob(blob: Blob) -> str:
    try:
        opened = blob.open("r")
    except (POSKeyError, NoSuchMoment):  # a view of the past says it with the latter
        return "<a blob whose bytes are missing>"
    with opened as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        return f"<a blob of {source.tell()} bytes, SHA-256 {digest[:HASH_CHARS]}…>"


_MAPS: frozenset[type] = frozenset({dict, PersistentDict, PersistentMapping}).union(
    kind for kind in BTREES if hasattr(kind, "items")
)
_ROWS: dict[type, type] = {
    list: list, PersistentList: list, tuple: tuple, set: set, PersistentSet: set, frozenset: frozenset,
    **dict.fromkeys(BTREES - _MAPS, list),
}  # fmt: skip
"""Containers of items, and what their sketches are."""
_HASHED: frozenset[type] = frozenset({set, PersistentSet, frozenset})
