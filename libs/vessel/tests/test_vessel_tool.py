"""Work in a process of its own: its outcome, its refusal, its death, and what becomes of it when nobody waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from batos.protocol import MissionAccepted, Progress
from batos.vessel import VesselError
from batos.vessel.tool import run_tool

PROGRAM = """
import sys, time
said = sys.argv[1]
print('{"type":"Progress","what":"w","id":"i","stage":"begun"}', flush=True)
if said == "outcome":
    print('{"type":"MissionAccepted","mission_id":"m1"}')
elif said == "refused":
    print('{"type":"ErrorReply","code":"c","message":"not today","hint":"tomorrow"}')
    sys.exit(1)
elif said == "dies":
    sys.exit("an unexpected end")
else:
    time.sleep(600)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tool_under_test.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "tool_under_test"


async def test_outcome(module: str) -> None:
    """Progress is passed on, the last line is returned."""
    said: list[Progress] = []
    assert await run_tool(module, ["outcome"], said.append) == MissionAccepted(mission_id="m1")
    assert [one.stage for one in said] == ["begun"]


async def test_refusal(module: str) -> None:
    """What it refuses is an error with its own words."""
    with pytest.raises(VesselError, match="not today; tomorrow") as caught:
        await run_tool(module, ["refused"], lambda _: None)
    assert caught.value.code == "c"


async def test_death(module: str) -> None:
    """An end without an outcome is an error with its exit code and last words."""
    with pytest.raises(VesselError, match="exit code 1; its last words: an unexpected end"):
        await run_tool(module, ["dies"], lambda _: None)


async def test_cancelled(module: str) -> None:
    """Whoever waits no longer leaves no process behind."""
    begun = asyncio.Event()
    task = asyncio.create_task(run_tool(module, ["sleeps"], lambda _: begun.set()))
    async with asyncio.timeout(30):
        await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [child for child in psutil.Process().children(recursive=True) if module in child.cmdline()]
