"""Missions become durable together, once, and are run at once where there is a place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ZODB.POSException import ConflictError

from batos.kernel import missions
from batos.kernel.intake import Intake
from batos.kernel.interface import HOST, IMAGE
from batos.kernel.metrics import KernelMetrics
from batos.kernel.missions import Owner
from batos.kernel.registration import Registration
from batos.kernel.running import Places
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.mind import compatibility
from batos.protocol import MissionSubmit, RequestFailed, new_id
from batos.uvm import CommitFateUnknown, Image, ImageUnreachable, Session, UvmObject

OWNER = Owner("kernel-1", "1" * 32)
SELF = compatibility.Kernel(*OWNER, release="0.1.0", host=HOST, image=IMAGE)


class Kernel:
    """An intake with what it is connected to."""

    def __init__(self, image: Image, slots: int) -> None:
        self.image = image
        self.places = Places(slots)
        self.places.set_open(True)
        self.begun: list[Ticket] = []
        self.waiting = 0
        self.registry = CollectorRegistry()
        self.intake = Intake(
            image=image,
            owner=OWNER,
            places=self.places,
            begin=self.begun.append,
            on_waiting=self._waiting,
            metrics=KernelMetrics(self.registry),
            batch=100,
        )

    def _waiting(self) -> None:
        self.waiting += 1

    def state(self, mission_id: str) -> str:
        with self.image.snapshot() as root:
            return str(missions.find(root, mission_id).state)

    def commits(self) -> float:
        return self.registry.get_sample_value("batos_kernel_intake_commits_total") or 0.0


@pytest.fixture
def kernel(image: Image) -> Iterator[Callable[[int], Kernel]]:
    made: list[Kernel] = []
    image.run(lambda root: compatibility.register(root, SELF))

    def make(slots: int = 100) -> Kernel:
        made.append(Kernel(image, slots))
        return made[-1]

    yield make
    for found in made:
        found.intake.close()


def mission(mission_id: str = "", text: str = "Name it.") -> MissionSubmit:
    return MissionSubmit(mission_id=mission_id or new_id(), text=text)


def test_waiting_missions_are_committed_together(
    kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while a commit runs shares the next one, and every mission is durable when it is acknowledged."""
    held, entered = threading.Event(), threading.Event()
    commit = Session.commit

    def slow(session: Session, **given: Any) -> str:
        entered.set()
        assert held.wait(20)
        return commit(session, **given)

    monkeypatch.setattr(Session, "commit", slow)
    here = kernel()
    first = here.intake.submit(mission())
    assert entered.wait(20)
    rest = [here.intake.submit(mission()) for _ in range(30)]
    held.set()
    wait([first, *rest], 20)
    assert not any(future.result().duplicate for future in rest)
    assert here.commits() == 2
    assert len(here.begun) == 31
    assert {here.state(ticket.mission_id) for ticket in here.begun} == {"RUNNING"}


def test_without_a_place_a_mission_waits(kernel: Callable[..., Kernel]) -> None:
    """Missions take places as long as there are any; the others are accepted and wait, and so do later ones."""
    here = kernel(2)
    ids = [mission() for _ in range(5)]
    for message in ids:
        here.intake.submit(message).result(20)
    assert [here.state(message.mission_id) for message in ids] == ["RUNNING"] * 2 + ["ACCEPTED"] * 3
    assert here.waiting == 3
    here.places.give_back()
    late = mission()
    here.intake.submit(late).result(20)
    assert here.state(late.mission_id) == "ACCEPTED"


def test_duplicates_take_no_place(kernel: Callable[..., Kernel]) -> None:
    """The same id again is acknowledged as a duplicate; with another text it is refused; neither takes a place."""
    here = kernel(2)
    message = mission()
    answers = [here.intake.submit(message) for _ in range(4)]
    assert sorted(future.result(20).duplicate for future in answers) == [False, True, True, True]
    with pytest.raises(RequestFailed) as taken:
        here.intake.submit(mission(message.mission_id, "Sink it.")).result(20)
    assert taken.value.code == "mission_id_taken"
    assert here.places.free == 1
    assert len(here.begun) == 1


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("slots", [1, 0])
def test_commit_of_unknown_fate(
    kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, stored: bool, slots: int
) -> None:
    """When the image goes away during a commit, it is looked at before anything is written again: once, either way."""
    fates = [stored]
    commit = Session.commit

    def cut_off(session: Session, **given: Any) -> str:
        if not fates:
            return commit(session, **given)
        if fates.pop():
            commit(session, **given)
        else:
            session.abort()
        raise CommitFateUnknown("zeo:///gone")

    here = kernel(slots)
    monkeypatch.setattr(Session, "commit", cut_off)
    message = mission()
    assert here.intake.submit(message).result(20).duplicate is False
    assert here.state(message.mission_id) == ("RUNNING" if slots else "ACCEPTED")
    assert [ticket.epoch for ticket in here.begun] == [1] * slots
    assert here.waiting == 1 - slots


