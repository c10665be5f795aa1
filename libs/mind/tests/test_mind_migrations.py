"""Numbered migrations: each batch exactly once whoever is killed when, one runner at a time, and a dry run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from BTrees.OOBTree import OOBTree
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.POSException import ConflictError

from batos.mind import MindError, compatibility
from batos.mind.compatibility import Incompatible, Kernel, Span
from batos.mind.migrations import (
    NOBODY,
    START,
    Cursor,
    Migration,
    MigrationFailed,
    MigrationRuns,
    Migrations,
    Owner,
    Progress,
    Runner,
    Step,
    Stopped,
    Superseded,
    count,
    progress,
    rehearse,
    walk,
)
from batos.mind.migrations.progress import advance, take
from batos.uvm import CommitFateUnknown, Image, Root, UvmObject, open_image

A = Owner("kernel-a", "a" * 32)
B = Owner("kernel-b", "b" * 32)
THINGS = 23
BATCH = 5
BATCHES = 5


class Killed(BaseException):
    """The process is no more: nothing of it is tidied up."""


@dataclass
class Rising:
    """Every other thing gets a number more, which doing it twice would show."""

    number: int = 2
    title: str = "things rise"
    dies_in: int = 0
    broken_in: int = 0
    before: Callable[[Root], None] = lambda _root: None
    steps: int = 0
    cursors: list[Cursor] = field(default_factory=list)

    def total(self, root: Root) -> int | None:
        return count([root["things"]])

    def step(self, root: Root, cursor: Cursor) -> Step:
        self.steps += 1
        self.cursors.append(cursor)
        self.before(root)
        found, after = walk([root["things"]], cursor, BATCH)
        changed = [thing for thing in found if thing.place % 2]
        for thing in changed:
            thing.level = thing.level + 1
        if self.steps == self.broken_in:
            raise KeyError("a thing")
        if self.steps == self.dies_in:
            raise Killed
        return Step(after, len(found), len(changed))


class Time:
    """A clock and a pause of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.during: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def stop(self) -> threading.Event:
        event = threading.Event()

        def wait(timeout: float | None = None) -> bool:
            self.now += timeout or 0.0
            self.during()
            return event.is_set()

        event.wait = wait  # type: ignore[method-assign]
        return event


def kernel(owner: Owner, newest: int = 9) -> Kernel:
    return Kernel(owner.name, owner.incarnation, "0.1.0", host=Span(1, 1), image=Span(1, newest))


def fill(root: Root) -> None:
    root["things"] = OOBTree({f"{place:03}": UvmObject(place=place, level=0) for place in range(THINGS)})
    for owner in (A, B):
        compatibility.register(root, kernel(owner))


@pytest.fixture
def image(image: Image) -> Image:
    image.run(fill)
    return image


def levels(image: Image) -> list[int]:
    with image.snapshot() as root:
        return [thing.level for thing in root["things"].values()]


RISEN = [place % 2 for place in range(THINGS)]


def stands(image: Image) -> Progress:
    with image.snapshot() as root:
        found = progress(root)
    assert found is not None
    return found


def version(image: Image) -> tuple[int, int]:
    with image.snapshot() as root:
        return compatibility.image_version(root), compatibility.migrating_to(root)


def run(image: Image, *known: Migration, owner: Owner = A, **other: Any) -> Any:
    return Runner(image, Migrations(known), owner, **other).run()


# ---------------------------------------------------------------------------------------------- the list


@pytest.mark.parametrize(
    ("numbers", "code"), [((2, 2), "migration_twice"), ((2, 4), "migration_gap"), ((1, 2), "migration_number")]
)
def test_a_list_with_a_gap_or_a_double_is_none(numbers: tuple[int, ...], code: str) -> None:
    """Whatever order they are given in, their numbers follow each other."""
    with pytest.raises(MindError) as caught:
        Migrations(Rising(number) for number in reversed(numbers))
    assert caught.value.code == code


def test_what_an_image_still_needs() -> None:
    """What comes after its version; an image that is too old for this release is not guessed at."""
    known = Migrations([Rising(4), Rising(3)])
    assert [migration.number for migration in known.after(2)] == [3, 4]
    assert [migration.number for migration in known.after(3)] == [4]
    assert known.after(4) == known.after(7) == []
    assert known.newest == 4
    assert Migrations([]).newest == 1
    with pytest.raises(MindError, match="release before this one") as caught:
        known.after(1)
    assert caught.value.code == "migration_gap"


