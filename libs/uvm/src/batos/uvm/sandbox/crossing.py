"""Values on their way into the sandbox and out of it: plain data is copied, objects become handles."""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Callable
from types import NoneType
from typing import Any

from persistent.mapping import PersistentMapping

from batos.uvm.sandbox.limits import Limits
from batos.uvm.values import PersistentDict, PersistentList, PersistentSet

_SIMPLE: frozenset[type] = frozenset({
    NoneType, bool, float, complex, dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
})  # fmt: skip
_MAPPINGS: frozenset[type] = frozenset({dict, PersistentDict, PersistentMapping})
_LISTS: frozenset[type] = frozenset({list, PersistentList})
_SETS: frozenset[type] = frozenset({set, PersistentSet})

_WEIGHED: frozenset[type] = frozenset({str, bytes, int, decimal.Decimal})
MAX_EXPONENT = 4_000
"""Of a decimal number: larger ones are small to look at, and fill the memory when they are made whole."""
PART_BYTES = 32
"""What a part of a value takes at least, in an interpreter's memory."""
MAX_DIGIT_BITS = 13_000
"""Larger whole numbers do not cross: CPython refuses to write them down."""

_TYPE = r"(?:int|float|str|bool|bytes|complex|list|dict|set|frozenset|tuple|type|None)"
_SHOWN_INSTEAD = re.compile(
    r"<(?:class|function|bound method|built-in|module|(?:[\w.]+ )?[\w.]+ object|\w+_iterator)\b.*>"
    r"|dict_(?:keys|values|items)\(.*\)|range\(-?\d+, -?\d+(?:, -?\d+)?\)|slice\(.*\)|re\.compile\(.*\)"
    r"|functools\.partial\(.*\)|Context\(prec=.*\)|Field\(name=.*\)"
    rf"|typing\.\w+(?:\[.*\])?|{_TYPE}(?: \| {_TYPE})+|(?:list|dict|set|frozenset|tuple|type)\[[\w., |\[\]]*\]"
    r"|\[\.\.\.\]|\{\.\.\.\}|<deeply nested>",
    re.DOTALL,
)
"""What the sandbox's Python hands over in place of what is no data: its text, without a word.

Nothing tells it from a text that reads the same. So such a text is taken for one only where it is known to be one: it
came into the sandbox, or stands in the source.
"""


def reads_like_no_data(text: str) -> bool:
    """Whether a text reads like what the sandbox hands over in place of something else."""
    return _SHOWN_INSTEAD.fullmatch(text) is not None


class Stopped(Exception):  # noqa: N818 - it is what happened
    """A value does not cross, or a rule is broken. Told without the method's name, which the call adds."""

    def __init__(self, rule: str, detail: str, *, limit: bool = False) -> None:
        self.rule = rule
        self.detail = detail
        self.limit = limit
        super().__init__(detail)


class Crossing:
    """One value on its way.

    Args:
        limits: how large it may be.
        objects: what becomes of what is no plain data: an object of the image or of the vessel (in), a handle (out);
            raises `Stopped` where it does not cross.
        texts: texts that read like something that is no data, and are known to be texts; more are added on the way in.
    """

    def __init__(self, limits: Limits, objects: Callable[[Any], Any], texts: set[str]) -> None:
        self._limits = limits
        self._objects = objects
        self._texts = texts
        self._items = limits.value_items
        self._bytes = limits.value_bytes

    @property
    def weight(self) -> int:
        """About how many bytes crossed."""
        parts = self._limits.value_items - self._items
        return parts * PART_BYTES + self._limits.value_bytes - self._bytes

    def into(self, value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one branch a kind of value
        """A value of the image as the sandbox gets it."""
        kind = type(value)
        self._count(depth)
        if kind in _SIMPLE:
            return value
        if kind in _WEIGHED:
            self._weigh(value)
            if kind is str and reads_like_no_data(value):
                self._texts.add(value)
            return value
        if kind in _LISTS:
            self._fits(len(value))
            return [self.into(item, depth + 1) for item in value]
        if kind in _MAPPINGS:
            self._fits(2 * len(value))
            return {self.into(key, depth + 1): self.into(item, depth + 1) for key, item in value.items()}
        if kind in _SETS or kind is frozenset:
            self._fits(len(value))
            return (frozenset if kind is frozenset else set)(self.into(item, depth + 1) for item in value)
        if kind is tuple:
            return tuple(self.into(item, depth + 1) for item in value)
        return self._objects(value)

    def out(self, value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one branch a kind of value
        """What the sandbox hands over, as plain data and objects of the image."""
        kind = type(value)
        self._count(depth)
        if kind in _SIMPLE:
            return value
        if kind in _WEIGHED:
            self._weigh(value)
            if kind is str and reads_like_no_data(value) and value not in self._texts:
                raise Stopped("not-data", f"{value[:80]!r} stands for something that is no data, or contains itself")
            return value
        if kind is list:
            return [self.out(item, depth + 1) for item in value]
        if kind is dict:
            return {self.out(key, depth + 1): self.out(item, depth + 1) for key, item in value.items()}
        if kind is set or kind is frozenset:
            return kind(self.out(item, depth + 1) for item in value)
        if isinstance(value, tuple):
            return tuple(self.out(item, depth + 1) for item in value)
        return self._objects(value)

    def _count(self, depth: int) -> None:
        self._items -= 1
        if depth > self._limits.value_depth:
            raise Stopped("value-depth", f"a value is nested more than {self._limits.value_depth} deep", limit=True)
        self._fits(0)

    def _fits(self, more: int) -> None:
        if self._items < more:
            raise Stopped("value-size", f"a value has more than {self._limits.value_items} parts", limit=True)

    def _weigh(self, value: str | bytes | int | decimal.Decimal) -> None:
        if isinstance(value, int):
            if value.bit_length() > MAX_DIGIT_BITS:
                raise Stopped("value-size", f"a number has more than {MAX_DIGIT_BITS} bits", limit=True)
            self._take(value.bit_length() // 8)
            return
        if isinstance(value, decimal.Decimal):
            digits = len(value.as_tuple().digits)
            if value.is_finite() and max(abs(value.adjusted()), digits) > MAX_EXPONENT:
                raise Stopped("value-size", f"a decimal number has more than {MAX_EXPONENT} places", limit=True)
            self._take(digits)
            return
        self._take(len(value))
        if isinstance(value, str) and not value.isascii():
            try:
                self._take(len(value.encode()) - len(value))
            except UnicodeEncodeError:
                raise Stopped("cannot-cross", "a text with half a surrogate pair does not cross") from None

    def _take(self, count: int) -> None:
        self._bytes -= count
        if self._bytes < 0:
            raise Stopped("value-size", f"a value is larger than {self._limits.value_bytes} bytes", limit=True)
