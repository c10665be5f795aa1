"""Missions as the image keeps them, and who may write about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ZODB.POSException import ConflictError

from batos.kernel import missions
from batos.kernel.errors import Fenced, KernelError
from batos.kernel.missions import OpenMission, Owner
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.protocol import MissionStatus, Usage, new_id
from batos.uvm import Image

A = Owner("kernel-a", "a" * 32)
B = Owner("kernel-b", "b" * 32)
DONE = CycleOutcome(
    outcome="COMPLETE",
    answer="Drip.",
    personas=("BRICK", "ROBIN"),
    weaver="ROBIN",
    model="words",
    adapter="robin-1",
    dna_version=3,
    usage=Usage(prompt_tokens=7, completion_tokens=2),
    duration_ms=12,
)


def made(image: Image, owner: Owner | None = None, mission_id: str = "", **other: Any) -> str:
    mission_id = mission_id or new_id()
    image.run(lambda root: missions.create(root, mission_id=mission_id, text="Name it.", owner=owner, **other) and None)
    return mission_id


def ticket_of(image: Image, mission_id: str) -> Ticket:
    with image.snapshot() as root:
        return missions.ticket(missions.find(root, mission_id))


def status_of(image: Image, mission_id: str) -> MissionStatus:
    with image.snapshot() as root:
        return missions.status(missions.find(root, mission_id))


def opened(image: Image) -> list[OpenMission]:
    with image.snapshot() as root:
        return missions.open_missions(root)


def test_mission_from_submission_to_answer(image: Image) -> None:
    """A mission is accepted, claimed, completed; its tid is the transaction that completed it."""
    mission_id = made(image, weaver="ROBIN")
    assert status_of(image, mission_id).state == "ACCEPTED"
    ticket = image.run(lambda root: missions.claim(root, mission_id, A))
    assert ticket is not None
    assert (ticket.epoch, ticket.kernel, ticket.weaver, ticket.text) == (1, "kernel-a", "ROBIN", "Name it.")
    assert status_of(image, mission_id).state == "RUNNING"
    with image.session() as session:
        missions.complete(session.begin(), ticket, DONE)
        tid = session.commit()
    status = status_of(image, mission_id)
    assert (status.state, status.answer, status.tid, status.cycle_id) == ("COMPLETE", "Drip.", tid, ticket.cycle_id)
    assert (status.personas, status.usage, status.dna_version) == (("BRICK", "ROBIN"), DONE.usage, 3)


def test_same_id_twice(image: Image) -> None:
    """The same id is one mission; with another text it is refused."""
    mission_id = made(image)

    def again(text: str) -> Callable[[Any], bool]:
        return lambda root: missions.create(root, mission_id=mission_id, text=text).duplicate

    assert image.run(again("Name it."))
    with pytest.raises(KernelError) as taken:
        image.run(again("Sink it."))
    assert taken.value.code == "mission_id_taken"


def test_claim_is_for_one(image: Image) -> None:
    """A mission that somebody claimed cannot be claimed again."""
    mission_id = made(image)
    assert image.run(lambda root: missions.claim(root, mission_id, A)) is not None
    assert image.run(lambda root: missions.claim(root, mission_id, B)) is None
    assert image.run(lambda root: missions.claim(root, new_id(), B)) is None


def test_two_claims_at_once_conflict(image: Image) -> None:
    """Of two kernels that claim at the same moment one gets the mission, the other a conflict."""
    mission_id = made(image)
    with image.session() as first, image.session() as second:
        assert missions.claim(first.begin(), mission_id, A)
        assert missions.claim(second.begin(), mission_id, B)
        first.commit()
        with pytest.raises(ConflictError):
            second.commit()


def test_adoption_keeps_the_cycle_and_fences_the_owner(image: Image) -> None:
    """An adopted mission has a new epoch and the old cycle's id; its former owner may write nothing."""
    mission_id = made(image, A)
    stale = ticket_of(image, mission_id)
    adopted = image.run(lambda root: missions.adopt(root, opened(image)[0], B))
    assert adopted is not None
    assert (adopted.epoch, adopted.cycle_id, adopted.kernel) == (2, stale.cycle_id, "kernel-b")
    for write in (missions.complete, missions.fail):
        with pytest.raises(Fenced):
            image.run(lambda root, write=write: write(root, stale, DONE))
    with pytest.raises(Fenced):
        image.run(lambda root: missions.release(root, stale))
    image.run(lambda root: missions.complete(root, adopted, DONE))
    with pytest.raises(Fenced):
        image.run(lambda root: missions.fail(root, adopted, DONE))
    assert status_of(image, mission_id).state == "COMPLETE"


