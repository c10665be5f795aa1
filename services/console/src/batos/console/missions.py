"""Missions: asked, awaited, listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from batos.console import past
from batos.console.errors import MISSION_FAILED, ConsoleError, StillRunning, WrongUsage
from batos.console.fleet import Fleet
from batos.console.show import TICK_S, LineView, LiveView, Screen, SilentView, View, outcome_text
from batos.console.thought import ENDED, Thought, outcome
from batos.protocol import (
    Event,
    MissionAccepted,
    MissionEnded,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    RequestTimeout,
    new_id,
)

WAIT_S = 20.0
"""How long a kernel is asked to hold its answer until a mission has ended."""
LAST_WORDS_S = 0.5
"""How long events that were on their way may take once the outcome is known."""

Submit = Callable[[], Awaitable[object]]


def view_for(screen: Screen, mission_id: str) -> View:
    """Choose how a thought is shown."""
    if screen.as_json:
        return SilentView()
    if screen.moves:
        return LiveView(Thought(mission_id), screen.out)
    return LineView(Thought(mission_id), screen.out)


async def ask(
    fleet: Fleet, screen: Screen, text: str, *, weaver: str, timeout_s: float, request_s: float, mission_id: str = ""
) -> int:
    """Ask a mission, show the thought while it runs and how it ended; return the exit code."""
    if not text.strip():
        raise WrongUsage("mission_empty", "the mission is empty", 'say what is to be thought about: batos ask "…"')
    mission = mission_id or new_id()

    async def submit() -> MissionAccepted:
        body = MissionSubmit(mission_id=mission, text=text, weaver=weaver)
        return await fleet.request("kernel", body, MissionAccepted, timeout_s=request_s)

    return await _shown(fleet, screen, mission, timeout_s=timeout_s, request_s=request_s, submit=submit)


async def wait(fleet: Fleet, screen: Screen, mission_id: str, *, timeout_s: float, request_s: float) -> int:
    """Show a mission that was asked before until it ends; return the exit code."""
    found = await look(fleet, mission_id, request_s=request_s)
    if found.state in ENDED:
        return _told(screen, found)
    return await _shown(fleet, screen, mission_id, timeout_s=timeout_s, request_s=request_s)


async def look(fleet: Fleet, mission_id: str, *, at: str = "", request_s: float) -> MissionStatus:
    """Return how a mission stands, or stood at a moment."""
    asked = MissionWait(mission_id=mission_id, at=at)
    return await past.look(fleet, asked, MissionStatus, at=at, request_s=request_s)


async def newest(fleet: Fleet, limit: int, *, at: str = "", request_s: float) -> Missions:
    """Return the newest missions, now or at a moment."""
    return await past.look(fleet, MissionList(limit=limit, at=at), Missions, at=at, request_s=request_s)


def as_data(status: MissionStatus) -> dict[str, Any]:
    """Return a mission as `mission list --json` and `mission show --json` say it."""
    record: dict[str, Any] = msgspec.to_builtins(status)
    record.pop("type", None)
    return {**record, **outcome(status)}


async def _shown(
    fleet: Fleet, screen: Screen, mission_id: str, *, timeout_s: float, request_s: float, submit: Submit | None = None
) -> int:
    view = view_for(screen, mission_id)
    try:
        status = await follow(fleet, mission_id, view, timeout_s=timeout_s, request_s=request_s, submit=submit)
    except asyncio.CancelledError:
        view.close()
        screen.warn(f"the mission goes on without this command: batos mission wait {mission_id}")
        raise
    finally:
        view.close()
    return _told(screen, status)


def _told(screen: Screen, status: MissionStatus) -> int:
    screen.result(outcome(status))
    screen.say(outcome_text(status))
    return 0 if status.state == "COMPLETE" else MISSION_FAILED


async def follow(
    fleet: Fleet, mission_id: str, view: View, *, timeout_s: float, request_s: float, submit: Submit | None = None
) -> MissionStatus:
    """Submit a mission if told how, then watch it until it has ended.

    The outcome comes by whichever is first: the event, or a kernel's answer from the image. A kernel that dies
    meanwhile is no reason to give up: another one answers for its missions.

    Raises:
        StillRunning: it has not ended within `timeout_s` seconds; it goes on.
    """
    async with fleet.subscribe(f"mission/{mission_id}") as events:
        if submit is not None:
            await submit()
        ticking = asyncio.create_task(_tick(view))
        told = asyncio.create_task(_told_by_events(events, mission_id, view))
        asked = asyncio.create_task(_asked_for(fleet, mission_id, view, request_s))
        try:
            async with asyncio.timeout(timeout_s):
                done, _ = await asyncio.wait({told, asked}, return_when=asyncio.FIRST_COMPLETED)
                if told not in done:
                    await asyncio.wait({told}, timeout=LAST_WORDS_S)
                return asked.result() if asked in done else told.result()
        except TimeoutError:
            raise StillRunning(
                "mission_running",
                f"the mission has not ended within {timeout_s:g} s and goes on",
                f"see how it ends with `batos mission wait {mission_id}`",
            ) from None
        finally:
            tasks = (ticking, told, asked)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _tick(view: View) -> None:
    while True:
        view.tick()
        await asyncio.sleep(TICK_S)


async def _told_by_events(events: AsyncIterator[Event], mission_id: str, view: View) -> MissionStatus:
    async for event in events:
        view.event(event)
        if isinstance(event, MissionEnded) and event.status.mission_id == mission_id:
            return event.status
    raise ConsoleError("events_ended", "the stream of events has ended", "see `batos status`")


async def _asked_for(fleet: Fleet, mission_id: str, view: View, request_s: float) -> MissionStatus:
    question = MissionWait(mission_id=mission_id, timeout_s=WAIT_S)
    while True:
        try:
            status = await fleet.request("kernel", question, MissionStatus, timeout_s=WAIT_S + request_s)
        except RequestTimeout as silent:
            view.note(f"still waiting: {silent.message}")
            continue
        if status.state in ENDED:
            return status
