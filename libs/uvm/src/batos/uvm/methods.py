"""Live methods: their source stands in the image, with every version it ever had and who wrote it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from batos.uvm.calling import TRUSTED, sandbox_of
from batos.uvm.compiling import MAX_SOURCE_CHARS, checked_source, digest, host_needed, normal
from batos.uvm.errors import MessageNotUnderstood, NoSuchVersion
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
from batos.uvm.persistence_guardian import BOUNDS, faults
from batos.uvm.sandbox_errors import SourceRefused

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

    @property
    def host(self) -> int:
        """The version of the host's interface that it needs, from 1: what its source says with `HOST = 2`."""
        return host_needed(self.source)


def install_method(obj: UvmObject, name: str, source: str, *, author: str) -> LiveMethod:
    """Give an object a live method, or a new version of one.

    Args:
        obj: who gets it; all who inherit from it understand it too.
        name: the message that it answers. A slot of that name is replaced.
        source: Python text that defines a function `name`; what else it defines at its top level is its own.
        author: who wrote it: `genesis`, `architect`, or the id of a cycle. What a cycle wrote has to pass the
            PersistenceGuardian, and runs in the sandbox of the image alone.

    Returns:
        The version now in force. Installing the source in force again by the same author changes nothing.

    Raises:
        BrokenMethod: the source does not define such a method.
        BadSlotName: no slot may have this name.
        SourceRefused: a cycle wrote it, and the PersistenceGuardian refuses it.
    """
    check_slot_name(name)
    text = checked_source(name, source) if author in TRUSTED else _guarded(obj, name, source, author)
    history = method_history(obj, name)
    current = _own_record(obj, name)
    if current is not None and history and current[:3] == (text, history[-1].hash, author):
        return history[-1]
    record: MethodRecord = (text, digest(text), author, time.time())
    number = len(history) + 1
    versions_of(obj)[name, number] = record
    set_methods(obj, {**obj.__dict__.get(METHODS, {}), name: record})
    return LiveMethod(name, number, *record)


def _guarded(obj: UvmObject, name: str, source: str, author: str) -> str:
    """The source of a cycle, checked by the PersistenceGuardian too: first of all that it is fit to be parsed here."""
    found = faults(name, normal(source)) if len(source) <= MAX_SOURCE_CHARS else ()
    if not any(fault.rule in BOUNDS for fault in found):
        checked_source(name, source)
    if found:
        sandbox = sandbox_of(obj)
        if sandbox is not None:
            sandbox.refused(obj, name, author, found)
        raise SourceRefused(name, found)
    return normal(source)


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


def revert_method(obj: UvmObject, name: str, number: int, *, author: str) -> LiveMethod:
    """Put an older version of an object's own live method in force again, as a new version.

    Reverting is no trust: what a cycle wrote stays that cycle's, and runs in the sandbox as before.

    Args:
        obj: whose method.
        name: of the method; it may have been deleted since.
        number: of the version.
        author: who reverts it.

    Returns:
        The version now in force; where this source is in force already, that one.

    Raises:
        NoSuchVersion: there is no such version; the error says which there are.
    """
    history = method_history(obj, name)
    wanted = next((version for version in history if version.number == number), None)
    if wanted is None:
        raise NoSuchVersion(name, number, [version.number for version in history])
    current = _own_record(obj, name)
    if current is not None and current[1] == wanted.hash:
        return history[-1]
    return install_method(obj, name, wanted.source, author=author if wanted.author in TRUSTED else wanted.author)


def own_methods(obj: UvmObject) -> dict[str, LiveMethod]:
    """The object's own live methods in force, by name."""
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    return {name: method_of(obj, name)[1] for name in obj.__dict__.get(METHODS, {})}


def _own_record(obj: UvmObject, name: str) -> MethodRecord | None:
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    record: MethodRecord | None = obj.__dict__.get(METHODS, {}).get(name)
    return record
