from __future__ import annotations

import os
from pathlib import Path

from batos.bus.admission import Admission
from batos.bus.fleet import Fleet
from batos.bus.waiting import Waiting, WaitingRoom
from batos.protocol import KeyRing, VesselCard

BUS = VesselCard(name="bus", kind="bus", incarnation="b", pid=1, version="0", started_at=5.0, ready=True)


def card(name: str, *, ready: bool = False, draining: bool = False) -> VesselCard:
    return VesselCard(
        name=name, kind="kernel", incarnation=name, pid=1, version="0", started_at=0.0, ready=ready, draining=draining
    )


def test_the_life_of_a_vessel_is_told_once() -> None:
    """It joins, becomes ready, unready, drains and leaves; a second channel and a repetition change nothing."""
    fleet = Fleet(lambda: BUS)

    def changes(channel: str, seen: VesselCard) -> list[str]:
        return [change.change for change in fleet.seen(channel, seen, 1)]

    assert changes("work", card("k")) == ["joined"]
    assert changes("control", card("k")) == []
    assert changes("work", card("k", ready=True)) == ["ready"]
    assert changes("control", card("k", ready=True)) == []
    assert changes("work", card("k")) == ["unready"]
    assert changes("work", card("k", draining=True)) == ["draining"]
    assert fleet.gone("work", "k", lost=False) == []
    assert [change.change for change in fleet.gone("control", "k", lost=False)] == ["left"]
    assert fleet.gone("control", "k", lost=True) == []


def test_a_vessel_that_comes_ready_joins_and_is_ready() -> None:
    """Both are told; being lost is told as such."""
    fleet = Fleet(lambda: BUS)
    assert [change.change for change in fleet.seen("work", card("k", ready=True), 1)] == ["joined", "ready"]
    assert [change.change for change in fleet.gone("work", "k", lost=True)] == ["lost"]


def test_an_older_card_that_comes_later_changes_nothing() -> None:
    """The two channels may deliver out of order; what the vessel said last holds."""
    fleet = Fleet(lambda: BUS)
    fleet.seen("work", card("k"), 1)
    fleet.seen("work", card("k", draining=True), 3)
    assert fleet.seen("control", card("k", ready=True), 2) == []
    assert fleet.roster().vessels[1].draining


def test_the_roster_begins_with_the_bus() -> None:
    """Everybody is in it, sorted by name, and it says which bus it is."""
    fleet = Fleet(lambda: BUS)
    for name in ("k2", "k1"):
        fleet.seen("work", card(name), 1)
    roster = fleet.roster()
    assert [vessel.name for vessel in roster.vessels] == ["bus", "k1", "k2"]
    assert (roster.bus_incarnation, roster.bus_started_at) == ("b", 5.0)


def waiting(name: str, service: str = "kernel", size: int = 10) -> Waiting:
    return Waiting(name, service, ("c",), [bytes(size)], 0.0, 0.0, 0)


def test_the_waiting_room_is_bounded_everywhere() -> None:
    """By requests a service, by bytes over all, and by names."""
    room = WaitingRoom(per_service=2, size=50, services=2)
    assert room.add(waiting("a"))
    assert room.add(waiting("b"))
    assert not room.add(waiting("c"))
    assert not room.add(waiting("d", "forge", size=31))
    assert room.add(waiting("e", "forge", size=30))
    assert not room.add(waiting("f", "curator", size=0))
    assert room.lengths() == {"kernel": 2, "forge": 1}
    assert room.remove("e") is not None
    assert room.remove("e") is None
    assert room.add(waiting("f", "curator"))
    assert len(room) == 3


def test_the_waiting_room_is_first_come_first_served() -> None:
    """The first of a service is who came first, also after others were taken out."""
    room = WaitingRoom(per_service=9, size=999, services=9)
    for name in "abc":
        room.add(waiting(name))
    room.remove("a")
    first = room.first("kernel")
    assert first is not None
    assert first.id == "b"
    assert room.first("forge") is None
    assert "a" not in room
    assert [request.id for request in room] == ["b", "c"]


def test_keys_are_admitted_as_the_folder_has_them(tmp_path: Path) -> None:
    """A key that comes to lie in the folder is admitted without a restart; what is no key is not."""
    ring = KeyRing(tmp_path / "keys")
    admission = Admission(ring, "own")
    stranger = KeyRing(tmp_path / "elsewhere").ensure("stranger").public.encode()
    assert not admission.callback("batos", stranger)
    first = ring.ensure("kernel-1").public.encode()
    assert admission.callback("batos", first)
    second = ring.ensure("kernel-2").public.encode()
    assert admission.callback("batos", second)
    assert admission.callback("batos", b"own")
    assert not admission.callback("batos", stranger)
    assert not admission.callback("batos", b"\xff\xfe")
    assert admission.refused == 3


def test_an_unchanged_folder_is_not_read_again(tmp_path: Path) -> None:
    """Strangers who knock cost no reading once the folder has been still for a while."""
    ring = KeyRing(tmp_path)
    ring.ensure("kernel-1")
    os.utime(tmp_path, (1, 1))
    admission = Admission(ring)
    assert not admission.callback("batos", b"stranger")
    for path in tmp_path.glob("*.public"):
        path.write_text(KeyRing(tmp_path / "other").ensure("x").public)
    os.utime(tmp_path, (1, 1))
    assert not admission.callback("batos", KeyRing(tmp_path / "other").ensure("x").public.encode())
