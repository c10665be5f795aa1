"""What can go wrong with methods that a cycle wrote: when they are installed, and when they run."""

# ruff: noqa: N818 - errors are named for what happened

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batos.uvm.errors import CovenantBroken, Transient, UvmError

PERSISTENCE_COVENANT = "persistence covenant"
RULES = frozenset({
    "async", "builtin", "busy", "cannot-cross", "closed", "crossed-bytes", "custom-exception", "declaration",
    "decorator", "definition", "depth", "event-loop", "exception", "flow", "foreign", "format", "generator", "guardian",
    "host-calls", "import", "inheritance", "lost-write", "memory", "message", "nesting", "not-data", "output",
    "outside", "private-name", "recursion", "service", "size", "slot-type", "syntax", "tampering", "time", "undeclared",
    "unsupported", "value-depth", "value-size", "worker",
})  # fmt: skip
"""Every rule that may end a call or refuse a source: what the audit names."""
TELLING = 500
"""Characters of an exception's text that are passed on."""
_PASSED = "it passed through live method "


@dataclass(frozen=True)
class Fault:
    """One place in a source that breaks a rule.

    Attributes:
        rule: the rule's name.
        line: where, from 1; 0 where it is the source as a whole.
        column: where in that line, from 1; 0 as above.
        detail: what is wrong there, and what to do instead.
    """

    rule: str
    line: int
    column: int
    detail: str

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{place}{self.rule}: {self.detail}"


class SourceRefused(CovenantBroken):
    """The PersistenceGuardian refuses a source.

    Attributes:
        selector: the method's name.
        faults: all that is wrong with it, in the order of the source.
    """

    def __init__(self, selector: str, faults: Sequence[Fault]) -> None:
        self.selector = selector
        self.faults = tuple(faults)
        super().__init__(PERSISTENCE_COVENANT, [f"{selector}: {fault}" for fault in faults])


def passing(selector: str, author: str, line: int) -> str:
    """The note on an exception that a trusted method raised, for the cycle's method that it ended."""
    place = f", line {line}" if line else ""
    return f"{_PASSED}{selector!r} by {author}{place}"


def passed_through(wrong: BaseException) -> list[str]:
    """Which methods of cycles an exception ended that none of them raised, the innermost first."""
    notes: list[str] = getattr(wrong, "__notes__", [])
    return [note.removeprefix(_PASSED) for note in notes if note.startswith(_PASSED)]


class SandboxError(UvmError):
    """A call into the sandbox did not end well. What it changed was taken back.

    Attributes:
        rule: which rule ended it.
        selector: the method's name.
        author: who wrote the method.
        detail: what happened.
        line: in which line of its source; 0 where that is not known.
        audited: whether an audit record was written: one is enough, however many calls it ends.
    """

    audited = False

    def __init__(self, rule: str, selector: str, author: str, detail: str, line: int = 0) -> None:
        self.rule = rule
        self.selector = selector
        self.author = author
        self.detail = detail
        self.line = line
        place = f", line {line}" if line else ""
        super().__init__(f"live method {selector!r} by {author}{place}: {rule}: {detail}")


class MethodRefused(SandboxError):
    """The method wanted something that a rule forbids."""


class LimitReached(SandboxError):
    """The method used more time, memory, depth, output or calls than it may, or passed on too large a value."""


class MethodFailed(SandboxError):
    """The method raised an exception of its own and did not handle it.

    Attributes:
        kind: the exception's type.
    """

    def __init__(self, selector: str, author: str, kind: str, detail: str, line: int = 0) -> None:
        self.kind = kind
        super().__init__("exception", selector, author, f"{kind}: {detail}" if detail else kind, line)


class WorkerLost(SandboxError):
    """The process in which the method ran went away in mid-call. The pool starts another."""

    def __init__(self, selector: str, author: str, detail: str, line: int = 0) -> None:
        super().__init__("worker", selector, author, detail, line)


class SandboxBusy(SandboxError, Transient):
    """All workers were at work for as long as the call might take."""

    def __init__(self, selector: str, author: str, waited_s: float) -> None:
        super().__init__(
            "busy", selector, author, f"no worker was free for {waited_s:g} s; try again, or allow more workers"
        )


class NoSandbox(SandboxError):
    """A cycle wrote the method, and there is nothing here to run it in."""

    def __init__(self, selector: str, author: str) -> None:
        super().__init__(
            "no-sandbox",
            selector,
            author,
            "a method that a cycle wrote is never run in this interpreter: store its receiver in an image, and give "
            "that image a sandbox (`image.sandbox = ...`)",
        )


class SandboxMisuse(SandboxError):
    """The sandbox was used where it cannot be: after it was closed, or from an event loop."""
