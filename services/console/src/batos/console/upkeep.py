"""`batos up` and `batos down`."""

from __future__ import annotations

import asyncio
import subprocess

from batos.console import keeping
from batos.console.errors import DONE, MISSION_FAILED
from batos.console.progress import Moving
from batos.console.settings import ConsoleSettings
from batos.console.show import Screen
from batos.vessel import keeper_pid

WATCH_S = 0.5


async def up_fleet(settings: ConsoleSettings, screen: Screen, *, detach: bool, kernels: int | None) -> int:
    """Start the fleet of a home and wait until it is ready; in the foreground, stay until Ctrl-C or its end."""
    running = keeper_pid(settings.home)
    if running is not None:
        with Moving(screen) as moving:
            places = await keeping.until_ready(settings, moving)
        screen.say(f"the fleet of {settings.home} already runs: {len(places)} vessels ready, keeper {running}")
        return DONE
    process = keeping.start_keeper(settings, kernels=kernels, tied=not detach)
    kept = False
    try:
        with Moving(screen) as moving:
            places = await keeping.until_ready(settings, moving, process)
            moving.keep(f"{len(places)} vessels ready in {settings.home}, keeper {process.pid}")
        kept = detach
        if detach:
            screen.say("end it with `batos down`")
            return DONE
        screen.say("Ctrl-C ends the fleet")
        return await _stay(process, settings, screen)
    finally:
        if not kept:
            await asyncio.shield(_end(process, settings, screen))


async def _stay(process: subprocess.Popen[bytes], settings: ConsoleSettings, screen: Screen) -> int:
    """Return the exit code once the keeper has ended by itself."""
    while process.poll() is None:  # noqa: ASYNC110 - a process has an exit code, no event
        await asyncio.sleep(WATCH_S)
    if process.returncode == 0:
        screen.say("the fleet was ended")
        return DONE
    words = "".join(f"\n  | {line}" for line in keeping.last_lines(settings.home / "log" / keeping.KEEPER_LOG))
    screen.warn(f"the keeper ended with exit code {process.returncode}:{words}")
    return MISSION_FAILED


async def _end(process: subprocess.Popen[bytes], settings: ConsoleSettings, screen: Screen) -> None:
    if process.poll() is None and keeper_pid(settings.home) is None:
        process.terminate()
    with Moving(screen) as moving:
        if await keeping.end_fleet(settings, moving):
            moving.keep("the fleet has ended")
    await asyncio.to_thread(process.wait)


async def down_fleet(settings: ConsoleSettings, screen: Screen) -> int:
    """End the fleet of a home."""
    with Moving(screen) as moving:
        if await keeping.end_fleet(settings, moving):
            moving.keep(f"the fleet of {settings.home} has ended, no process is left")
        else:
            screen.say(f"no fleet runs in {settings.home}")
    return DONE
