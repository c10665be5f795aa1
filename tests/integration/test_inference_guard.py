"""The guard of engines that start processes of their own: nothing of them is left, however it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil

from batos.persona_inference import guard

PATIENCE_S = 30.0
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
# One child in the group, one in a session of its own, as multiprocessing's helpers may be.
first = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
second = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


async def start(program: str, grace_s: float = 0.2) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", guard.__file__, str(grace_s), sys.executable, "-c", program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def started(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"up\n"
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) == 3
    return below


async def ended(process: asyncio.subprocess.Process, below: list[psutil.Process]) -> int:
    code = await asyncio.wait_for(process.wait(), PATIENCE_S)
    assert all(not child.is_running() for child in below)
    return code


async def test_the_end_of_its_input_ends_everything() -> None:
    """As when the vessel dies: even what ignores SIGTERM or has a session of its own."""
    process = await start(STUBBORN)
    below = await started(process)
    assert process.stdin is not None
    process.stdin.close()
    assert await ended(process, below) == 128 + signal.SIGKILL


async def test_a_signal_ends_everything() -> None:
    """SIGTERM to the guard is passed on, then enforced."""
    process = await start(STUBBORN)
    below = await started(process)
    process.terminate()
    assert await ended(process, below) == 128 + signal.SIGKILL


async def test_what_a_killed_program_leaves_is_ended() -> None:
    """The program's own death is no way out for its children."""
    process = await start(STUBBORN)
    below = await started(process)
    psutil.Process(process.pid).children()[0].kill()
    assert await ended(process, below) == 128 + signal.SIGKILL


async def test_the_exit_code_is_the_programs() -> None:
    """So that who started it knows how it ended."""
    process = await start("raise SystemExit(3)")
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 3


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With an exit code of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", guard.__file__, "1", str(tmp_path / "none")),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 127
    assert b"cannot start" in said
