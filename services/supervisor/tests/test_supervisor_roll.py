"""A roll over a fleet that is played: no bus, no processes, no clock but its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from batos.protocol import VesselCard
from batos.supervisor import RollError, RollLimits, RollOut, RosterUnknown


def card(name: str, number: int = 1, *, kind: str = "", ready: bool = True, reason: str = "") -> VesselCard:
    return VesselCard(
        name=name,
        kind=kind or name.partition("-")[0],
        incarnation=f"{name}.{number}",
        pid=number,
        version="0",
        started_at=0.0,
        ready=ready,
        reason=reason,
    )


@dataclass
class PlayedFleet:
    """Vessels, what is done to them, and what happens at which look at the roster."""

    cards: list[VesselCard]
    singles: frozenset[str] = frozenset()
    successor_state: Callable[[int], tuple[bool, str]] = lambda look: (look >= 2, "waking up")
    successor_fails: str = ""
    drain_lost: int = 0
    silent: int = 0
    stuck: bool = False
    now: float = 0.0
    done: list[str] = field(default_factory=list)
    reports: list[tuple[str, float]] = field(default_factory=list)
    _coming: dict[str, int] = field(default_factory=dict)
    _number: int = 1

    async def roster(self) -> Sequence[VesselCard]:
        if self.silent:
            self.silent -= 1
            raise RosterUnknown("roster_unknown", "the bus is silent")
        for name in list(self._coming):
            self._coming[name] += 1
            ready, reason = self.successor_state(self._coming[name])
            self._put(name, ready=ready, reason=reason)
            if ready:
                del self._coming[name]
        self.cards = [one for one in self.cards if not one.draining or self.stuck]
        return list(self.cards)

    async def drain(self, incarnation: str, timeout_s: float) -> None:
        assert timeout_s == 20.0
        self.done.append(f"drain {incarnation}")
        if self.drain_lost:
            self.drain_lost -= 1
            return
        for position, one in enumerate(self.cards):
            if one.incarnation == incarnation and not one.draining:
                self.cards[position] = msgspec.structs.replace(one, draining=True, ready=False)
                if len([other for other in self.cards if other.name == one.name]) == 1:
                    self._come(one.name)

    async def spawn_successor(self, name: str, beside: VesselCard) -> bool:
        assert beside.name == name
        if name in self.singles:
            return False
        if self.successor_fails:
            if any(word.startswith("spawn") for word in self.done):
                raise RollError("successor_failed", name, self.successor_fails)
            self.done.append(f"spawn {name}")
            return True
        if name not in self._coming:
            self.done.append(f"spawn {name}")
            self._come(name)
        return True

    async def abandon_successor(self, name: str) -> None:
        self.done.append(f"abandon {name}")

    def report(self, stage: str, fraction: float, detail: str) -> None:
        assert detail
        self.reports.append((stage, fraction))

    async def pause(self, seconds: float) -> None:
        self.now += seconds

    def _come(self, name: str) -> None:
        self._number += 1
        self._coming[name] = 0

    def _put(self, name: str, *, ready: bool, reason: str) -> None:
        kind = name.partition("-")[0]
        made = card(name, self._number, kind=kind, ready=ready, reason=reason)
        self.cards = [one for one in self.cards if one.incarnation != made.incarnation] + [made]

    def roll(self, whole_s: float = 60.0) -> RollOut:
        limits = RollLimits(whole_s=whole_s, drain_s=20.0, poll_s=1.0)
        return RollOut(self, limits, clock=lambda: self.now, pause=self.pause)


KEEPER = card("keeper")
BUS = card("bus")


async def test_kernels_one_after_another() -> None:
    """With a keeper the successor is ready before the old plank is drained, and one kernel is done before the next."""
    fleet = PlayedFleet([BUS, KEEPER, card("kernel-2"), card("kernel-1")])
    planks = await fleet.roll().run("kernel")
    assert fleet.done == [
        "abandon kernel-1", "spawn kernel-1", "drain kernel-1.1", "abandon kernel-2", "spawn kernel-2",
        "drain kernel-2.1",
    ]  # fmt: skip
    assert [(plank.name, plank.old, plank.new) for plank in planks] == [
        ("kernel-1", "kernel-1.1", "kernel-1.2"),
        ("kernel-2", "kernel-2.1", "kernel-2.3"),
    ]
    fractions = [fraction for _, fraction in fleet.reports]
    assert fractions == sorted(fractions)
    assert fleet.reports[-1] == ("done", 1.0)


async def test_one_vessel_by_name() -> None:
    """A name means that vessel only."""
    fleet = PlayedFleet([BUS, KEEPER, card("kernel-1"), card("kernel-2")])
    planks = await fleet.roll().run("kernel-2")
    assert [plank.name for plank in planks] == ["kernel-2"]


async def test_who_is_alone_is_drained_first() -> None:
    """A place for one is drained, then awaited under the same name, while the bus itself may be away."""
    fleet = PlayedFleet([BUS, KEEPER, card("image")], singles=frozenset({"bus", "image"}))
    planks = await fleet.roll().run("image")
    assert fleet.done == ["abandon image", "drain image.1"]
    assert planks[0].new == "image.2"
    fleet.silent = 5
    planks = await fleet.roll().run("bus")
    assert planks[0].old == "bus.1"


async def test_without_a_keeper() -> None:
    """Where nobody keeps processes (containers) every plank is drained first."""
    fleet = PlayedFleet([BUS, card("kernel-1")])
    planks = await fleet.roll().run("kernel")
    assert fleet.done == ["drain kernel-1.1"]
    assert planks[0].new == "kernel-1.2"


async def test_a_successor_that_is_never_ready() -> None:
    """The old plank stays, the successor is abandoned, and the error says what the successor itself said."""
    fleet = PlayedFleet(
        [BUS, KEEPER, card("kernel-1"), card("kernel-2")], successor_state=lambda _: (False, "probing the engine")
    )
    with pytest.raises(RollError) as caught:
        await fleet.roll(whole_s=30).run("kernel")
    assert fleet.done == ["abandon kernel-1", "spawn kernel-1", "abandon kernel-1"]
    assert caught.value.code == "roll_timeout"
    assert caught.value.vessel == "kernel-1"
    assert "waited 30 s for the successor of kernel-1 to be ready" in caught.value.message
    assert "not ready (probing the engine)" in caught.value.message
    assert "the old plank keeps its place" in caught.value.message


async def test_a_successor_that_dies() -> None:
    """Its end is noticed long before the roll's time is over."""
    fleet = PlayedFleet([BUS, KEEPER, card("kernel-1")], successor_fails="ended with exit code 1: no image")
    with pytest.raises(RollError, match="no image; the old plank keeps its place"):
        await fleet.roll(whole_s=1000).run("kernel")
    assert fleet.now < 20
    assert fleet.done[-1] == "abandon kernel-1"
    assert not any(word.startswith("drain") for word in fleet.done)


