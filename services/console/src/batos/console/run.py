"""`batos run`: the whole of it in one command, as `make run` calls it."""

from __future__ import annotations

import asyncio
import time

from batos.console import keeping, missions
from batos.console.fleet import reach
from batos.console.progress import Moving
from batos.console.settings import ConsoleSettings
from batos.console.show import Screen
from batos.vessel import keeper_pid

FIRST_MISSION = (
    "Every plank of a ship was replaced, one at a time. Is it the same ship? Answer in two sentences, and say why."
)
"""What a fresh fleet is asked; the README shows it."""


async def run(settings: ConsoleSettings, screen: Screen, *, timeout_s: float) -> int:
    """Start a fleet unless one runs, ask the first mission, converse where somebody is there; return the exit code.

    A fleet that this command started ends with it.
    """
    began = time.monotonic()
    starts = keeper_pid(settings.home) is None
    process = keeping.start_keeper(settings, kernels=None, tied=True) if starts else None
    try:
        with Moving(screen) as moving:
            places = await keeping.until_ready(settings, moving, process)
            words = "all ready" if starts else "already running, attached"
            moving.keep(f"{len(places)} vessels in {settings.home}: {words}")
        async with reach(settings) as fleet:
            screen.say(f"\nmission: {FIRST_MISSION}\n")
            code = await missions.ask(
                fleet, screen, FIRST_MISSION, weaver="", timeout_s=timeout_s, request_s=settings.console_request_s
            )
            screen.say(f"\nfrom the command to the answer: {time.monotonic() - began:.1f} s")
            if screen.interactive:
                from batos.console.session import converse  # noqa: PLC0415 - not needed without a terminal

                await converse(fleet, settings, screen)
                code = 0
        return code
    finally:
        if starts:
            await asyncio.shield(_end(settings, screen))


async def _end(settings: ConsoleSettings, screen: Screen) -> None:
    with Moving(screen) as moving:
        if await keeping.end_fleet(settings, moving):
            moving.keep("the fleet that this command started has ended; the mind is in the image")
