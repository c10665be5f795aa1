"""Live methods: their source stands in the image, with every version it ever had and who wrote it."""

from __future__ import annotations

import ast
import time
from dataclasses import dataclass

from batos.uvm.calling import TRUSTED, sandbox_of
from batos.uvm.capabilities import UNTOUCHABLE
from batos.uvm.compiling import check_definition, checked_source, digest, function_of, host_needed, normal
from batos.uvm.errors import BrokenMethod, MessageNotUnderstood, NoSuchVersion
from batos.uvm.guardians import faults
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
from batos.uvm.sandbox_errors import Fault, SourceRefused

_LAST = 2**62
"""More versions than a method will ever have."""
_NOT_MESSAGES = UNTOUCHABLE | {"name", "persona"}
"""Slots in whose place no method of a cycle stands: who an object is, and which way a thought takes."""


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
    def record(self) -> MethodRecord:
        """This version as an object keeps it."""
        return self.source, self.hash, self.author, self.time

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
        BrokenMethod: the author is trusted, and the source does not define such a method, or cannot be loaded here.
        BadSlotName: no slot may have this name.
        SourceRefused: a cycle wrote it, and the PersistenceGuardian refuses it, or the name is that of a slot which
            no method of a cycle may stand for.
    """
    check_slot_name(name)
    text = _loaded(name, source) if author in TRUSTED else _guarded(obj, name, source, author)
    current = own_methods(obj).get(name)
    if current is not None and (current.source, current.author) == (text, author):
        return current
    record: MethodRecord = (text, digest(text), author, time.time())
    number = len(method_history(obj, name)) + 1
    versions_of(obj)[name, number] = record
    set_methods(obj, {**obj.__dict__.get(METHODS, {}), name: record})
    return LiveMethod(name, number, *record)


def _loaded(name: str, source: str) -> str:
    """The source of an author who is trusted, checked and loaded as it will be for a call."""
    text = checked_source(name, source)
    function_of(name, text)
    return text


def _guarded(obj: UvmObject, name: str, source: str, author: str) -> str:
    """The source of a cycle, read by the PersistenceGuardian. Where it is fit to be, it is parsed; never compiled."""
    text = normal(source)
    found = _faults_of_name(name) or faults(name, text) or _faults_of_definition(name, text)
    if found:
        sandbox = sandbox_of(obj)
        if sandbox is not None:
            sandbox.refused(obj, name, author, found)
        raise SourceRefused(name, found)
    return text


def _faults_of_name(name: str) -> tuple[Fault, ...]:
    if name not in _NOT_MESSAGES:
        return ()
    detail = f"{name!r} says who an object is or which way a thought takes: choose another name"
    return (Fault("tampering", 0, 0, detail),)


def _faults_of_definition(name: str, text: str) -> tuple[Fault, ...]:
    try:
        check_definition(name, ast.parse(text))
    except BrokenMethod as wrong:
        return (Fault("definition", wrong.line, min(wrong.line, 1), wrong.reason),)
    return ()


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
    return holder, _in_force(holder, name, record)


def revert_method(obj: UvmObject, name: str, number: int, *, author: str) -> LiveMethod:
    """Put an older version of an object's own live method in force again, as a new version.

    Reverting is no trust: what a cycle wrote stays that cycle's, and runs in the sandbox as before. What a trusted
    author wrote is trusted again, also where a cycle's method of the same source is in force.

    Args:
        obj: whose method.
        name: of the method; it may have been deleted since.
        number: of the version.
        author: who reverts it.

    Returns:
        The version now in force; where this source of the same cycle, or of any trusted author, is in force already,
        that one.

    Raises:
        NoSuchVersion: there is no such version; the error says which there are.
    """
    history = method_history(obj, name)
    wanted = next((version for version in history if version.number == number), None)
    if wanted is None:
        raise NoSuchVersion(name, number, [version.number for version in history])
    current = own_methods(obj).get(name)
    if current is not None and current.source == wanted.source and _as_trusted(current, wanted):
        return current
    return install_method(obj, name, wanted.source, author=author if wanted.author in TRUSTED else wanted.author)


def _as_trusted(one: LiveMethod, other: LiveMethod) -> bool:
    """Whether two versions of one source run in the same way, for the same author."""
    return one.author == other.author or {one.author, other.author} <= TRUSTED


def own_methods(obj: UvmObject) -> dict[str, LiveMethod]:
    """The object's own live methods in force, by name."""
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    return {name: _in_force(obj, name, record) for name, record in obj.__dict__.get(METHODS, {}).items()}


def _in_force(holder: UvmObject, name: str, record: MethodRecord) -> LiveMethod:
    """The version that a record is: not always the newest, which an undo may have taken out of force."""
    return next(version for version in reversed(method_history(holder, name)) if version.record == record)
