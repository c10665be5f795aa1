"""A roll as a state machine over whatever knows and moves the fleet: planks replaced one after another."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from batos.protocol import Plank, VesselCard
from batos.supervisor.errors import RollError, RosterUnknown

T = TypeVar("T")
Look = Callable[[Sequence[VesselCard]], T | None]
Nudge = Callable[[Sequence[VesselCard]], Awaitable[None]]

NOT_ROLLED = {
    "supervisor": "it leads the roll itself; end its process and it is started again",
    "keeper": "it is the parent of the fleet; use `batos down` and `batos up`",
    "console": "it is a person's; leave it and start it again",
}
NUDGE_EVERY = 5
"""Looks at the roster between two reminders: how is the successor, did the drain arrive?"""


class RollFleet(Protocol):
    """What a roll needs of the fleet."""

    async def roster(self) -> Sequence[VesselCard]:
        """Return who is there.

        Raises:
            RosterUnknown: the bus does not say.
        """

    async def drain(self, incarnation: str, timeout_s: float) -> None:
        """Ask an incarnation to drain. Returns even where the answer was lost: the roster tells."""

    async def spawn_successor(self, name: str, beside: VesselCard) -> bool:
        """Start a second process for a place, or find it running; False where nobody may run beside the first.

        Args:
            name: of the place.
            beside: the plank that is to be followed.

        Raises:
            RollError: there can be none now, or it has ended.
        """

    async def abandon_successor(self, name: str) -> None:
        """End the successor of a place, if there is one.

        Raises:
            RollError: it cannot be said whether it has ended.
        """

    def report(self, stage: str, fraction: float, detail: str) -> None:
        """Say how far the roll is."""


@dataclass(frozen=True, slots=True)
class RollLimits:
    """How long things may take, in seconds.

    Attributes:
        whole_s: the roll.
        drain_s: what still runs on a plank.
        poll_s: between two looks at the roster.
    """

    whole_s: float
    drain_s: float
    poll_s: float


class RollOut:
    """One roll."""

    def __init__(
        self,
        fleet: RollFleet,
        limits: RollLimits,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Begin the roll's time.

        Args:
            fleet: what is rolled.
            limits: how long things may take.
            clock: seconds that only go forward.
            pause: waits for some seconds.
        """
        self._fleet = fleet
        self._limits = limits
        self._clock = clock
        self._pause = pause
        self._ends_at = clock() + limits.whole_s
        self._present: set[str] = set()

    async def run(self, target: str) -> tuple[Plank, ...]:
        """Replace every plank of a kind, or the one vessel of that name.

        Raises:
            RollError: there is no such plank, or one could not be replaced; the planks after it are untouched.
        """
        roster = await self._until("", "the bus to say who is there", lambda cards: cards)
        names = choose_planks(target, roster)
        has_keeper = any(card.kind == "keeper" for card in roster)
        done: list[Plank] = []
        for name in names:

            def report(stage: str, share: float, detail: str) -> None:
                self._fleet.report(stage, (len(done) + share) / len(names), detail)

            done.append(await self._replace(name, report, has_keeper=has_keeper))
        self._fleet.report("done", 1.0, f"replaced {', '.join(names)}")
        return tuple(done)

    async def _replace(self, name: str, report: Callable[[str, float, str], None], *, has_keeper: bool) -> Plank:
        begun = self._clock()
        if has_keeper:
            await self._fleet.abandon_successor(name)
        old = await self._until(name, f"{name} to be on the bus once", lambda cards: _only(cards, name))
        if has_keeper and await self._fleet.spawn_successor(name, old):
            report("successor", 0.1, f"{name}: its successor is starting")
            new = await self._successor(name, old)
            report("draining", 0.6, f"{name}: its successor is ready, it finishes its work")
            await self._fleet.drain(old.incarnation, self._limits.drain_s)
            await self._until(
                name,
                f"{name} ({old.incarnation}) to end after its drain",
                lambda cards: None if _find(cards, old.incarnation) else True,
                self._remind(old),
            )
        else:
            report("draining", 0.1, f"{name}: it finishes its work")
            await self._fleet.drain(old.incarnation, self._limits.drain_s)
            report("awaiting", 0.5, f"{name}: it is being started again")
            new = await self._until(
                name,
                f"{name} to be started again and ready",
                lambda cards: _ready(cards, name, old.incarnation),
                self._remind(old),
            )
        report("replaced", 1.0, f"{name}: {new.incarnation} has taken its place")
        duration_ms = round((self._clock() - begun) * 1000)
        return Plank(name=name, old=old.incarnation, new=new.incarnation, duration_ms=duration_ms)

    async def _successor(self, name: str, old: VesselCard) -> VesselCard:
        """Return the successor's card once it is ready; if it does not become so the old plank stays.

        Raises:
            RollError: it ended or takes too long.
        """

        async def still_runs(cards: Sequence[VesselCard]) -> None:
            del cards
            await self._fleet.spawn_successor(name, old)

        try:
            return await self._until(
                name,
                f"the successor of {name} to be ready",
                lambda cards: _ready(cards, name, old.incarnation),
                still_runs,
            )
        except RollError as error:
            kept = "the old plank keeps its place" if old.incarnation in self._present else "the old plank is gone, too"
            try:
                await self._fleet.abandon_successor(name)
            except RollError as second:
                kept = f"{kept}; {second.message}"
            raise RollError(error.code, name, f"{error.message}; {kept}", error.hint) from error

    def _remind(self, old: VesselCard) -> Nudge:
        """Return what asks a plank again to drain that does not say it does."""

        async def remind(cards: Sequence[VesselCard]) -> None:
            card = _find(cards, old.incarnation)
            if card is not None and not card.draining:
                await self._fleet.drain(old.incarnation, self._limits.drain_s)

        return remind

    async def _until(self, name: str, what: str, look: Look[T], nudge: Nudge | None = None) -> T:
        """Look at the roster until it shows what is awaited.

        Raises:
            RollError: the roll's time is over; it names what was awaited and what was seen last.
        """
        seen = ""
        looks = 0
        while True:
            try:
                cards = await self._fleet.roster()
                self._present = {card.incarnation for card in cards}
                found = look(cards)
                if found is not None:
                    return found
                seen = "; ".join(_said(card) for card in cards if card.name == name) or "it is not on the bus"
                looks += 1
                if nudge is not None and looks % NUDGE_EVERY == 0:
                    await nudge(cards)
            except RosterUnknown as error:
                seen = error.message
            if self._clock() >= self._ends_at:
                raise RollError(
                    "roll_timeout", name, f"waited {self._limits.whole_s:g} s for {what}; last seen: {seen}"
                )
            await self._pause(self._limits.poll_s)