@given(sizes=st.lists(st.integers(0, 7), max_size=5), limit=st.integers(1, 9))
def test_walking_meets_every_value_once(sizes: list[int], limit: int) -> None:
    """In parts of a bounded size, whatever trees there are, with keys that are empty texts too."""
    trees = [OOBTree({"k" * key: (tree, key) for key in range(size)}) for tree, size in enumerate(sizes)]
    met: list[Any] = []
    cursor: Cursor | None = START
    while cursor is not None:
        found, cursor = walk(trees, cursor, limit)
        assert len(found) == limit if cursor is not None else len(found) <= limit
        met += found
    assert met == [(tree, key) for tree, size in enumerate(sizes) for key in range(size)]
    assert count(trees) == len(met)


# ---------------------------------------------------------------------------------------------- a run


def test_an_image_is_brought_to_its_version(image: Image) -> None:
    """Batch by batch, told after each; asked again there is nothing to do."""
    told: list[str] = []
    migration = Rising()
    (ran,) = run(image, migration, tell=lambda _, how_far: told.append(str(how_far)))
    assert levels(image) == RISEN
    assert (ran.looked_before, ran.ended.looked, ran.ended.changed, ran.ended.batches) == (0, THINGS, 11, BATCHES)
    assert told == ["0 of 23", "5 of 23", "10 of 23", "15 of 23", "20 of 23", "23 of 23"]
    assert version(image) == (2, 0)
    before = image.last_tid()
    assert run(image, migration) == []
    assert (image.last_tid(), migration.steps) == (before, BATCHES)


def test_several_are_run_in_order(image: Image) -> None:
    """Each begins with what the one before made."""
    ran = run(image, Rising(3), Rising(2))
    assert [(one.migration.number, one.ended.changed) for one in ran] == [(2, 11), (3, 11)]
    assert levels(image) == [2 * level for level in RISEN]
    assert version(image) == (3, 0)


def test_what_is_in_two_shapes_says_so(image: Image) -> None:
    """While it runs the target is announced, and a kernel that lacks either version cannot register."""
    seen: list[tuple[int, int]] = []

    def look(root: Root) -> None:
        seen.append((compatibility.image_version(root), compatibility.migrating_to(root)))
        for span in (Span(1, 1), Span(2, 3)):
            with pytest.raises(Incompatible):
                compatibility.register(root, Kernel("kernel-c", "c" * 32, "0.0.9", host=Span(1, 1), image=span))

    run(image, Rising(before=look))
    assert seen == [(1, 2)] * BATCHES
    image.run(lambda root: compatibility.register(root, Kernel("kernel-c", "c" * 32, "2", Span(1, 1), Span(2, 3))))


@pytest.mark.parametrize("newest", [1, 2])
def test_a_kernel_that_would_not_understand_stands_against_all_of_it(image: Image, newest: int) -> None:
    """Nothing is begun, not even what it does understand, and it is named."""
    image.run(lambda root: compatibility.register(root, kernel(B, newest)))
    before = image.last_tid()
    with pytest.raises(Incompatible, match=r"kernel-b \(release 0\.1\.0\) serves .*batos roll kernel"):
        run(image, Rising(2), Rising(3))
    assert image.last_tid() == before
    expected, against = rehearse(image, Migrations([Rising(2), Rising(3)]))
    assert [one.migration.number for one in expected] == [2, 3]
    assert "kernel-b" in against


def test_a_kernel_that_registers_meanwhile_meets_the_announcement(image: Image) -> None:
    """Of a kernel that registers and a migration that begins at the same time, one has to look again."""
    old = Kernel("kernel-c", "c" * 32, "0.0.9", host=Span(1, 1), image=Span(1, 1))
    with image.session() as session:
        compatibility.register(session.begin(), old)
        image.run(lambda root: take(root, Rising(), A, seen=None, total=None))
        with pytest.raises(ConflictError):
            session.commit()
        with pytest.raises(Incompatible):
            compatibility.register(session.begin(), old)


# ---------------------------------------------------------------------------------------------- killed and gone on with


