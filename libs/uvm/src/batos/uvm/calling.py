"""Who runs a live method: this interpreter where its author is trusted, the sandbox where a cycle wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any, Protocol

from batos.uvm.compiling import MAX_COMPILED, function_of
from batos.uvm.sandbox_errors import Fault, NoSandbox

TRUSTED = frozenset({"genesis", "architect"})
"""Authors whose methods are compiled. Every other author is the id of a cycle."""

Record = tuple[str, str, str, float]


class Runner(Protocol):
    """What runs methods that are not compiled here; an image is given one as its `sandbox`."""

    def run(self, receiver: Any, name: str, record: Record, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method `name`, which stands in `record`, on a receiver of the calling thread's transaction."""

    def refused(self, receiver: Any, name: str, author: str, faults: Sequence[Fault]) -> None:
        """Take note that a source was refused when it was to be installed."""


def function_for(name: str, record: Record) -> FunctionType:
    """The function that answers a message: the compiled source, or a way into the sandbox.

    Raises:
        BrokenMethod: the source is trusted and cannot be loaded.
    """
    source, _, author, _ = record
    return function_of(name, source) if author in TRUSTED else _sandboxed(name, record)


def sandbox_of(obj: Any) -> Runner | None:
    """The sandbox of the image that an object is stored in; None where it has none."""
    jar = obj._p_jar  # noqa: SLF001 - ZODB's public protocol has underscores
    database = None if jar is None else jar.db()
    found: Runner | None = getattr(database, "sandbox", None)  # other databases of ZODB have no such place
    return found


@lru_cache(maxsize=MAX_COMPILED)
def _sandboxed(name: str, record: Record) -> FunctionType:
    def call(receiver: Any, *args: Any, **kwargs: Any) -> Any:
        sandbox = sandbox_of(receiver)
        if sandbox is None:
            raise NoSandbox(name, record[2])
        return sandbox.run(receiver, name, record, args, kwargs)

    call.__name__ = call.__qualname__ = name
    assert isinstance(call, FunctionType)  # noqa: S101 - for the type checker: a `def` makes nothing else
    return call
