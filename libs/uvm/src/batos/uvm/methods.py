"""Live methods: their source stands in the image, with every version it ever had and who wrote it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from batos.uvm.compiling import checked_source, digest
from batos.uvm.errors import MessageNotUnderstood
from batos.uvm.objects import (
    METHODS,
    VERSIONS,
    MethodRecord,
    UvmObject,
    check_slot_name,
    find,
    set_methods,
    versions_of,
)

_LAST = 2**62
"""More versions than a method will ever have."""


@dataclass(frozen=True)
class LiveMethod:
    """One version of a live method.

    Attributes:
        name: the message that it answers.
        number: its place in the history, from 1.
        source: Python text that defines a function of that name.
        hash: SHA-256 of the source, 64 hexadecimal digits.
        author: `genesis`, `architect`, or the id of the cycle that wrote it.
        time: when it was installed, in seconds since the epoch.
    """

    name: str
    number: int
    source: str
    hash: str
    author: str
    time: float


def install_method(obj: UvmObject, name: str, source: str, *, author: str) -> LiveMethod:
    """Give an object a live method, or a new version of one.

    Args:
        obj: who gets it; all who inherit from it understand it too.
        name: the message that it answers. A slot of that name is replaced.
        source: Python text that defines a function `name`; what else it defines at its top level is its own.
        author: who wrote it: `genesis`, `architect`, or the id of a cycle.

    Returns:
        The version now in force. Installing the source in force again by the same author changes nothing.

    Raises:
        BrokenMethod: the source does not define such a method.
        BadSlotName: no slot may have this name.
    """
    check_slot_name(name)
    text = checked_source(name, source)
    history = method_history(obj, name)
    current = _own_record(obj, name)
    if current is not None and history and current[:3] == (text, history[-1].hash, author):
        return history[-1]
    record: MethodRecord = (text, digest(text), author, time.time())
    number = len(history) + 1
    versions_of(obj)[name, number] = record
    set_methods(obj, {**obj.__dict__.get(METHODS, {}), name: record})
    return LiveMethod(name, number, *record)


def method_history(obj: UvmObject, name: str) -> list[LiveMethod]:
    """All versions of an object's own live method, the oldest first. A deleted method keeps its history."""
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    tree = obj.__dict__.get(VERSIONS)
    kept = () if tree is None else tree.items(min=(name, 1), max=(name, _LAST))
    return [LiveMethod(name, number, *record) for (_, number), record in kept]


def method_of(obj: UvmObject, name: str) -> tuple[UvmObject, LiveMethod]:
    """Who holds the live method that `obj.name(...)` calls, and its version in force.

    Raises:
        MessageNotUnderstood: there is no such method (a data slot of that name is none).
    """
    holder, _, record = find(obj, name)
    if record is None:
        raise MessageNotUnderstood(obj, name)
    number = max((version.number for version in method_history(holder, name) if version.hash == record[1]), default=1)
    return holder, LiveMethod(name, number, *record)


def own_methods(obj: UvmObject) -> dict[str, LiveMethod]:
    """The object's own live methods in force, by name."""
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    return {name: method_of(obj, name)[1] for name in obj.__dict__.get(METHODS, {})}


def _own_record(obj: UvmObject, name: str) -> MethodRecord | None:
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    record: MethodRecord | None = obj.__dict__.get(METHODS, {}).get(name)
    return record
