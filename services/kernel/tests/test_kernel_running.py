"""Cycles in their threads, and who gets a place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from batos.kernel import interface, missions
from batos.kernel.cycle import Cycle
from batos.kernel.errors import Fenced
from batos.kernel.metacognition import Metacognition
from batos.kernel.metrics import KernelMetrics
from batos.kernel.missions import Owner
from batos.kernel.redaction import Redactor
from batos.kernel.registration import Registration
from batos.kernel.running import Places, Runner, record_failure
from batos.kernel.scheduler import Scheduler
from batos.kernel.segments import SegmentFolder, lines
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.mind import compatibility
from batos.protocol import (
    EventType,
    Infer,
    Inferred,
    MissionEnded,
    MissionStatus,
    Roster,
    RosterGet,
    VesselCard,
    new_id,
)
from batos.uvm import CommitFateUnknown, Image, Session

ME = Owner("kernel-1", new_id())
OTHER = Owner("kernel-2", new_id())
PLANK = compatibility.Kernel(ME.kernel, ME.incarnation, "0.1.0", interface.HOST, interface.IMAGE)


class HeldEngine:
    """A scripted engine whose answers wait until it is let go, and that can be interrupted."""

    def __init__(self, mission_id: str, script: Any) -> None:
        self.mission_id = mission_id
        self.script = script
        self.go = threading.Event()
        self.asked = threading.Event()
        self.stopped = ""

    def infer_all(self, prompts: Sequence[Infer], timeout_s: float) -> list[Inferred]:
        self.asked.set()
        assert self.go.wait(30)
        if self.stopped:
            raise Fenced(self.mission_id, self.stopped)
        found: list[Inferred] = self.script.infer_all(prompts, timeout_s)
        return found

    def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> Any:
        return self.script.tokenize(texts, limits)

    def describe(self) -> Any:
        return self.script.describe()

    def interrupt(self, why: str) -> None:
        self.stopped = why
        self.go.set()


class Kernel:
    """Runner and scheduler over an image, with a roster of the test's choice."""

    def __init__(self, image: Image, script: Any, told: Any, folder: Path, slots: int) -> None:
        self.image = image
        self.told = told
        self.folder = folder
        self.engines: dict[str, HeldEngine] = {}
        self.held = False
        self.script = script
        self.ended: list[MissionStatus] = []
        self.tidied: list[str] = []
        self.places = Places(slots)
        self.places.set_open(True)
        metrics = KernelMetrics(CollectorRegistry())
        self.log = Metacognition(
            folder / ME.kernel,
            kernel=ME.kernel,
            incarnation=ME.incarnation,
            redactor=Redactor(b"k" * 32),
            segment_bytes=1_000_000,
            on_record=lambda _: None,
            on_fault=lambda _: None,
        )
        self.freed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.runner = Runner(
            image=image,
            places=self.places,
            slots=slots,
            engine_for=self.engine_for,
            log=self.log,
            events=told,
            metrics=metrics,
            prompt_timeout_s=5,
            on_end=self.ended.append,
            on_free=lambda: loop.call_soon_threadsafe(self.freed.set) and None,
            tidy=self.tidied.append,
        )
        self.listed = {ME.incarnation}
        self.scheduler = Scheduler(
            image=image,
            owner=ME,
            places=self.places,
            runner=self.runner,
            registration=Registration(image, PLANK),
            peer=self,  # type: ignore[arg-type]
            log=self.log,
            logs=folder,
            events=told,
            tidy=self.tidied.append,
            on_end=self.ended.append,
            metrics=metrics,
            poll_s=0.02,
            roster_s=0.01,
            adopt_after_s=0.05,
            most_adoptions=2,
            genesis_after_s=0.05,
        )

    def engine_for(self, mission_id: str) -> Any:
        engine = self.engines[mission_id] = HeldEngine(mission_id, self.script)
        if not self.held:
            engine.go.set()
        return engine

    async def request(self, service: str, body: Any, reply: Any, *, timeout_s: float) -> Roster:
        assert (service, type(body), reply) == ("bus", RosterGet, Roster)
        assert timeout_s > 0
        cards = tuple(
            VesselCard(name="", kind="kernel", incarnation=name, pid=1, version="0", started_at=0.0)
            for name in self.listed
        )
        return Roster(bus_incarnation="bus", bus_started_at=0.0, vessels=cards)

    def accept(self, owner: Owner | None = None, author: str = "architect", mission_id: str = "") -> str:
        mission_id = mission_id or new_id()

        def work(root: Any) -> None:
            missions.create(root, mission_id=mission_id, text="Name it.", author=author, owner=owner)

        self.image.run(work)
        return mission_id

    def ticket(self, mission_id: str) -> Ticket:
        with self.image.snapshot() as root:
            return missions.ticket(missions.find(root, mission_id))

    def status(self, mission_id: str) -> MissionStatus:
        with self.image.snapshot() as root:
            return missions.status(missions.find(root, mission_id))

    def begin(self) -> str:
        mission_id = self.accept(ME)
        assert self.places.reserve()
        self.runner.begin(self.ticket(mission_id))
        return mission_id

    async def until(self, condition: Any, _what: str) -> None:
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the condition is in other threads
                await asyncio.sleep(0.01)

    def logged(self) -> list[bytes]:
        return [line for _, path in SegmentFolder(self.folder / ME.kernel).paths() for line in lines(path)]

    async def close(self) -> None:
        for engine in self.engines.values():
            engine.go.set()
        await asyncio.to_thread(self.runner.close)
        await self.log.close()