async def test_a_drain_that_got_lost_is_asked_again() -> None:
    """A plank that does not say it drains is asked once more."""
    fleet = PlayedFleet([BUS, KEEPER, card("kernel-1")], drain_lost=1)
    await fleet.roll().run("kernel")
    assert fleet.done.count("drain kernel-1.1") == 2


async def test_a_plank_that_never_ends() -> None:
    """A plank that drains for ever ends the roll with its name."""
    fleet = PlayedFleet([BUS, KEEPER, card("kernel-1")], stuck=True)
    with pytest.raises(RollError, match=r"kernel-1 \(kernel-1.1\) to end after its drain; last seen: .*draining"):
        await fleet.roll(whole_s=30).run("kernel")


async def test_the_just_lost_are_awaited() -> None:
    """While the roster still shows a dead incarnation beside the living one, the roll waits for it to be gone."""
    dead = card("kernel-1", 0)
    fleet = PlayedFleet([BUS, KEEPER, dead, card("kernel-1")])
    original = fleet.roster

    async def roster() -> Sequence[VesselCard]:
        if fleet.now > 3:
            fleet.cards = [one for one in fleet.cards if one is not dead]
        return await original()

    fleet.roster = roster  # type: ignore[method-assign]
    (plank,) = await fleet.roll().run("kernel")
    assert plank.old == "kernel-1.1"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("kernels", "did you mean 'kernel'"),
        ("zzz", "there are bus, kernel, kernel-1"),
        ("supervisor", "it leads the roll itself"),
        ("keeper", "batos down"),
    ],
)
async def test_targets_that_cannot_be_rolled(target: str, words: str) -> None:
    """An unknown target and those that cannot be rolled are refused with what to do, and nothing is touched."""
    fleet = PlayedFleet([BUS, KEEPER, card("kernel-1"), card("supervisor")])
    with pytest.raises(RollError) as caught:
        await fleet.roll().run(target)
    assert words in caught.value.hint
    assert fleet.done == []


async def test_a_bus_that_stays_silent() -> None:
    """Without a roster the roll ends after its time and says that the bus was silent."""
    fleet = PlayedFleet([BUS], silent=10_000)
    with pytest.raises(RollError, match="the bus is silent"):
        await fleet.roll(whole_s=5).run("kernel")