@pytest.mark.parametrize("dies_in", range(1, BATCHES + 1))
@pytest.mark.parametrize("heir", [A, B])
def test_a_killed_runner_is_gone_on_with_where_it_stopped(image: Image, dies_in: int, heir: Owner) -> None:
    """By itself at once, by another after its silence; the result is that of a run that nobody killed."""
    with pytest.raises(Killed):
        run(image, Rising(dies_in=dies_in))
    assert version(image) == (1, 2)
    assert stands(image).looked == (dies_in - 1) * BATCH
    time = Time()
    migration = Rising()
    (ran,) = run(image, migration, owner=heir, clock=time, stop=time.stop(), lease_s=3)
    assert levels(image) == RISEN
    assert (ran.looked_before, ran.ended.looked, ran.ended.changed) == ((dies_in - 1) * BATCH, THINGS, 11)
    assert migration.steps == BATCHES - dies_in + 1
    assert (time.now >= 3) == (heir is B)
    assert version(image) == (2, 0)


@settings(max_examples=15, deadline=None)
@given(deaths=st.lists(st.integers(1, BATCHES), max_size=4), heirs=st.lists(st.sampled_from([A, B]), min_size=5))
def test_however_often_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, deaths: list[int], heirs: list[Owner]
) -> None:
    """Every batch is applied exactly once, over any number of deaths and owners."""
    folder: Path = tmp_path_factory.mktemp("image")
    with open_image(f"file://{folder}/image.fs") as image:
        image.run(fill)
        for death, owner in zip(deaths, heirs, strict=False):
            time = Time()
            try:
                run(image, Rising(dies_in=death), owner=owner, clock=time, stop=time.stop(), lease_s=1)
            except Killed:
                continue
        time = Time()
        run(image, Rising(), owner=heirs[-1], clock=time, stop=time.stop(), lease_s=1)
        assert levels(image) == RISEN
        assert (stands(image).looked, stands(image).changed, stands(image).batches) == (THINGS, 11, BATCHES)


def test_a_runner_whose_kernel_is_gone_is_not_waited_for(image: Image) -> None:
    """An incarnation that is registered no more cannot be at work."""
    with pytest.raises(Killed):
        run(image, Rising(dies_in=3))
    image.run(lambda root: compatibility.unregister(root, {A.incarnation}))
    time = Time()
    run(image, Rising(), owner=B, clock=time, stop=time.stop())
    assert (levels(image), time.now) == (RISEN, 0.0)


def test_a_runner_that_is_at_work_is_left_to_it(image: Image) -> None:
    """Who comes second is told who is at it and how far, as soon as that one has done another batch."""
    first = image.run(lambda root: take(root, Rising(), A, seen=None, total=THINGS))
    time = Time()
    time.during = lambda: image.run(lambda root: advance(root, Rising(), first)) and None
    with pytest.raises(MigrationRuns, match="kernel-a is migrating the image to version 2: 5 of 23"):
        run(image, Rising(), owner=B, clock=time, stop=time.stop(), lease_s=10)
    assert time.now < 1


def test_a_pause_of_ones_own_is_no_silence_of_the_others(image: Image) -> None:
    """Who stood still for an hour begins to listen, and takes nothing over for that hour."""
    first = image.run(lambda root: take(root, Rising(), A, seen=None, total=THINGS))
    time = Time()
    looks: list[float] = []

    def during() -> None:
        time.now += 3600.0
        looks.append(time.now)
        if len(looks) == 20:
            image.run(lambda root: advance(root, Rising(), first))

    time.during = during
    with pytest.raises(MigrationRuns):
        run(image, Rising(), owner=B, clock=time, stop=time.stop(), lease_s=10)


def test_a_stopped_and_woken_runner_cannot_write(image: Image) -> None:
    """Neither a batch that it begins anew, nor the one that it had under way when it was taken over from."""
    stale = image.run(lambda root: take(root, Rising(), A, seen=None, total=THINGS))
    with image.session() as session:
        advance(session.begin(), Rising(), stale)
        heir = image.run(lambda root: take(root, Rising(), B, seen=stale, total=THINGS))
        with pytest.raises(ConflictError):
            session.commit()
    assert (heir.epoch, heir.owner) == (2, B)
    with pytest.raises(Superseded, match="it is kernel-b's now"):
        image.run(lambda root: advance(root, Rising(), stale))
    assert sum(levels(image)) == 0
    assert stands(image) == heir


def test_of_two_that_take_over_at_once_one_does(image: Image) -> None:
    """The other sees that it has moved on."""
    with pytest.raises(Killed):
        run(image, Rising(dies_in=2))
    seen = stands(image)
    with image.session() as one, image.session() as other:
        assert take(one.begin(), Rising(), B, seen=seen, total=None)
        assert take(other.begin(), Rising(), Owner("kernel-c", "c"), seen=seen, total=None)
        one.commit()
        with pytest.raises(ConflictError):
            other.commit()
    assert image.run(lambda root: take(root, Rising(), Owner("kernel-c", "c"), seen=seen, total=None)) is None