def test_adoption_of_what_moved_on(image: Image) -> None:
    """A mission that is not what the adopter saw is left alone."""
    made(image, A)
    (seen,) = opened(image)
    assert image.run(lambda root: missions.adopt(root, seen, B)) is not None
    assert image.run(lambda root: missions.adopt(root, seen, A)) is None
    assert image.run(lambda root: missions.give_up(root, seen, "no")) is None


def test_late_commit_of_a_stale_owner_conflicts(image: Image) -> None:
    """An owner whose transaction began before the adoption cannot commit after it."""
    mission_id = made(image, A)
    stale = ticket_of(image, mission_id)
    with image.session() as session:
        root = session.begin()
        missions.complete(root, stale, DONE)
        image.run(lambda other: missions.adopt(other, opened(image)[0], B) and None)
        with pytest.raises(ConflictError):
            session.commit()
        with pytest.raises(Fenced):
            missions.fence(session.begin(), stale)


def test_release_gives_the_mission_to_anybody(image: Image) -> None:
    """A released mission waits again, keeps its cycle's id, and its old ticket is worth nothing."""
    mission_id = made(image, A)
    held = ticket_of(image, mission_id)
    image.run(lambda root: missions.release(root, held))
    assert status_of(image, mission_id).state == "ACCEPTED"
    with pytest.raises(Fenced):
        image.run(lambda root: missions.complete(root, held, DONE))
    again = image.run(lambda root: missions.claim(root, mission_id, A))
    assert again is not None
    assert again.cycle_id == held.cycle_id
    assert again.epoch > held.epoch


def test_ended_mission_stays_open_until_tidied(image: Image) -> None:
    """The end of a mission writes its record alone; tidying takes it out of the open ones, and nothing that runs."""
    mission_id = made(image, A)
    assert not image.run(lambda root: missions.tidy(root, mission_id))
    image.run(
        lambda root: missions.fail(root, ticket_of(image, mission_id), CycleOutcome(outcome="FAILED", error="no"))
    )
    assert [mission.state for mission in opened(image)] == ["FAILED"]
    assert image.run(lambda root: missions.tidy(root, mission_id))
    assert not image.run(lambda root: missions.tidy(root, mission_id))
    assert opened(image) == []
    assert status_of(image, mission_id).error == "no"


def test_newest_first(image: Image) -> None:
    """The newest missions are listed first, whichever shard they are in."""
    ids = [made(image) for _ in range(50)]
    with image.snapshot() as root:
        assert [record.mission_id for record in missions.newest(root, 7)] == ids[:-8:-1]
        assert len(missions.newest(root, 1000)) == 50
        assert missions.newest(root, 0) == []


def test_image_before_genesis(empty_image: Image) -> None:
    """An image without missions has none."""
    with empty_image.snapshot() as root:
        assert missions.newest(root, 5) == []
        assert missions.open_missions(root) == []
        assert missions.find(root, new_id()) is None


def test_submissions_of_two_kernels_do_not_conflict(image: Image) -> None:
    """Missions that two kernels take and tidy at the same time in one shard are merged, not refused."""
    ids = [f"{number:030x}3f" for number in range(1, 7)]
    for mission_id in ids[:2]:
        made(image, A, mission_id)
        image.run(lambda root, it=mission_id: missions.fail(root, ticket_of(image, it), CycleOutcome(outcome="FAILED")))
    with image.session() as first, image.session() as second:
        one, other = first.begin(), second.begin()
        missions.tidy(one, ids[0])
        missions.tidy(other, ids[1])
        missions.create(one, mission_id=ids[2], text="x")
        missions.create(other, mission_id=ids[3], text="x")
        first.commit()
        second.commit()
    assert [mission.mission_id for mission in opened(image)] == ids[2:4]


@pytest.mark.parametrize("text", ["", "x" * 32, "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "\n"])
def test_what_is_no_id(text: str) -> None:
    """Only 32 lower-case hexadecimal digits are an id."""
    assert not missions.is_id(text)
    assert missions.is_id(new_id())
