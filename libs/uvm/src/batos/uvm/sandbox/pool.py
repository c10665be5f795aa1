"""The sandbox of an image: a pool of worker processes, and what every call of a cycle's method goes through."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import pydantic_monty as monty
from transaction.interfaces import TransientError

from batos.uvm.calling import Record
from batos.uvm.capabilities import Capabilities
from batos.uvm.errors import CommitFateUnknown, Transient
from batos.uvm.guardians import capabilities_of, faults
from batos.uvm.objects import UvmObject
from batos.uvm.paths import path_of
from batos.uvm.sandbox.audit import Audit, AuditRecord
from batos.uvm.sandbox.call import Allowance, Call, Guard, Services
from batos.uvm.sandbox.limits import Limits
from batos.uvm.sandbox_errors import (
    TELLING,
    Fault,
    LimitReached,
    MethodRefused,
    SandboxBusy,
    SandboxError,
    SandboxMisuse,
    passed_through,
    passing,
)

Grants = Callable[[UvmObject, str, str, Capabilities], Capabilities]
"""What a method gets of what it declares: (receiver, method, author, declared); the default is all of it."""

WORKERS = 4
_PASSING = (TransientError, Transient, CommitFateUnknown, KeyboardInterrupt)
"""What is no failure of the method that it ends: the image is away, others wrote the same, a person ends it all."""
_GRACE_S = 0.5
"""How much longer than it may a worker can take, before it is ended from outside."""


class Sandbox:
    """Runs methods that cycles wrote, for every image whose `sandbox` it is.

    May be used from many threads at a time, each with a transaction of its own. Nothing is started before the first
    call.

    Args:
        audit: gets a record of every call that was stopped, and of every source that was refused.
        limits: what one call may use.
        workers: calls at a time; others wait. Each call may have a worker process for every level of nesting.
        grants: what a method gets of what it declares.
        guard: looks at every slot that is to be set.
        services: classes of the vessel whose instances cross as handles, and what may be asked of them, where the
            method declares it (for `arguments` or `results`).
        passing: what the vessel raises that is no failure of the method: what it asked for, or what passes by.
    """

    def __init__(
        self,
        *,
        audit: Audit | None = None,
        limits: Limits | None = None,
        workers: int = WORKERS,
        grants: Grants | None = None,
        guard: Guard | None = None,
        services: Services | None = None,
        passing: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._audit = audit
        self._limits = limits or Limits()
        self._grants = grants
        self._guard = guard
        self._services = services or {}
        self._passing = (*_PASSING, *passing)
        self._workers = workers
        self._free = threading.Semaphore(workers)
        self._lock = threading.Lock()
        self._pool: monty.Monty | None = None
        self._closed = False
        self._running = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, after the calls that run. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            pool, self._pool = self._pool, None
        for _ in range(self._workers):
            self._free.acquire()
        if pool is not None:
            pool.__exit__(None, None, None)
        self._free.release(self._workers)

    def run(self, receiver: UvmObject, name: str, record: Record, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method that a cycle wrote, within the running transaction of the calling thread.

        Args:
            receiver: an object of an image.
            name: the message.
            record: the method as it stands in the image.
            args: plain data and objects of the image.
            kwargs: as `args`.

        Returns:
            What the method returned: plain data and objects of the image.

        Raises:
            SandboxError: it was stopped. Whatever it changed was taken back.
            What a trusted method raised that it called, unless that is one of Python's plain exceptions. It carries a
            note of the method (`passed_through`).
        """
        call: Call | None = None
        caller: Call | None = getattr(self._running, "call", None)
        try:
            _refuse_event_loop(name, record)
            _refuse_faults(name, record)
            with self._place(name, record) as (pool, allowance):
                call = Call(
                    receiver,
                    name,
                    record,
                    self._granted(receiver, name, record),
                    self._limits,
                    allowance,
                    self._guard,
                    self._services,
                    caller,
                )
                self._running.call = call
                return call.run(pool, args, kwargs)
        except BaseException as wrong:
            is_told = isinstance(wrong, SandboxError) or not isinstance(wrong, self._passing)
            where = path_of(receiver) if is_told else ""  # a new object has none afterwards
            if call is not None and call.savepoint is not None:
                _take_back(receiver, call.savepoint)
            if is_told:
                self._account(wrong, name, record[2], where, 0 if call is None else call.line)
            raise
        finally:
            self._running.call = caller

    def _account(self, wrong: BaseException, name: str, author: str, where: str, line: int) -> None:
        """Tell what ended a call. What ends the calls around it, too, is told once."""
        if isinstance(wrong, SandboxError):
            told, wrong.audited = wrong.audited, True
            rule, detail, line = wrong.rule, wrong.detail, wrong.line
        else:  # it reaches the caller as it is: what it passed through is noted on it
            told = bool(passed_through(wrong))
            wrong.add_note(passing(name, author, line))
            rule, detail = "exception", f"{type(wrong).__name__}: {wrong}"[:TELLING]
        if not told:
            self._tell(AuditRecord(author, name, where, rule, detail, line, time.time()))

    def refused(self, receiver: UvmObject, name: str, author: str, faults: Sequence[Fault]) -> None:
        """Take note that a source was refused when it was to be installed."""
        first, detail = faults[0], "; ".join(map(str, faults))
        self._tell(AuditRecord(author, name, path_of(receiver), first.rule, detail, first.line, time.time()))

    def _tell(self, record: AuditRecord) -> None:
        if self._audit is not None:
            self._audit(record)

    def _granted(self, receiver: UvmObject, name: str, record: Record) -> Capabilities:
        capabilities = capabilities_of(record[0])
        return capabilities if self._grants is None else self._grants(receiver, name, record[2], capabilities)

    @contextmanager
    def _place(self, name: str, record: Record) -> Iterator[tuple[monty.Monty, Allowance]]:
        """A place for one call. A call within a call shares its allowance, and needs no place of its own."""
        outer: Allowance | None = getattr(self._running, "allowance", None)
        if outer is not None:
            if outer.nesting >= self._limits.nesting:
                detail = f"methods of cycles call each other more than {self._limits.nesting} deep"
                raise LimitReached("nesting", name, record[2], detail)
            outer.nesting += 1
            try:
                yield self._open(name, record), outer
            finally:
                outer.nesting -= 1
            return
        ends = time.monotonic() + self._limits.wall_s
        if not self._free.acquire(timeout=self._limits.wall_s):
            raise SandboxBusy(name, record[2], self._limits.wall_s)
        try:
            self._running.allowance = Allowance(ends, self._limits.host_calls, self._limits.crossed_bytes)
            yield self._open(name, record), self._running.allowance
        finally:
            self._running.allowance = None
            self._free.release()

    def _open(self, name: str, record: Record) -> monty.Monty:
        with self._lock:
            if self._closed:
                raise SandboxMisuse("closed", name, record[2], "the sandbox was closed")
            if self._pool is None:
                pool = monty.Monty(
                    min_processes=1,
                    max_processes=self._workers * self._limits.nesting,
                    checkout_timeout=self._limits.wall_s,
                    request_timeout=self._limits.wall_s + _GRACE_S,
                    feed_duration_limit_grace=_GRACE_S,
                )
                self._pool = pool.__enter__()
            return self._pool


def _refuse_event_loop(name: str, record: Record) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    advice = "it would stop the event loop of this thread: call it from a cycle's own thread"
    raise SandboxMisuse("event-loop", name, record[2], advice)


def _refuse_faults(name: str, record: Record) -> None:
    """Also what was installed before a rule was made is not run against it."""
    found = faults(name, record[0])
    if found:
        raise MethodRefused(found[0].rule, name, record[2], "; ".join(map(str, found)), found[0].line)


def _take_back(receiver: UvmObject, savepoint: Any) -> None:
    """Forget what was changed since; where that cannot be, nothing of the transaction may be stored."""
    try:
        savepoint.rollback()
    except BaseException:
        receiver._p_jar.transaction_manager.get().doom()  # noqa: SLF001 - ZODB's public protocol has underscores
        raise
