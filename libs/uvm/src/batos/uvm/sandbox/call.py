"""One call of a cycle's method: the worker computes, the host answers what it asks, each time by the rules."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import pydantic_monty as monty

from batos.uvm.calling import Record
from batos.uvm.capabilities import ARGUMENTS, NONE, RESULTS, SELF, SPOKEN, Capabilities, Rights, forbidden
from batos.uvm.errors import CovenantBroken, MessageNotUnderstood, NotStorable
from batos.uvm.objects import UvmObject, find
from batos.uvm.sandbox.crossing import Crossing, Stopped, reads_like_no_data
from batos.uvm.sandbox.handles import Handle, Handles
from batos.uvm.sandbox.limits import Limits
from batos.uvm.sandbox_errors import (
    TELLING,
    LimitReached,
    MethodFailed,
    MethodRefused,
    SandboxBusy,
    SandboxError,
    WorkerLost,
)

Services = Mapping[type, Rights]
"""Classes of the vessel whose instances cross as handles, too, and what may be asked of those: slots and messages."""
Guard = Callable[[UvmObject, UvmObject, str, Any], None]
"""Looks at every slot that is to be set: (receiver, object, name, value); raises `CovenantBroken` to refuse."""

_CATCHABLE = frozenset({
    ArithmeticError, AssertionError, IndexError, KeyError, LookupError, NotImplementedError, OverflowError,
    RuntimeError, TypeError, ValueError, ZeroDivisionError,
})  # fmt: skip
"""What a trusted method may raise for a method of a cycle to handle. All else ends the call and reaches its caller."""
_NO_CLOCK = monty.OSPolicy(datetime="call_host", sleep="call_host", random_start="call_host")
_FORBIDDEN_CALLS = frozenset(
    {"__import__", "breakpoint", "compile", "dir", "exit", "globals", "input", "locals", "quit", "vars"}
)
_SLACK = 16
"""Suspensions that are not counted as host calls."""
_WORKERS_TRIED = 16
"""How many workers in a row may be found dead before they had anything to do."""
_NEVER_SENT = "while sending a request"
"""How Monty tells that a worker was gone before the source reached it."""


@lru_cache(maxsize=1024)
def _texts_in(source: str) -> frozenset[str]:
    """Texts of a source that read like something that is no data."""
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return frozenset(value for value in constants if isinstance(value, str) and reads_like_no_data(value))


@dataclass
class Allowance:
    """What is left for a call and those that it makes.

    Attributes:
        ends: when its time is over, by the monotonic clock.
        host_calls: how many are left.
        crossed_bytes: how many are left.
        nesting: how many calls it is within.
    """

    ends: float
    host_calls: int
    crossed_bytes: int
    nesting: int = 1


@dataclass
class Call:
    """A method of a cycle at work.

    Attributes:
        caller: the call that it was made within, if it was: nobody passes on more rights on an object than it has.
        savepoint: the transaction as it was before the first change; None where nothing may have been changed.
    """

    receiver: UvmObject
    name: str
    record: Record
    capabilities: Capabilities
    limits: Limits
    allowance: Allowance
    guard: Guard | None = None
    services: Services = field(default_factory=dict)
    caller: Call | None = None
    savepoint: Any = None
    _handles: Handles = field(default_factory=Handles)
    _rights: dict[int, Rights] = field(default_factory=dict)
    _texts: set[str] = field(default_factory=set)
    _snapshot: Any = None

    def __post_init__(self) -> None:
        self._texts |= _texts_in(self.record[0])

    def run(self, pool: monty.Monty, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run it to its end.

        Raises:
            SandboxError: it was stopped; changes since `savepoint` are still there.
        """
        try:
            self._tick()
            inputs = self._inputs(args, kwargs)
            limits = monty.ResourceLimits(
                max_feed_duration_secs=min(self.limits.cpu_s, self.allowance.ends - time.monotonic()),
                max_memory=self.limits.memory_bytes,
                max_recursion_depth=self.limits.recursion,
                max_suspensions=self.limits.host_calls + _SLACK,
            )
            with ExitStack() as stack:
                self._snapshot = self._begun(stack, pool, limits, inputs)
                while not isinstance(self._snapshot, monty.MontyComplete):
                    self._tick()
                    self._snapshot = _crossed(self._answer(self._snapshot))
                self._tick()
                return self._returned(self._snapshot)
        except Stopped as stopped:
            kind = LimitReached if stopped.limit else MethodRefused
            raise kind(stopped.rule, *self._who, stopped.detail, self.line) from None
        except monty.MontyError as wrong:
            raise self._named(wrong, self.line) from None

    def _begun(self, stack: ExitStack, pool: monty.Monty, limits: monty.ResourceLimits, inputs: dict[str, Any]) -> Any:
        """Hand the source to a worker. One that was found dead had begun nothing: the next one gets it."""
        text = f"{self.record[0]}\n{self.name}(self, *_args, **_named)\n"
        for left in reversed(range(_WORKERS_TRIED)):
            session = None
            try:
                session = self._worker(stack, pool, limits)
                printed = monty.CollectString(max_bytes=self.limits.output_bytes)
                return _crossed(partial(session.feed_start, text, inputs=inputs, print_callback=printed))
            except monty.MontyCrashedError as wrong:
                begun = session is not None and _NEVER_SENT not in str(wrong)
                if begun or wrong.timed_out or not left:
                    raise
                stack.close()
        raise AssertionError("unreachable: the last worker tried begins or raises")

    def _worker(self, stack: ExitStack, pool: monty.Monty, limits: monty.ResourceLimits) -> monty.MontySession:
        try:
            return stack.enter_context(pool.checkout(script_name=self.name, limits=limits, os_policy=_NO_CLOCK))
        except TimeoutError:
            raise SandboxBusy(*self._who, self.limits.wall_s) from None

    @property
    def _who(self) -> tuple[str, str]:
        return self.name, self.record[2]

    def _tick(self) -> None:
        if time.monotonic() >= self.allowance.ends:
            raise Stopped("time", f"it took longer than {self.limits.wall_s:g} s", limit=True)

    def _spend(self) -> None:
        self.allowance.host_calls -= 1
        if self.allowance.host_calls < 0:
            raise Stopped("host-calls", f"it asked the host more than {self.limits.host_calls} times", limit=True)

    def _carry(self, crossing: Crossing) -> None:
        self.allowance.crossed_bytes -= crossing.weight
        if self.allowance.crossed_bytes < 0:
            raise Stopped("crossed-bytes", f"more than {self.limits.crossed_bytes} bytes crossed in all", limit=True)

    # What it asks

    def _answer(self, snapshot: Any) -> Callable[[], Any]:
        """Do what the method asks for; what is returned goes on with it."""
        self._spend()
        if isinstance(snapshot, monty.NameLookupSnapshot):
            return self._read(snapshot)
        if not isinstance(snapshot, monty.FunctionSnapshot):
            raise Stopped("async", "live methods are synchronous")
        name = snapshot.function_name
        if snapshot.is_os_function:
            what = snapshot.args[0] if name == "import" and snapshot.args else name
            raise Stopped("import" if name == "import" else "outside", f"{what!s:.80} is not for methods of a cycle")
        target = self._handles.target(snapshot.object_id)
        if target is not None and name != "__call__":
            return self._message(snapshot, target, name)
        if snapshot.object_id is not None or name in _FORBIDDEN_CALLS:
            raise Stopped("builtin", f"{name!s:.80} is not for methods of a cycle")
        return lambda: snapshot.resume({"exc_type": "NameError", "message": f"name {name!r} is not defined"})

    def _read(self, snapshot: Any) -> Callable[[], Any]:
        target = self._handles.target(snapshot.object_id)
        name = snapshot.variable_name
        if target is None or name in SPOKEN:
            return lambda: snapshot.resume()  # noqa: PLW0108 - without a value: that is an error in the sandbox
        self._allow("reads", target, name)
        if not isinstance(target, UvmObject):
            shown = self._into(getattr(target, name), of=RESULTS)
            return lambda: snapshot.resume(value=shown)
        try:
            _, value, method = find(target, name)
        except MessageNotUnderstood:
            return lambda: snapshot.resume()  # noqa: PLW0108 - as above
        if method is not None:
            raise Stopped("not-data", f"{name!r} is a message: send it, its method does not cross")
        crossed = self._into(value)
        return lambda: snapshot.resume(value=crossed)

    def _message(self, snapshot: Any, target: Any, name: str) -> Callable[[], Any]:
        args = [self._out(value) for value in _crossed(lambda: snapshot.args)]
        named = {key: self._out(value) for key, value in _crossed(lambda: snapshot.kwargs).items()}
        if name == "set":
            self._set(target, args, named)
            return lambda: snapshot.resume({"return_value": None})
        if name == "send":
            if not args or not isinstance(args[0], str):
                raise Stopped("message", "write `.send(message, ...)` with the message's name")
            name, args = args[0], args[1:]
        self._allow("sends", target, name)
        if isinstance(target, UvmObject) and find(target, name)[2] is None:
            raise Stopped("message", f"{name!r} is a slot, and no message")
        self._mark()
        try:
            result = getattr(target, name)(*args, **named)
        except Exception as wrong:
            if type(wrong) not in _CATCHABLE:
                raise
            told = {"exc_type": type(wrong).__name__, "message": str(wrong)[:TELLING]}
            return lambda: snapshot.resume(told)
        crossed = self._into(result, of=RESULTS)
        return lambda: snapshot.resume({"return_value": crossed})

    def _set(self, target: Any, args: list[Any], named: dict[str, Any]) -> None:
        if len(args) != 2 or named or not isinstance(args[0], str):  # noqa: PLR2004 - a name and a value
            raise Stopped("message", "write `.set(name, value)`")
        name, value = args
        self._allow("sets", target, name)
        try:
            is_message = find(target, name)[2] is not None
        except MessageNotUnderstood:
            is_message = False
        if is_message:
            raise Stopped("tampering", f"{name!r} is a message: a slot of that name would take the method's place")
        self._mark()
        try:
            if self.guard is not None:
                self.guard(self.receiver, target, name, value)
            setattr(target, name, value)
        except NotStorable as refusal:
            raise Stopped("slot-type", str(refusal)) from None
        except CovenantBroken as refusal:
            raise Stopped("guardian", str(refusal)) from None

    def _allow(self, kind: str, target: Any, name: str) -> None:
        why = forbidden(kind, name, of_self=target is self.receiver)
        if why is not None:
            raise Stopped(*why)
        if name not in getattr(self._rights.get(id(target), NONE), kind):
            raise Stopped("undeclared", f"{name!r} is not among the {kind} that CAPABILITIES declares for this object")
        if not isinstance(target, UvmObject):
            if name not in getattr(self.services[type(target)], kind):
                raise Stopped("service", f"{name!r} is not among the {kind} that the vessel offers of this object")
        elif target._p_jar is not None and target._p_jar is not self.receiver._p_jar:  # noqa: SLF001 - ZODB's public protocol
            raise Stopped("foreign", "the object belongs to another session")

    def _mark(self) -> None:
        """Remember the transaction as it is before the first thing that may change it."""
        if self.savepoint is None:
            self.savepoint = self.receiver._p_jar.transaction_manager.savepoint()  # noqa: SLF001 - ZODB's public protocol

    # What crosses

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        self._grant(self.receiver, self.capabilities.get(SELF, NONE))
        for whom, rights in self.capabilities.items():
            if whom not in {SELF, ARGUMENTS, RESULTS}:
                try:
                    self._objects_in(find(self.receiver, whom)[1], rights)
                except MessageNotUnderstood:
                    continue
        return {
            "self": self._handle(self.receiver),
            "_args": self._into(args, of=ARGUMENTS),
            "_named": self._into(kwargs, of=ARGUMENTS),
        }

    def _objects_in(self, value: Any, rights: Rights) -> None:
        """Grant rights on the objects that stand in a value, when the call begins: later ones do not count."""
        crossing = Crossing(self.limits, lambda found: self._grant(found, rights), self._texts)
        crossing.into(value)
        self._carry(crossing)

    def _grant(self, target: Any, rights: Rights) -> None:
        self._handle(target)  # keeps it in memory, so that its id stays its own
        self._rights[id(target)] = self._rights.get(id(target), NONE) | rights

    def _into(self, value: Any, of: str = "") -> Any:
        rights = self.capabilities.get(of)
        caller = self.caller if of == ARGUMENTS else None

        def handle(target: Any) -> Any:
            if rights is not None:
                self._grant(target, rights if caller is None else caller.passed_on(target, rights))
            return self._handle(target)

        crossing = Crossing(self.limits, handle, self._texts)
        crossed = crossing.into(value)
        self._carry(crossing)
        return crossed

    def passed_on(self, target: Any, rights: Rights) -> Rights:
        """What a call within this one gets of the rights that it declares for an object that it is handed.

        No more than this one has, where this one knows the object. Others are a trusted method's to hand over.
        """
        return rights & self._rights.get(id(target), NONE) if self._handles.knows(target) else rights

    def _handle(self, target: Any) -> Any:
        if not isinstance(target, UvmObject) and type(target) not in self.services:
            kind = type(target).__name__
            raise Stopped("cannot-cross", f"a {kind} does not cross: let a trusted method answer with plain data")
        return self._handles.of(target)

    def _returned(self, complete: Any) -> Any:
        """What the method returned. Where it did so the sandbox does not say."""
        try:
            return self._out(_crossed(lambda: complete.output))
        except Stopped as stopped:
            raise Stopped(stopped.rule, f"in what it returns: {stopped.detail}", limit=stopped.limit) from None

    def _out(self, value: Any) -> Any:
        crossing = Crossing(self.limits, self._object_of, self._texts)
        found = crossing.out(value)
        self._carry(crossing)
        return found

    def _object_of(self, value: Any) -> Any:
        if isinstance(value, Handle) and self._handles.knows(value.target):
            return value.target
        kind = getattr(value, "name", "") or type(value).__name__
        raise Stopped("not-data", f"{kind!s:.80} is no data: it does not leave the sandbox")

    # How it ends

    @property
    def line(self) -> int:
        """The line of the source at which the method stands that asked for something; 0 where it did not."""
        if self._snapshot is None or isinstance(self._snapshot, monty.MontyComplete):
            return 0
        position = self._snapshot.position
        return self.record[0].encode("utf-8", "replace")[: position.start].count(b"\n") + 1 if position.filename else 0

    def _named(self, wrong: monty.MontyError, line: int) -> SandboxError:
        if isinstance(wrong, monty.MontyCrashedError):
            if wrong.timed_out:
                return LimitReached("time", *self._who, "its worker did not end in time, and was ended", line)
            return WorkerLost(*self._who, f"its worker process ended in mid-call ({_told(wrong)})", line)
        if isinstance(wrong, monty.MontySyntaxError):
            return MethodRefused("syntax", *self._who, _told(wrong), _last_line(wrong))
        if isinstance(wrong, monty.MontyConversionError):
            return MethodRefused("cannot-cross", *self._who, _told(wrong), line)
        if isinstance(wrong, monty.MontyRuntimeError):
            return self._named_failure(wrong)
        return WorkerLost(*self._who, _told(wrong), line)

    def _named_failure(self, wrong: monty.MontyRuntimeError) -> SandboxError:
        kind = type(wrong.exception()).__name__
        line = min(_last_line(wrong), self.record[0].count("\n"))
        text = _told(wrong)
        rule = _LIMITS.get(kind)
        if rule == "memory" and f"> {self.limits.output_bytes} bytes" in text:
            rule = "output"
        if kind == "RuntimeError" and "suspension limit" in text:
            rule = "host-calls"
        if rule is not None:
            return LimitReached(rule, *self._who, text, line)
        if kind == "NotImplementedError" and "monty syntax parser" in text:
            return MethodRefused("unsupported", *self._who, text, line)
        if kind == "RuntimeError" and text.startswith(_BROKEN_OFF):
            return MethodRefused("unsupported", *self._who, _advised(text.removeprefix(_BROKEN_OFF)), line)
        return MethodFailed(*self._who, kind, text.removeprefix(f"{kind}: "), line)


_LIMITS = {"TimeoutError": "time", "MemoryError": "memory", "RecursionError": "recursion"}
_BROKEN_OFF = "RuntimeError: Internal error in monty: "
"""How Monty tells that it cannot go on. It does not say where."""


def _advised(text: str) -> str:
    if text.startswith("exceptions can only be called"):
        return "an exception takes one text and nothing else: write `raise ValueError(f'...')`"
    return f"the sandbox's Python cannot do this: {text}"


def _crossed(step: Callable[[], Any]) -> Any:
    """Go on with the worker; what it hands over may be more than this interpreter's own types take."""
    try:
        return step()
    except (ValueError, OverflowError, RecursionError) as wrong:
        raise Stopped("value-size", f"a value does not cross: {wrong!s:.200}", limit=True) from None


def _told(wrong: monty.MontyError) -> str:
    return str(wrong)[:TELLING]


def _last_line(wrong: monty.MontyRuntimeError | monty.MontySyntaxError) -> int:
    frames = wrong.traceback()
    return frames[-1].line if frames else 0
