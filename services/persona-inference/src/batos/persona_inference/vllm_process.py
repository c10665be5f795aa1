"""vLLM's server process, under a guard that ends all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batos.persona_inference import guard
from batos.persona_inference.errors import EngineFailed

GRACE_S = 5.0
"""Between asking the server to end and ending it by force."""
STOP_TIMEOUT_S = 20.0
LONGEST_LINE = 1024 * 1024
LAST_LINES = 20
"""Of its output, shown where it fails."""

_STAGES = (
    (re.compile(r"Loading safetensors checkpoint shards:\s+(\d+%)"), "loading weights, {}"),
    (re.compile(r"Loading weights took"), "weights loaded"),
    (re.compile(r"Starting to load model|Loading model from"), "loading weights"),
    (re.compile(r"[Cc]ompil\w+ (?:a )?graph|torch\.compile"), "compiling"),
    (re.compile(r"KV cache size: ([\d,]+ tokens)"), "cache of {}"),
    (re.compile(r"[Cc]aptur\w+ CUDA graphs?.*?(\d+%)?"), "capturing CUDA graphs {}"),
    (re.compile(r"[Ww]arm\w* up|init engine"), "warming up"),
    (re.compile(r"Starting vLLM"), "opening its address"),
)

_log = logging.getLogger(__name__)


def stage(line: str) -> str:
    """Return how far vLLM is, by one line of its output; empty where the line says nothing about it."""
    for pattern, words in _STAGES:
        if found := pattern.search(line):
            return words.format(*(group or "" for group in found.groups())).strip()
    return ""


class VllmProcess:
    """One start of the server."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], said: Callable[[str], None]) -> None:
        """Begin without a process.

        Args:
            command: its argument list.
            environment: variables beside the vessel's own.
            said: is told how far the start is.
        """
        self._command = list(command)
        self._environment = environment
        self._said = said
        self._guard: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._guard is not None and self._guard.returncode is None

    @property
    def guard_pid(self) -> int:
        """Process id of the guard; 0 before `start`."""
        return self._guard.pid if self._guard is not None else 0

    @property
    def last_words(self) -> str:
        """The end of its output."""
        return "\n".join(self._last)

    async def start(self) -> None:
        """Start the process; it will take long to answer.

        Raises:
            EngineFailed: it cannot be started.
        """
        if not await asyncio.to_thread(Path(self._command[0]).is_file):
            raise EngineFailed(f"there is no interpreter at {self._command[0]}", "set BATOS_INFERENCE_VLLM_PYTHON")
        self._guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", guard.__file__, str(GRACE_S), *self._command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._environment},
            limit=LONGEST_LINE,
        )
        self._reader = asyncio.create_task(self._read(self._guard), name="vllm-output")

    async def wait(self) -> int:
        """Wait until it ends; return its exit code."""
        return await self._guard.wait() if self._guard is not None else 0

    async def stop(self) -> None:
        """End it and all that it started."""
        process = self._guard
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            _log.error("vLLM's guard did not end within %g s: killed", STOP_TIMEOUT_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:
                _log.warning("vLLM wrote a line longer than %d bytes: left out", LONGEST_LINE)
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            if not line:
                continue
            self._last.append(line)
            _log.debug("vllm: %s", line)
            if words := stage(line):
                self._said(words)
