"""Starts a program that ends with its parent, however the parent ends.

    python -I -S tether.py PARENT_PID PROGRAM ARGUMENTS…

It is run as a script and imports nothing but the standard library. On Linux the kernel then kills the program
(SIGKILL) when the thread that started it ends; so start it from a thread that lives as long as the process, as
the main thread does. Elsewhere the program is started without that tie, and a vessel notices by itself
(`parent_pid` of its settings).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_NOT_STARTED = 127


def tethered(arguments: Sequence[str]) -> list[str]:
    """Return the argument list that starts this program as a tethered child of this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *arguments]


def main(arguments: Sequence[str]) -> int:
    """Tie this process to its parent, then become the program."""
    parent, *program = arguments
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.stderr.write(f"cannot tie {program[0]} to its parent: {os.strerror(ctypes.get_errno())}\n")
            return _NOT_STARTED
        if os.getppid() != int(parent):
            return _NOT_STARTED
    try:
        os.execv(program[0], program)  # noqa: S606 - becoming the program is the point
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error.strerror}\n")
        return _NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
