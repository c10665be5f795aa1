"""Migration 2, and what a kernel does where it is asked to migrate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from batos.kernel import interface, missions
from batos.kernel.genesis import seed
from batos.kernel.inspecting import Inspecting
from batos.kernel.migrating import Migrating
from batos.kernel.migrations import MIGRATIONS, WholeMissions
from batos.kernel.mission_shape import AT_FIRST, is_whole, undone_tid
from batos.kernel.missions import Owner
from batos.kernel.ticket import CycleOutcome
from batos.mind import compatibility, migrations
from batos.mind.compatibility import Kernel, Span
from batos.mind.migrations import Cursor, Migrations, Runner, Step, progress
from batos.protocol import (
    Event,
    EventType,
    ImageMigrate,
    ImageMigrated,
    MissionStatus,
    MissionUndo,
    Progress,
    RequestContext,
    RequestFailed,
    Usage,
    new_id,
)
from batos.uvm import Image, Root, UvmObject, slots

A = Owner("kernel-a", "a" * 32)
B = Owner("kernel-b", "b" * 32)
CONTEXT = RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)
USAGE = Usage(prompt_tokens=7, completion_tokens=2)
DONE = CycleOutcome(outcome="COMPLETE", answer="Drip.", personas=("BRICK",), weaver="ROBIN", usage=USAGE)
SHAPE_1 = {
    "COMPLETE": ("thought_tid", "undone_tid", "restored", "made", "left"),
    "FAILED": ("thought", "thought_tid", "undone_tid", "restored", "made", "left"),
    "UNDONE": ("undone_tid",),
    "ACCEPTED": tuple(AT_FIRST),
    "RUNNING": tuple(AT_FIRST),
}
"""Slots that a record of version 1 lacked in each state."""


def registered(owner: Owner, image: Span = interface.IMAGE) -> Callable[[Root], None]:
    kernel = Kernel(owner.kernel, owner.incarnation, "0.1.0", host=Span(1, 2), image=image)
    return lambda root: compatibility.register(root, kernel)


@pytest.fixture
def old(empty_image: Image) -> Image:
    """An image of version 1 with a mission in every state, written as that version's kernels wrote them."""
    empty_image.run(seed)
    empty_image.run(missions.ensure)
    empty_image.run(lambda root: compatibility.set_image_version(root, 1))
    for owner in (A, B):
        empty_image.run(registered(owner))
    for number, state in enumerate(SHAPE_1):
        mission_id = f"{number:030x}{number:02x}"
        _think(empty_image, mission_id, state)
    return empty_image


def _think(image: Image, mission_id: str, state: str) -> None:
    owner = None if state == "ACCEPTED" else A

    def begin(root: Root) -> None:
        record = missions.create(root, mission_id=mission_id, text="Name it.", owner=owner).record
        _as_of_version_1(record, SHAPE_1["RUNNING"])

    def end(root: Root) -> None:
        record = missions.find(root, mission_id)
        if state != "FAILED":
            record.thought = UvmObject(step="done")
            root["lobby"].motto = "from a thought"
        missions.complete(root, missions.ticket(record), DONE)
        record.state = "FAILED" if state == "FAILED" else "COMPLETE"
        _as_of_version_1(record, SHAPE_1["FAILED" if state == "FAILED" else "COMPLETE"])

    def undo(root: Root) -> None:
        missions.undo_thought(root, mission_id)
        _as_of_version_1(missions.find(root, mission_id), SHAPE_1["UNDONE"])

    image.run(begin)
    if owner is not None and state != "RUNNING":
        image.run(end)
    if state == "UNDONE":
        image.run(undo)


def _as_of_version_1(record: Any, lacking: tuple[str, ...]) -> None:
    for name in lacking:
        if name in slots(record):
            delattr(record, name)


def statuses(image: Image) -> list[MissionStatus]:
    with image.snapshot() as root:
        return [missions.status(record) for record in missions.newest(root, 100)]


def migrate(image: Image, **other: Any) -> Any:
    return Runner(image, MIGRATIONS, migrations.Owner(*A), **other).run()


# ---------------------------------------------------------------------------------------------- version 2


def test_this_release_understands_what_it_migrates_to() -> None:
    """And the version before, so that two releases can run on one image."""
    assert MIGRATIONS.newest == interface.IMAGE.newest
    assert all(migration.number - 1 in interface.IMAGE for migration in MIGRATIONS)


def test_a_new_image_is_born_with_the_newest_version(empty_image: Image) -> None:
    """There is nothing to migrate, and an image that is there already does not become newer by an awakening."""
    empty_image.run(seed)
    with empty_image.snapshot() as root:
        assert compatibility.image_version(root) == interface.IMAGE.newest
    empty_image.run(lambda root: compatibility.set_image_version(root, 1))
    empty_image.run(seed)
    with empty_image.snapshot() as root:
        assert compatibility.image_version(root) == 1


