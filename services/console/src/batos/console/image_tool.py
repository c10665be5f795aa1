"""`python -m batos.image.care` as commands use it: ended after a time, its outcome of the kind that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from batos.console.errors import ConsoleError
from batos.protocol import Message, Progress
from batos.vessel.tool import run_tool

TOOL = "batos.image.care"
LONGEST_S = 604_800.0
"""What nobody gave a time may take."""
_MORE_TIME = {
    "pack": "what it had packed stays packed; pack again, with a longer --timeout",
    "verify": "give it longer with --timeout",
}
_OTHERWISE = "see whether the database answers, or give it longer: BATOS_CONSOLE_REQUEST_S"

M = TypeVar("M", bound=Message)


async def run_image_tool(
    arguments: Sequence[str], kind: type[M], tell: Callable[[Progress], None], *, timeout_s: float = LONGEST_S
) -> M:
    """Run it and return its outcome.

    Args:
        arguments: what it is to do, and with what.
        kind: of the outcome.
        tell: is told how far it is.
        timeout_s: seconds after which it is ended.

    Raises:
        ConsoleError: it took longer.
        VesselError: it refused.
    """
    try:
        async with asyncio.timeout(timeout_s):
            outcome = await run_tool(TOOL, arguments, tell)
    except TimeoutError:
        raise ConsoleError(
            "care_late",
            f"`{arguments[0]}` took longer than {timeout_s:g} s and was ended",
            _MORE_TIME.get(arguments[0], _OTHERWISE),
        ) from None
    if not isinstance(outcome, kind):
        raise ConsoleError("tool_answer", f"{TOOL} answered with {type(outcome).__name__}", "this is a fault of it")
    return outcome
