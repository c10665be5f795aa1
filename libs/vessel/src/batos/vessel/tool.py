"""Work in a process of its own that says how far it is: JSON Lines of `Progress`, the last line its outcome."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

import msgspec

from batos.protocol import ErrorReply, Message, Progress, Reply
from batos.vessel.errors import VesselError
from batos.vessel.tether import tethered

LINE_BYTES = 64 * 1024 * 1024
_LAST_WORDS = 2000

_decode = msgspec.json.Decoder(Progress | Reply | ErrorReply).decode


async def run_tool(module: str, arguments: Sequence[str], on_progress: Callable[[Progress], None]) -> Message:
    """Run a module and return its outcome. It ends with this process, and when this is cancelled.

    To be called in the main thread's event loop: the child is tied to the thread that starts it.

    Args:
        module: is run as `python -m`.
        arguments: its arguments.
        on_progress: called with what it says meanwhile.

    Raises:
        VesselError: it refused, in its own words, or it ended without an outcome.
    """
    process = await asyncio.create_subprocess_exec(
        *tethered([sys.executable, "-m", module, *arguments]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker: they are pipes
    assert process.stderr is not None  # noqa: S101 - as above
    words = asyncio.create_task(process.stderr.read())
    outcome: Message | None = None
    try:
        async for line in process.stdout:
            said: Message = _decode(line)
            if isinstance(said, Progress):
                on_progress(said)
            else:
                outcome = said
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        last = (await words).decode(errors="replace").strip()[-_LAST_WORDS:]
    if outcome is None:
        raise VesselError(
            "tool_ended", f"{module} ended with exit code {process.returncode}; its last words: {last or 'none'}"
        )
    if isinstance(outcome, ErrorReply):
        raise VesselError(outcome.code, outcome.message, outcome.hint)
    return outcome