def test_missions_become_whole_and_say_what_they_said(old: Image) -> None:
    """Above all the transactions of thoughts and of their undoing, which were those that wrote the record last."""
    before = statuses(old)
    with old.snapshot() as root:
        undone = [undone_tid(record) for record in missions.newest(root, 100)]
        assert not any(is_whole(record) for record in missions.newest(root, 100))
    (ran,) = migrate(old)
    assert (ran.ended.looked, ran.ended.changed) == (5, 5)
    assert statuses(old) == before
    assert {status.state: bool(status.tid) for status in before} == {
        "COMPLETE": True, "UNDONE": True, "FAILED": False, "ACCEPTED": False, "RUNNING": False,
    }  # fmt: skip
    with old.snapshot() as root:
        assert [undone_tid(record) for record in missions.newest(root, 100)] == undone
        assert any(undone)
        assert all(is_whole(record) for record in missions.newest(root, 100))


def test_missions_go_on_after_it(old: Image) -> None:
    """What ran ends, what waits is claimed, what was COMPLETE can be undone, and each names its own transaction."""
    by_state = {status.state: status.mission_id for status in statuses(old)}
    migrate(old)
    with old.session() as session:
        root = session.begin()
        held = missions.ticket(missions.find(root, by_state["RUNNING"]))
        missions.complete(root, held, DONE)
        tid = session.commit()
    assert old.run(lambda root: missions.claim(root, by_state["ACCEPTED"], B)) is not None
    found = {status.mission_id: status for status in statuses(old)}
    assert found[by_state["RUNNING"]].tid == tid
    thought = found[by_state["COMPLETE"]].tid
    done = old.run(lambda root: missions.undo_thought(root, by_state["COMPLETE"]))
    assert old.run(lambda root: missions.undo_thought(root, by_state["COMPLETE"])) == done
    assert {status.mission_id: status for status in statuses(old)}[by_state["COMPLETE"]].tid == thought


async def test_an_undo_that_is_asked_again_names_its_transaction(old: Image) -> None:
    """Also where the migration has written to the record since."""
    undone = next(status.mission_id for status in statuses(old) if status.state == "UNDONE")
    plank = Kernel(A.kernel, A.incarnation, "0.1.0", interface.HOST, interface.IMAGE)
    handler = Inspecting(image=old, kernel=plank).handlers()[MissionUndo]
    before = await handler(MissionUndo(mission_id=undone), CONTEXT)
    migrate(old)
    assert await handler(MissionUndo(mission_id=undone), CONTEXT) == before


def test_what_is_whole_is_left_alone(image: Image) -> None:
    """A mission that this release made is not written to, in an image of either version."""
    image.run(lambda root: compatibility.set_image_version(root, 1))
    image.run(lambda root: missions.create(root, mission_id=new_id(), text="Name it.") and None)
    (ran,) = migrate(image)
    assert (ran.ended.looked, ran.ended.changed) == (1, 0)


def test_an_image_without_missions_has_nothing_to_change(empty_image: Image) -> None:
    """It gets its version all the same."""
    (ran,) = migrate(empty_image)
    assert (ran.ended.looked, ran.ended.total) == (0, 0)