def test_conflict_with_another_kernel(kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another kernel was faster with the same mission, this one answers that it is a duplicate."""
    here = kernel(1)
    message = mission()
    commit = Session.commit
    raced: list[bool] = []

    def raced_commit(session: Session, **given: Any) -> str:
        if not raced:
            raced.append(True)
            with here.image.session() as other:
                missions.create(other.begin(), mission_id=message.mission_id, text=message.text)
                commit(other)
        return commit(session, **given)

    monkeypatch.setattr(Session, "commit", raced_commit)
    assert here.intake.submit(message).result(20).duplicate is True
    assert here.places.free == 1
    assert here.begun == []


@pytest.mark.parametrize("error", [ImageUnreachable("zeo:///gone", 1.0), ConflictError(), RuntimeError("a fault")])
def test_what_cannot_be_committed_is_refused(
    kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Who asked is told, transiently where trying again may help; the place is free again and the intake lives on."""
    here = kernel(1)
    commit = Session.commit

    def fail(session: Session, **_given: Any) -> str:
        session.abort()
        raise error

    monkeypatch.setattr(Session, "commit", fail)
    with pytest.raises(RequestFailed) as refused:
        here.intake.submit(mission()).result(20)
    assert refused.value.transient is not isinstance(error, RuntimeError)
    monkeypatch.setattr(Session, "commit", commit)
    here.intake.submit(mission()).result(20)
    assert len(here.begun) == 1


def struck_off(image: Image) -> None:
    """What others do to a kernel that was stopped, before they give the missions another shape."""
    image.run(lambda root: compatibility.unregister(root, {OWNER.incarnation}))


def test_a_kernel_that_was_struck_off_writes_nothing(kernel: Callable[..., Kernel], image: Image) -> None:
    """Who asked is told that it may ask again; nothing was committed."""
    here = kernel(1)
    struck_off(image)
    before = image.last_tid()
    message = mission()
    with pytest.raises(RequestFailed, match="others took it for gone") as refused:
        here.intake.submit(message).result(20)
    assert refused.value.transient
    assert image.last_tid() == before
    assert here.places.free == 1


def test_a_kernel_that_was_struck_off_waits_until_it_is_back(
    kernel: Callable[..., Kernel], image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was struck off while it wrote; what it enters again for is what it writes then."""
    here = kernel(1)
    commit = Session.commit
    looked: list[str] = []
    standing = compatibility.standing

    def back_again(root: Any, incarnation: str) -> UvmObject:
        looked.append(incarnation)
        if len(looked) == 3:
            Registration(image, SELF).keep(lambda _: False)
        return standing(root, incarnation)

    def while_it_writes(session: Session, **given: Any) -> str:
        monkeypatch.setattr(Session, "commit", commit)
        struck_off(image)
        return commit(session, **given)

    monkeypatch.setattr(compatibility, "standing", back_again)
    monkeypatch.setattr(Session, "commit", while_it_writes)
    message = mission()
    assert here.intake.submit(message).result(20).duplicate is False
    assert looked == [OWNER.incarnation] * 4
    assert here.state(message.mission_id) == "RUNNING"
    assert here.commits() == 1


def test_ended_missions_are_tidied(kernel: Callable[..., Kernel]) -> None:
    """Ended missions leave the open ones with the next commit, at the latest when the intake closes."""
    here = kernel(5)
    here.intake.submit(mission()).result(20)
    (ticket,) = here.begun
    here.image.run(lambda root: missions.fail(root, ticket, CycleOutcome(outcome="FAILED", error="no")))
    here.intake.tidy(ticket.mission_id)
    here.intake.close()
    with here.image.snapshot() as root:
        assert missions.open_missions(root) == []


def test_closed_intake_sends_elsewhere(kernel: Callable[..., Kernel]) -> None:
    """An intake that has ended refuses transiently, so that another kernel is asked."""
    here = kernel(1)
    here.intake.close()
    with pytest.raises(RequestFailed) as refused:
        here.intake.submit(mission()).result(20)
    assert refused.value.transient