@pytest.fixture
async def kernel(mind: Any, tmp_path: Path) -> AsyncIterator[Kernel]:
    found = Kernel(mind.image, mind.engine, mind.told, tmp_path / "log", 2)
    yield found
    await found.close()


async def test_mission_runs_and_is_told(kernel: Kernel) -> None:
    """A cycle that ends frees its place, is told and published, and is tidied once its records are durable."""
    mission_id = kernel.begin()
    await kernel.until(lambda: kernel.tidied == [mission_id], "tidying")
    assert kernel.places.taken == 0
    (status,) = kernel.ended
    assert status == kernel.status(mission_id)
    assert [event.status for _, event in kernel.told.events if isinstance(event, MissionEnded)] == [status]
    assert any(b"FINAL_OUTCOME" in line for line in kernel.logged())


async def test_failed_thought_is_recorded(kernel: Kernel) -> None:
    """A thought that fails is recorded with its reason, in a transaction of its own."""
    kernel.script.steps["plan"] = RuntimeError("the engine burns")
    mission_id = kernel.begin()
    await kernel.until(lambda: kernel.ended, "the end")
    assert kernel.status(mission_id).state == "FAILED"
    assert "the engine burns" in kernel.status(mission_id).error
    assert kernel.ended == [kernel.status(mission_id)]


async def test_fault_of_the_kernel_ends_the_mission(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that no cycle foresees becomes the mission's error and a log record; the place is free again."""

    def burst(_cycle: Cycle) -> CycleOutcome:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Cycle, "run", burst)
    mission_id = kernel.begin()
    await kernel.until(lambda: kernel.tidied, "tidying")
    assert "a fault of ours" in kernel.status(mission_id).error
    assert kernel.places.taken == 0
    assert any(b'"final_outcome":"FAILED"' in line for line in kernel.logged())


@pytest.mark.parametrize("stored", [True, False])
def test_failure_of_unknown_fate_is_recorded_once(mind: Any, monkeypatch: pytest.MonkeyPatch, stored: bool) -> None:
    """When the image goes away while a failure is recorded, it is looked at before it is written again."""
    ticket = mind.accept("Name it.")
    commit = Session.commit
    fates = [stored]

    def cut_off(session: Session, **given: Any) -> str:
        if not fates:
            return commit(session, **given)
        if fates.pop():
            commit(session, **given)
        else:
            session.abort()
        raise CommitFateUnknown("zeo:///gone")

    monkeypatch.setattr(Session, "commit", cut_off)
    record_failure(mind.image, ticket, CycleOutcome(outcome="FAILED", error="no"))
    with mind.image.snapshot() as root:
        assert missions.status(missions.find(root, ticket.mission_id)).error == "no"


async def test_given_back_while_it_thinks(kernel: Kernel) -> None:
    """A mission that is given back waits in the image again; its cycle stops and records nothing."""
    kernel.held = True
    mission_id = kernel.begin()
    await kernel.until(kernel.engines[mission_id].asked.is_set, "the prompt")
    assert await asyncio.to_thread(kernel.runner.give_back, kernel.runner.at_work(), "drain_expired") == 1
    await kernel.until(lambda: kernel.places.taken == 0, "the place")
    assert kernel.status(mission_id).state == "ACCEPTED"
    assert kernel.ended == []
    assert not any(b"FINAL_OUTCOME" in line for line in kernel.logged())


async def scheduled(kernel: Kernel) -> asyncio.Task[None]:
    return asyncio.create_task(kernel.scheduler.run())


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_waiting_missions_get_places(kernel: Kernel) -> None:
    """Missions that nobody runs are claimed, the oldest first, and genesis only when nobody else waits."""
    genesis = kernel.accept(author="genesis")
    ids = [kernel.accept() for _ in range(5)]
    task = await scheduled(kernel)
    await kernel.until(lambda: len(kernel.ended) == 6, "all missions")
    await end(task)
    assert [status.mission_id for status in kernel.ended][-1] == genesis
    assert {status.mission_id for status in kernel.ended} == {*ids, genesis}
    assert {status.epoch for status in kernel.ended} == {1}