@pytest.mark.parametrize("killed_after", range(4))
def test_killed_after_any_batch(old: Image, killed_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The missions are the same as if nobody had been killed, and each was changed once."""
    before = statuses(old)
    real = WholeMissions.step
    steps: list[Cursor] = []

    class Killed(BaseException):
        pass

    def dying(self: WholeMissions, root: Root, cursor: Cursor) -> Step:
        done = real(self, root, cursor)
        if len(steps) == killed_after:
            raise Killed
        steps.append(cursor)
        return done

    known = Migrations([WholeMissions(batch=2)])
    monkeypatch.setattr(WholeMissions, "step", dying)
    if killed_after < 3:
        with pytest.raises(Killed):
            Runner(old, known, migrations.Owner(*A)).run()
    monkeypatch.setattr(WholeMissions, "step", real)
    (ran,) = Runner(old, known, migrations.Owner(*A)).run()
    assert (ran.ended.looked, ran.ended.changed, ran.ended.batches) == (5, 5, 3)
    assert statuses(old) == before


# ---------------------------------------------------------------------------------------------- asked on the bus


class Told:
    """What was logged and published."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.events: list[tuple[str, Event]] = []

    def record(self, event_type: EventType, **fields: Any) -> None:
        self.records.append({"type": event_type, **fields})

    def publish(self, topic: str, event: Event) -> None:
        self.events.append((topic, event))


class Gated(WholeMissions):
    """Waits before its second batch until it may go on."""

    def __init__(self) -> None:
        super().__init__(batch=2)
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.steps = 0

    def step(self, root: Root, cursor: Cursor) -> Step:
        self.steps += 1
        if self.steps == 2:
            self.begun.set()
            assert self.may_go_on.wait(20)
        return super().step(root, cursor)


@pytest.fixture
async def make(old: Image) -> AsyncIterator[Callable[..., Migrating]]:
    made: list[Migrating] = []

    def migrating(owner: Owner = A, *known: Any, told: Told | None = None) -> Migrating:
        told = told or Told()
        found = Migrating(
            image=old, owner=owner, events=told, log=told, known=Migrations(known or [WholeMissions(batch=2)])
        )
        made.append(found)
        return found

    yield migrating
    for one in made:
        one.leave()
        await asyncio.to_thread(one.close)


async def ask(migrating: Migrating, *, dry_run: bool = False, request_id: str = "") -> ImageMigrated:
    handler = migrating.handlers()[ImageMigrate]
    answer = await handler(ImageMigrate(request_id=request_id or new_id(), dry_run=dry_run), CONTEXT)
    assert isinstance(answer, ImageMigrated)
    return answer


async def refused(migrating: Migrating, **other: Any) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await ask(migrating, **other)
    return caught.value


async def begun(gate: Gated) -> None:
    assert await asyncio.to_thread(gate.begun.wait, 20)


async def test_a_dry_run_and_then_the_run(make: Callable[..., Migrating], old: Image) -> None:
    """The first writes nothing and expects what the second does; both say how far they are, on the request's topic."""
    told = Told()
    migrating = make(A, told=told)
    before = old.last_tid()
    paper = await ask(migrating, dry_run=True)
    assert (old.last_tid(), paper.before, paper.version, paper.newest, paper.dry_run) == (before, 1, 1, 2, True)
    request_id = new_id()
    done = await ask(migrating, request_id=request_id)
    assert (done.before, done.version, done.dry_run) == (1, 2, False)
    assert [(one.number, one.looked, one.changed) for one in paper.migrations + done.migrations] == [(2, 5, 5)] * 2
    events = [event for topic, event in told.events if topic == f"progress/migrate/{request_id}"]
    assert isinstance(events[-1], Progress)
    assert (events[-1].fraction, events[-1].detail) == (1.0, "5 of 5 looked at")
    assert [fields["detail"]["what"] for fields in told.records] == ["migrated"]
    again = await ask(migrating)
    assert (again.before, again.version, again.migrations) == (2, 2, ())


async def test_an_older_kernel_stands_against_it(make: Callable[..., Migrating], old: Image) -> None:
    """The run is refused with what helps, the dry run says so, and nothing is written."""
    old.run(registered(B, Span(1, 1)))
    before = old.last_tid()
    error = await refused(make())
    assert (error.code, error.transient) == ("kernel_lacks", False)
    assert "kernel-b" in str(error)
    assert "batos roll kernel" in error.hint
    assert "kernel-b" in (await ask(make(), dry_run=True)).against
    assert old.last_tid() == before


async def test_one_at_a_time(make: Callable[..., Migrating]) -> None:
    """Neither this kernel nor another begins a second one; a dry run may be made meanwhile."""
    gate = Gated()
    migrating = make(A, gate)
    run = asyncio.create_task(ask(migrating))
    await begun(gate)
    error = await refused(migrating)
    assert (error.code, error.message) == (
        "migration_runs", "kernel-a is migrating the image: 2 of 5 for version 2",
    )  # fmt: skip
    assert (await ask(make(B), dry_run=True)).migrations[0].looked_before == 2
    gate.may_go_on.set()
    assert (await run).version == 2


async def test_a_kernel_that_drains_gives_it_to_another(make: Callable[..., Migrating], old: Image) -> None:
    """It stops after the batch that is under way, says so as a transient refusal, and the other goes on there."""
    gate = Gated()
    migrating = make(A, gate)
    run = asyncio.create_task(refused(migrating))
    await begun(gate)
    migrating.leave()
    gate.may_go_on.set()
    error = await run
    assert (error.code, error.transient) == ("draining", True)
    assert (await refused(migrating)).code == "draining"
    with old.snapshot() as root:
        found = progress(root)
    assert found is not None
    assert (found.looked, found.owner.name) == (4, "")
    done = await ask(make(B))
    assert (done.version, done.migrations[0].looked_before, done.migrations[0].looked) == (2, 4, 5)


async def test_who_asked_waits_no_longer(make: Callable[..., Migrating], old: Image) -> None:
    """It stops; asked again it goes on."""
    gate = Gated()
    migrating = make(A, gate)
    run = asyncio.create_task(ask(migrating))
    await begun(gate)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    gate.may_go_on.set()
    await asyncio.to_thread(migrating.close)
    with old.snapshot() as root:
        assert compatibility.image_version(root) == 1
    await asyncio.sleep(0)
    assert (await ask(make(A))).migrations[0].looked_before == 4


async def test_a_malformed_id_is_refused(make: Callable[..., Migrating]) -> None:
    """It is part of a topic."""
    assert (await refused(make(), request_id="../x")).code == "request_id_invalid"
