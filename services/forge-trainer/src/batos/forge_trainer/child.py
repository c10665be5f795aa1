"""Programs that the forge starts: tied to it, listened to, ended when they are no longer wanted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batos.forge_trainer.errors import ChildFailed, ChildSilent
from batos.vessel import tethered

LAST_LINES = 12
"""Lines of stderr that an error quotes."""
LINE_BYTES = 1_000_000
"""Longest line that is read."""
KILL_WAIT_S = 10.0
"""How long a killed program may take to be gone."""

DROPPED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""What would lead another environment's interpreter astray."""


async def run_child(
    program: str,
    arguments: Sequence[str],
    *,
    log: Path,
    silence_s: float,
    hear: Callable[[str], None],
    hear_errors: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end. It ends with this process, and when this call is cancelled.

    Args:
        program: what it is, in words, for errors.
        arguments: its argument list, beginning with an absolute path.
        log: file that its stderr is appended to.
        silence_s: seconds without a line on either stream after which it is given up.
        hear: is told every line of its stdout.
        hear_errors: is told every line of its stderr.
        environment: what is added to this process's environment.

    Raises:
        ChildFailed: it ended with anything but 0.
        ChildSilent: it was given up.
    """
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    log.parent.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *tethered(arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "PYTHONUNBUFFERED": "1", **(environment or {})},
        limit=LINE_BYTES,
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=LAST_LINES)
    heard = asyncio.Event()

    async def listen(stream: asyncio.StreamReader | None, told: Callable[[str], None]) -> None:
        while stream is not None and (line := await _line(stream)):
            heard.set()
            if text := line.decode(errors="replace").strip():
                told(text)

    with log.open("a", encoding="utf-8") as file:

        def note(text: str) -> None:
            last.append(text)
            file.write(text + "\n")
            file.flush()
            if hear_errors is not None:
                hear_errors(text)

        listeners = [
            asyncio.create_task(listen(process.stdout, hear), name=f"stdout of {program}"),
            asyncio.create_task(listen(process.stderr, note), name=f"stderr of {program}"),
        ]
        try:
            pending = set(listeners)
            while pending:
                heard.clear()
                ended = await _either(pending, heard, silence_s)
                for listener in ended:
                    listener.result()
                pending -= ended
                if not ended and not heard.is_set():
                    raise ChildSilent(program, silence_s)
            status = await asyncio.wait_for(process.wait(), silence_s)
        finally:
            await _end(process, listeners)
    if status != 0:
        raise ChildFailed(program, status, tuple(last))


async def _either(
    listeners: set[asyncio.Task[None]], heard: asyncio.Event, silence_s: float
) -> set[asyncio.Task[None]]:
    """Wait until something was heard, a listener has ended, or so many seconds passed; return the ended ones."""
    waiter = asyncio.create_task(heard.wait(), name="heard")
    every: set[asyncio.Task[Any]] = {*listeners, waiter}
    try:
        await asyncio.wait(every, timeout=silence_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    return {listener for listener in listeners if listener.done()}


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, empty at the end; of one that is too long only its length is kept."""
    try:
        return await stream.readline()
    except ValueError:
        return b"(a line of more than %d bytes)\n" % LINE_BYTES


async def _end(process: asyncio.subprocess.Process, listeners: Sequence[asyncio.Task[None]]) -> None:
    """Make sure that a program and what it started are gone."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
        await asyncio.wait_for(process.wait(), KILL_WAIT_S)
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