async def test_genesis_gives_way_to_who_waits(kernel: Kernel) -> None:
    """Where all places are taken and somebody waits, genesis is given back, and only genesis."""
    kernel.held = True
    genesis = kernel.accept(author="genesis")
    task = await scheduled(kernel)
    await kernel.until(lambda: genesis in kernel.engines, "genesis")
    first, second = kernel.accept(), kernel.accept()
    await kernel.until(lambda: {first, second} <= set(kernel.engines), "both missions")
    assert kernel.engines[genesis].stopped
    assert not kernel.engines[first].stopped
    kernel.held = False
    for engine in kernel.engines.values():
        engine.go.set()
    await kernel.until(lambda: len(kernel.ended) == 3, "all three")
    await end(task)
    assert kernel.ended[-1].mission_id == genesis


async def test_lost_kernels_missions_are_adopted(kernel: Kernel) -> None:
    """What a kernel that is gone was at is started again here; a living one's mission is left alone."""
    living = Owner("kernel-3", new_id())
    kernel.listed.add(living.incarnation)
    lost, kept = kernel.accept(OTHER), kernel.accept(living)
    cycle = kernel.ticket(lost).cycle_id
    task = await scheduled(kernel)
    await kernel.until(lambda: kernel.ended, "the adopted mission")
    await end(task)
    (status,) = kernel.ended
    assert (status.mission_id, status.epoch, status.cycle_id, status.kernel) == (lost, 2, cycle, "kernel-1")
    assert kernel.status(kept).kernel == "kernel-3"
    assert any(b'"what":"adopted"' in line for line in kernel.logged())


async def test_mission_that_loses_kernels_is_given_up(kernel: Kernel) -> None:
    """A mission that was started again too often ends FAILED, logged and told."""
    mission_id = kernel.accept(OTHER)

    def lose(root: Any) -> None:
        missions.find(root, mission_id).adoptions = 2

    kernel.image.run(lose)
    task = await scheduled(kernel)
    await kernel.until(lambda: kernel.tidied, "tidying")
    await end(task)
    assert "3 kernels were lost" in kernel.status(mission_id).error
    assert [status.state for status in kernel.ended] == ["FAILED"]
    assert any(b'"final_outcome":"FAILED"' in line for line in kernel.logged())


@pytest.mark.parametrize("logged", [True, False])
async def test_record_that_the_dead_owe(kernel: Kernel, logged: bool) -> None:
    """A mission that ended under a kernel that is gone is tidied; its outcome is logged unless it was."""
    mission_id = kernel.accept(OTHER)
    ticket = kernel.ticket(mission_id)
    kernel.image.run(lambda root: missions.complete(root, ticket, CycleOutcome(outcome="COMPLETE", answer="Drip.")))
    if logged:
        theirs = Metacognition(
            kernel.folder / OTHER.kernel,
            kernel=OTHER.kernel,
            incarnation=OTHER.incarnation,
            redactor=Redactor(b"k" * 32),
            segment_bytes=1_000_000,
            on_record=lambda _: None,
            on_fault=lambda _: None,
        )
        theirs.record(EventType.FINAL_OUTCOME, cycle_id=ticket.cycle_id, final_outcome="COMPLETE")
        await theirs.close()

    def nothing_open() -> bool:
        with kernel.image.snapshot() as root:
            return not missions.open_missions(root)

    task = await scheduled(kernel)
    await kernel.until(nothing_open, "tidying")
    await end(task)
    await kernel.log.close()
    mine = [line for line in kernel.logged() if mission_id.encode() in line]
    assert len(mine) == (0 if logged else 1)
    if not logged:
        assert kernel.status(mission_id).tid.encode() in mine[0]


async def test_own_stray_is_taken_up(kernel: Kernel) -> None:
    """A mission that is this kernel's by the image but runs nowhere is started again."""
    mission_id = kernel.accept(ME)
    task = await scheduled(kernel)
    await kernel.until(lambda: kernel.ended, "the stray")
    await end(task)
    assert kernel.status(mission_id).epoch == 2


async def test_places_are_bounded() -> None:
    """No more cycles than places, none while it is closed, and new missions wait behind those that wait."""
    places = Places(2)
    assert not places.reserve()
    places.set_open(True)
    assert places.reserve()
    assert places.reserve()
    assert not places.reserve(new=True)
    places.give_back()
    assert not places.reserve(new=True)
    assert places.reserve()
    places.give_back()
    places.set_queued(False)
    assert places.reserve(new=True)
    assert (places.taken, places.free) == (2, 0)
