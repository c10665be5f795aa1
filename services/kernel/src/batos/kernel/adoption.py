"""Whose kernel is gone, and what of the open missions there is to do: facts in, verdict out; no image, bus or clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from batos.kernel import missions
from batos.kernel.missions import OpenMission, Owner
from batos.protocol import Roster


class Absence:
    """Which incarnations the bus has not listed for a while.

    It is counted over an unbroken series of rosters of one bus: a bus that starts anew, and a kernel that starts or
    stood still itself, begin to count from zero. Silence of the bus is no evidence against anybody.
    """

    def __init__(self, after_s: float) -> None:
        """Begin without evidence.

        Args:
            after_s: seconds that an incarnation has to be missing.
        """
        self._after_s = after_s
        self._bus = ""
        self._since = 0.0
        self._at = 0.0
        self._listed: dict[str, float] = {}

    def seen(self, roster: Roster, now: float) -> None:
        """Take a roster.

        Args:
            roster: who is there.
            now: monotonic seconds when it was asked for.
        """
        if roster.bus_incarnation != self._bus or now - self._at > self._after_s:
            self._bus = roster.bus_incarnation
            self._since = now
        self._at = now
        for card in roster.vessels:
            self._listed[card.incarnation] = now
        self._listed = {name: at for name, at in self._listed.items() if at >= self._since}

    def gone(self, incarnation: str) -> bool:
        """Say whether an incarnation has been missing for long enough.

        One that no roster has listed yet may have only just come: it is counted from the first question on.
        """
        return self._at - max(self._since, self._listed.setdefault(incarnation, self._at)) > self._after_s


@dataclass(frozen=True)
class Outlook:
    """What there is to do about the open missions, oldest first."""

    waiting: list[OpenMission] = field(default_factory=list)
    """Nobody runs them."""
    adoptable: list[OpenMission] = field(default_factory=list)
    """Their owner is gone: they are to be started again."""
    hopeless: list[OpenMission] = field(default_factory=list)
    """Their owner is gone, and so were too many before it."""
    left: list[OpenMission] = field(default_factory=list)
    """They have ended, and their owner will not tidy up after them."""
    strays: frozenset[tuple[str, int]] = frozenset()
    """Id and epoch of missions that are recorded as this kernel's and do not run here."""


def look(
    found: Iterable[OpenMission],
    *,
    owner: Owner,
    at_work: frozenset[str],
    strays_before: frozenset[tuple[str, int]],
    gone: Callable[[str], bool],
    most_adoptions: int,
) -> Outlook:
    """Sort the open missions.

    Args:
        found: the open missions, oldest first.
        owner: this kernel.
        at_work: ids of the missions that run here.
        strays_before: the strays of the look before; who is one twice is adopted by this kernel itself.
        gone: says which incarnations are no more.
        most_adoptions: how often a mission may be started again.
    """
    outlook = Outlook()
    strays = set()
    for mission in found:
        mine = mission.owner.incarnation == owner.incarnation
        if mission.state == missions.ACCEPTED:
            outlook.waiting.append(mission)
            continue
        if mine and mission.mission_id in at_work:
            continue
        stray = (mission.mission_id, mission.epoch)
        if mine:
            strays.add(stray)
        lost = stray in strays_before if mine else gone(mission.owner.incarnation)
        if not lost:
            continue
        if mission.state != missions.RUNNING:
            outlook.left.append(mission)
        elif mission.adoptions >= most_adoptions:
            outlook.hopeless.append(mission)
        else:
            outlook.adoptable.append(mission)
    return Outlook(outlook.waiting, outlook.adoptable, outlook.hopeless, outlook.left, frozenset(strays))
