"""When a kernel counts as gone, and what follows for the open missions."""

from __future__ import annotations

from batos.kernel import missions
from batos.kernel.adoption import Absence, Outlook, look
from batos.kernel.missions import OpenMission, Owner
from batos.protocol import Roster, VesselCard

ME = Owner("kernel-1", "me")
OTHER = Owner("kernel-2", "other")


def roster(*incarnations: str, bus: str = "bus-1") -> Roster:
    cards = tuple(
        VesselCard(name=name, kind="kernel", incarnation=name, pid=1, version="0", started_at=0.0)
        for name in incarnations
    )
    return Roster(bus_incarnation=bus, bus_started_at=0.0, vessels=cards)


def mission(mission_id: str, state: str = missions.RUNNING, owner: Owner = OTHER, **other: int) -> OpenMission:
    given = {"epoch": 1, "adoptions": 0} | other
    return OpenMission(mission_id, state, "architect", owner, given["epoch"], given["adoptions"], "cycle", 0.0)


def sorted_out(
    *found: OpenMission, at_work: str = "", strays: frozenset[tuple[str, int]] = frozenset(), gone: str = "other"
) -> Outlook:
    return look(
        found,
        owner=ME,
        at_work=frozenset(at_work.split()),
        strays_before=strays,
        gone=lambda incarnation: incarnation == gone,
        most_adoptions=3,
    )


def test_missing_long_enough() -> None:
    """An incarnation is gone once rosters have not listed it for longer than the limit."""
    absence = Absence(6.0)
    absence.seen(roster("a", "b"), 100.0)
    for at in range(101, 107):
        absence.seen(roster("b"), float(at))
        assert not absence.gone("a")
    absence.seen(roster("b"), 106.5)
    assert absence.gone("a")
    assert not absence.gone("b")


def test_who_has_only_just_come_is_not_gone() -> None:
    """Somebody whom no roster has listed yet is counted from the first question about them, not from the beginning."""
    absence = Absence(6.0)
    for at in range(100, 140):
        absence.seen(roster("a"), float(at))
    assert not absence.gone("x")
    absence.seen(roster("a"), 145.0)
    assert not absence.gone("x")
    absence.seen(roster("a"), 145.5)
    assert absence.gone("x")


def test_never_listed_counts_from_the_first_roster() -> None:
    """Whoever was never listed is missing since this kernel began to look and was asked."""
    absence = Absence(6.0)
    assert not absence.gone("x")
    absence.seen(roster(), 100.0)
    assert not absence.gone("x")
    absence.seen(roster(), 105.0)
    absence.seen(roster(), 106.1)
    assert absence.gone("x")


def test_new_bus_counts_from_zero() -> None:
    """A bus that has just started has not heard of everybody yet."""
    absence = Absence(6.0)
    for at in range(100, 110):
        absence.seen(roster("a"), float(at))
    absence.seen(roster(bus="bus-2"), 110.0)
    assert not absence.gone("a")
    absence.seen(roster(bus="bus-2"), 115.0)
    assert not absence.gone("a")
    absence.seen(roster(bus="bus-2"), 116.5)
    assert absence.gone("a")


def test_own_standstill_counts_from_zero() -> None:
    """A kernel that stood still itself has no evidence against anybody."""
    absence = Absence(6.0)
    absence.seen(roster("a"), 100.0)
    absence.seen(roster(), 500.0)
    assert not absence.gone("a")
    absence.seen(roster(), 505.0)
    absence.seen(roster(), 506.5)
    assert absence.gone("a")


def test_lost_owners_missions_are_adopted() -> None:
    """What a lost kernel was at is adoptable; what a living one is at is not."""
    living = Owner("kernel-3", "living")
    outlook = sorted_out(mission("1"), mission("2", owner=living), mission("3", missions.ACCEPTED, Owner("", "")))
    assert [found.mission_id for found in outlook.adoptable] == ["1"]
    assert [found.mission_id for found in outlook.waiting] == ["3"]
    assert not outlook.hopeless
    assert not outlook.left


def test_too_many_adoptions_are_hopeless() -> None:
    """A mission whose kernels were lost too often is not started again."""
    outlook = sorted_out(mission("1", adoptions=2), mission("2", adoptions=3))
    assert [found.mission_id for found in outlook.adoptable] == ["1"]
    assert [found.mission_id for found in outlook.hopeless] == ["2"]


def test_ended_missions_of_lost_owners_are_tidied() -> None:
    """What ended and was not tidied up after by its owner is left to others once the owner is gone."""
    outlook = sorted_out(mission("1", missions.COMPLETE), mission("2", missions.FAILED, Owner("k", "living")))
    assert [found.mission_id for found in outlook.left] == ["1"]


def test_own_stray_is_adopted_at_the_second_look() -> None:
    """A mission that is recorded as this kernel's and does not run here is taken up again, unless it has moved on."""
    first = sorted_out(mission("1", owner=ME), mission("2", owner=ME), at_work="2")
    assert not first.adoptable
    assert first.strays == {("1", 1)}
    second = sorted_out(mission("1", owner=ME), strays=first.strays)
    assert [found.mission_id for found in second.adoptable] == ["1"]
    assert not sorted_out(mission("1", owner=ME, epoch=2), strays=first.strays).adoptable