def test_told_to_stop_it_lets_go(image: Image) -> None:
    """After the batch that is under way; the next one begins at once where it stopped."""
    stop = threading.Event()
    migration = Rising(before=lambda _: stop.set())
    with pytest.raises(Stopped, match="5 of 23 of version 2"):
        run(image, migration, stop=stop)
    assert (stands(image).owner, stands(image).looked) == (NOBODY, BATCH)
    time = Time()
    run(image, Rising(), owner=B, clock=time, stop=time.stop())
    assert (levels(image), time.now) == (RISEN, 0.0)
    with pytest.raises(Stopped, match="before it began"):
        run(image, Rising(3), stop=stop)


def test_a_migration_that_fails_says_where(image: Image) -> None:
    """Nothing of its batch is kept; mended, it goes on there."""
    with pytest.raises(MigrationFailed, match=r"migration 2 \(things rise\) failed at 5 of 23: KeyError: 'a thing'"):
        run(image, Rising(broken_in=2))
    assert (stands(image).owner, stands(image).looked, sum(levels(image))) == (NOBODY, 5, 2)
    run(image, Rising(), owner=B)
    assert levels(image) == RISEN


def test_conflicts_with_who_works_on_are_tried_again(image: Image) -> None:
    """A batch that met a writer is done again on what that one left."""
    met: list[int] = []

    def disturb(_root: Root) -> None:
        if len(met) < 4:
            met.append(1)
            with image.transaction() as root:
                root["things"]["001"].level = root["things"]["001"].level + 10

    migration = Rising(before=disturb)
    run(image, migration)
    assert levels(image) == [40 * (place == 1) + level for place, level in enumerate(RISEN)]
    assert migration.steps == BATCHES + 4


def test_a_commit_of_unknown_fate_is_looked_up(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it in or not, each batch is applied once, the last one too."""
    real = Image.run
    calls: list[int] = []

    def uncertain(self: Image, work: Callable[[Root], Any], **other: Any) -> Any:
        calls.append(1)
        if "batch" in other["note"] and len(calls) % 3 == 0:
            real(self, work, **other)
            raise CommitFateUnknown("file://")
        if len(calls) % 3 == 1 and len(calls) > 1:
            raise CommitFateUnknown("file://")
        return real(self, work, **other)

    monkeypatch.setattr(Image, "run", uncertain)
    run(image, Rising())
    assert levels(image) == RISEN
    assert version(image) == (2, 0)
    assert len(calls) > BATCHES + 2


# ---------------------------------------------------------------------------------------------- dry run


def test_a_dry_run_leaves_no_trace(image: Image) -> None:
    """It counts what a run then does, and the image's newest transaction stays what it was."""
    before = image.last_tid()
    told: list[str] = []
    known = Migrations([Rising(2), Rising(3)])
    (first, later), against = rehearse(image, known, tell=lambda _, how_far: told.append(str(how_far)))
    assert (first.looked_before, first.looked, first.changed, first.total) == (0, THINGS, 11, THINGS)
    assert (later.migration.number, later.changed, against) == (3, None, "")
    assert told[-1] == "23 of 23"
    assert (image.last_tid(), sum(levels(image)), version(image)) == (before, 0, (1, 0))
    with image.snapshot() as root:
        assert progress(root) is None
    assert run(image, Rising())[0].ended.changed == 11
    assert rehearse(image, Migrations([Rising()])) == ([], "")


def test_a_dry_run_of_what_was_begun(image: Image) -> None:
    """It counts what is left to do."""
    with pytest.raises(Killed):
        run(image, Rising(dies_in=3))
    (left,), _ = rehearse(image, Migrations([Rising()]))
    assert (left.looked_before, left.looked, left.changed, left.total) == (10, 13, 6, THINGS)


def test_a_dry_run_fails_and_stops_as_a_run_does(image: Image) -> None:
    """With a sentence each."""
    with pytest.raises(MigrationFailed, match="at 5 of 23"):
        rehearse(image, Migrations([Rising(broken_in=2)]))
    stop = threading.Event()
    with pytest.raises(Stopped):
        rehearse(image, Migrations([Rising(before=lambda _: stop.set())]), stop=stop)
