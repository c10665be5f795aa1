"""A process of the keeper's: in a group of its own, tied to the keeper's life, its words in a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from batos.vessel import tethered

LAST_LINES = 5
TAIL_BYTES = 8192
FILE_MODE = 0o600


class Child:
    """One process of a place."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._log_start = log_start

    @classmethod
    async def start(
        cls, name: str, argv: Sequence[str], environ: Mapping[str, str], log: Path, log_bytes: int
    ) -> Child:
        """Start a process. It has to be called in the main thread, whose end would end the process.

        Args:
            name: of its place.
            argv: program and arguments.
            environ: its whole environment.
            log: file that its stdout and stderr are appended to.
            log_bytes: a file larger than this is put aside first.
        """
        descriptor = _open_log(log, log_bytes)
        try:
            start = os.fstat(descriptor).st_size
            process = await asyncio.create_subprocess_exec(
                *tethered(argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=dict(environ),
                process_group=0,
            )
        finally:
            os.close(descriptor)
        return cls(name, process, log, start)

    async def wait(self) -> int:
        """Return the exit code once it has ended, negative for a signal; what it left of its group is killed."""
        code = await self._process.wait()
        self._kill_group()
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the process (not to its group: it ends its own children)."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and all of its group."""
        self._kill_group()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, grace_s: float, kill_s: float) -> None:
        """End it: SIGTERM, after `grace_s` seconds a second one, after `kill_s` more SIGKILL."""
        for wait_s in (grace_s, kill_s):
            self.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), wait_s)
                return
        self.kill()
        await self._process.wait()

    def last_words(self) -> list[str]:
        """Return the last lines that it wrote."""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(self._log_start, size), size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()][-LAST_LINES:]

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _open_log(log: Path, log_bytes: int) -> int:
    """Open a file to append to; one that has grown too large is put aside first."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > log_bytes:
        log.replace(log.with_name(log.name + ".1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
