"""Nothing that a test started outlives it: threads, sockets, child processes."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

SETTLE_S = 5.0
"""How long what was started may take to end."""


def _threads() -> set[str]:
    return {f"{thread.name} ({thread.ident})" for thread in threading.enumerate() if thread.is_alive()}


def _processes() -> set[str]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(f"{child.pid} {' '.join(child.cmdline())[:120]}")
        except psutil.NoSuchProcess:
            continue
    return found


def _sockets() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").glob("*") if Path("/proc/self/fd").exists() else ():
        try:
            target = os.readlink(descriptor)  # noqa: PTH115 - the target is no path
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Fail the test if what is started inside is still there afterwards."""
    kinds: dict[str, Callable[[], set[str]]] = {"thread": _threads, "socket": _sockets, "process": _processes}
    before = {kind: look() for kind, look in kinds.items()}
    yield
    deadline = time.monotonic() + SETTLE_S
    while True:
        left = {kind: look() - before[kind] for kind, look in kinds.items()}
        if not any(left.values()):
            return
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    pytest.fail("left behind: " + "; ".join(f"{kind} {sorted(what)}" for kind, what in left.items() if what))