def choose_planks(target: str, roster: Sequence[VesselCard]) -> list[str]:
    """Return the names of the planks that a target means, in the order in which they are replaced.

    Raises:
        RollError: none, or one that is not rolled.
    """
    names = {card.name for card in roster if card.name == target} or {
        card.name for card in roster if card.kind == target
    }
    if not names:
        rolled = [card for card in roster if card.kind not in NOT_ROLLED]
        known = sorted({card.kind for card in rolled} | {card.name for card in rolled})
        near = difflib.get_close_matches(target, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise RollError("roll_target_unknown", "", f"no vessel has the kind or the name {target!r}", hint)
    for card in roster:
        if card.name in names and card.kind in NOT_ROLLED:
            raise RollError("roll_refused", card.name, f"{card.name} cannot be rolled", NOT_ROLLED[card.kind])
    return sorted(names)


def _find(cards: Sequence[VesselCard], incarnation: str) -> VesselCard | None:
    return next((card for card in cards if card.incarnation == incarnation), None)


def _only(cards: Sequence[VesselCard], name: str) -> VesselCard | None:
    """Return the one card of a name; None while there are several (one of them just ended) or none."""
    mine = [card for card in cards if card.name == name]
    return mine[0] if len(mine) == 1 else None


def _ready(cards: Sequence[VesselCard], name: str, old: str) -> VesselCard | None:
    return next((card for card in cards if card.name == name and card.incarnation != old and card.ready), None)


def _said(card: VesselCard) -> str:
    how = "draining" if card.draining else "ready" if card.ready else f"not ready ({card.reason})"
    return f"{card.name} {card.incarnation} is {how}"
