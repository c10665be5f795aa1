"""Runs a program and ends all that it started. Run as a script; imports nothing but the standard library.

    python -I -S guard.py GRACE_SECONDS PROGRAM ARGUMENTS…

An engine such as vLLM starts processes of its own that outlive it when it is killed. The guard is their reaper: when
its standard input ends (because who started it closed it, or died), when it is told to end (SIGTERM, SIGINT), or when
the program ends by itself, everything below it is ended: SIGTERM first, SIGKILL after the grace. Its exit code is the
program's.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.1
_KILL_WAIT_S = 10.0
_NOT_STARTED = 127


def main(arguments: Sequence[str]) -> int:
    """Run the program until it ends or the guard is told to end it."""
    grace_s, program = float(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        # What the program leaves behind becomes the guard's own child, so that it can be found and reaped.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = [False]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.__setitem__(0, True))
    try:
        child = subprocess.Popen(program, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error.strerror}\n")
        return _NOT_STARTED
    while child.poll() is None and not told[0]:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], _POLL_S)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            break
    if child.poll() is None:
        _signal(child.pid, signal.SIGTERM)
        _wait(child, grace_s)
    code = child.poll()
    killed = _kill_rest(child.pid)
    code = killed if code is None else code
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"process {child.pid} did not end within {seconds:g} s of SIGTERM: killed\n")


def _kill_rest(group: int) -> int:
    """Kill the program's group and whatever of it became the guard's own child, until nothing is left.

    Returns:
        How the program itself ended, where it ended now: minus the signal's number.
    """
    code = -signal.SIGKILL
    deadline = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < deadline:
        _signal(group, signal.SIGKILL)
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            found, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if found == group:
            code = os.waitstatus_to_exitcode(status)
        if not found:
            time.sleep(_POLL_S / 10)
    return code


def _children() -> list[int]:
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in listing.read_text().split()] if listing.exists() else []


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
