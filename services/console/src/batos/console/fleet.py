"""The fleet as commands see it: somebody who answers requests and whose events can be listened to."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from packaging.version import Version

from batos.console.errors import START_IT, FleetUnreachable
from batos.console.settings import ConsoleSettings
from batos.protocol import BusUnreachable, Event, Message, Peer, Roster, RosterGet, VesselCard, new_id
from batos.vessel import SettingsError, keeper_pid

R = TypeVar("R", bound=Message)

KIND = "console"


class Fleet(Protocol):
    """What commands need of a fleet; `Peer` has it."""

    async def request(self, service: str, body: Message, reply: type[R], *, timeout_s: float) -> R:
        """Ask a service; errors as `Peer.request` has them."""

    def subscribe(self, *topics: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen to topics that begin so; once entered, nothing that comes after is left out."""


@asynccontextmanager
async def reach(settings: ConsoleSettings) -> AsyncIterator[Peer]:
    """Connect to the fleet of a home, under an identity of this process alone.

    Raises:
        FleetUnreachable: none runs there, or its bus does not answer within `console_reach_s`.
    """
    told = bool(settings.bus_work and settings.bus_control and settings.bus_publish and settings.bus_subscribe)
    if not told and keeper_pid(settings.home) is None:
        raise FleetUnreachable("fleet_down", f"no fleet runs in {settings.home}", START_IT)
    try:
        settings = settings.with_fleet()
    except SettingsError as error:
        if error.code != "bus_unknown":
            raise
        raise FleetUnreachable(
            "fleet_down", f"the fleet of {settings.home} has not said where it is", START_IT
        ) from None
    card = own_card()
    peer = Peer(
        settings.bus_addresses(),
        settings.key_ring().ensure(settings.key_name or KIND),
        lambda: card,
        heartbeat_s=settings.heartbeat_s,
    )
    await peer.start()
    try:
        try:
            await peer.wait_connected(settings.console_reach_s)
        except BusUnreachable:
            raise FleetUnreachable(
                "bus_unreachable",
                f"the bus of the fleet in {settings.home} does not answer within {settings.console_reach_s:g} s",
                f"{START_IT}, or see how it is in {settings.home / 'log' / 'bus.log'}",
            ) from None
        yield peer
    finally:
        await peer.close()


def own_card() -> VesselCard:
    """Make this process's card: a name of its own, so that two commands at once are two peers."""
    incarnation = new_id()
    return VesselCard(
        name=f"{KIND}-{incarnation[-8:]}",
        kind=KIND,
        incarnation=incarnation,
        pid=os.getpid(),
        version=importlib.metadata.version("batos-console"),
        started_at=time.time(),
        ready=True,
    )


async def newest_kernel(fleet: Fleet, timeout_s: float) -> str:
    """Return the service of a kernel of the newest release that is ready: it knows more than the others do."""
    found = [card for card in (await roster(fleet, timeout_s)).vessels if card.kind == "kernel" and card.ready]
    newest = max(found, key=lambda card: Version(card.version), default=None)
    return "kernel" if newest is None else f"kernel/{newest.name}"


async def roster(fleet: Fleet, timeout_s: float) -> Roster:
    """Ask the bus who is there."""
    return await fleet.request("bus", RosterGet(), Roster, timeout_s=timeout_s)
