"""`batos roll`: planks replaced one after another, and what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from batos.console.errors import DONE
from batos.console.fleet import Fleet, roster
from batos.console.progress import Moving, progress_text
from batos.console.show import Screen
from batos.console.status import shown
from batos.console.thought import MS_PER_S
from batos.protocol import Event, Progress, Roll, Rolled, VesselChanged

TICK_S = 0.25


async def roll(fleet: Fleet, screen: Screen, target: str, *, timeout_s: float, request_s: float) -> int:
    """Have the supervisor replace every plank of a kind, or one vessel; return the exit code."""
    cards = shown(await roster(fleet, request_s))
    planks = sum(target in {card.kind, card.name} for card in cards)
    async with fleet.subscribe("progress/roll/", "fleet") as events:
        said = [f"roll {target}: {planks} planks"]
        with Moving(screen) as moving:
            tasks = [asyncio.create_task(_listen(events, target, said)), asyncio.create_task(_tick(said, moving))]
            try:
                body = Roll(target=target, timeout_s=timeout_s)
                rolled = await fleet.request(
                    "supervisor", body, Rolled, timeout_s=timeout_s * max(planks, 1) + request_s
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    screen.result({"planks": [_fields(plank) for plank in rolled.planks]})
    for plank in rolled.planks:
        screen.say(f"{plank.name}: {plank.old[-8:]} -> {plank.new[-8:]} in {plank.duration_ms / MS_PER_S:.1f} s")
    return DONE


def _fields(plank: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(plank)
    return fields


async def _listen(events: AsyncIterator[Event], target: str, said: list[str]) -> None:
    async for event in events:
        said[0] = roll_text(event, target) or said[0]


def roll_text(event: Event, target: str) -> str:
    """Say in words what an event means for a roll; empty where it is about something else.

    Other vessels change too, the keeper for one is unready as long as a plank is: that would hide what is awaited.
    """
    if isinstance(event, Progress):
        return progress_text(event)
    if isinstance(event, VesselChanged) and target in {event.card.kind, event.card.name}:
        return f"{event.card.name} {event.change}"
    return ""


async def _tick(said: list[str], moving: Moving) -> None:
    while True:
        moving.show(said[0])
        await asyncio.sleep(TICK_S)
