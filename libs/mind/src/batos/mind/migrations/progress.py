"""How far a migration is, and who runs it: one record in the image, written with every batch.

It has no conflict resolution, and each batch is committed together with it. So of two runners only one commits, a
batch is in with its cursor or not at all, and a runner that was stopped and taken over from cannot write any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from batos.mind import compatibility
from batos.mind.errors import MindError
from batos.mind.migrations.migration import START, Cursor, Migration, Step
from batos.uvm import Root, UvmObject

MIGRATION = "migration"


class Owner(NamedTuple):
    """One incarnation of who runs migrations."""

    name: str
    incarnation: str


NOBODY = Owner("", "")


@dataclass(frozen=True)
class Progress:
    """How far a migration is.

    Attributes:
        number: the version of the image that it leads to.
        cursor: where the next batch begins.
        batches: how many there were.
        looked: objects that were looked at.
        changed: objects among them that were changed.
        total: about how many there are to look at; None where nobody knows.
        owner: who runs it; `NOBODY` where it was given up or has ended.
        registered: whether the owner was a registered kernel when it took it.
        epoch: counts its owners.
        done: whether it has ended.
    """

    number: int
    cursor: Cursor
    batches: int
    looked: int
    changed: int
    total: int | None
    owner: Owner
    registered: bool
    epoch: int
    done: bool

    def __str__(self) -> str:
        return f"{self.looked:,}" if self.total is None else f"{self.looked:,} of {max(self.total, self.looked):,}"


class MigrationRuns(MindError):  # noqa: N818 - it says how it is
    """Somebody else runs a migration."""

    def __init__(self, found: Progress) -> None:
        super().__init__(
            "migration_runs",
            f"{found.owner.name} is migrating the image to version {found.number}: {found}",
            "wait until it has ended, then ask again",
        )


class Superseded(MindError):  # noqa: N818 - it says what happened to the runner
    """Somebody else has taken the migration over: its former runner may not write anything."""

    def __init__(self, number: int, found: Progress | None) -> None:
        by = "nobody" if found is None else found.owner.name or "nobody"
        super().__init__(
            "migration_superseded",
            f"the migration to version {number} is no longer this one's: it is {by}'s now",
            "nothing is lost; `batos image migrate` says how far it is",
        )


def progress(root: Root) -> Progress | None:
    """Return how far the last migration is that was begun; None where none ever was."""
    found = root.get(MIGRATION)
    if found is None:
        return None
    return Progress(
        number=found.number,
        cursor=tuple(found.cursor),
        batches=found.batches,
        looked=found.looked,
        changed=found.changed,
        total=found.total,
        owner=Owner(found.name, found.incarnation),
        registered=found.registered,
        epoch=found.epoch,
        done=found.done,
    )


def take(
    root: Root, migration: Migration, owner: Owner, *, seen: Progress | None, total: int | None
) -> Progress | None:
    """Become the runner of a migration and announce its version, or go on with one that nobody runs any more.

    Args:
        root: the image's root.
        migration: which one; the image has the version before.
        owner: who runs it from now on.
        seen: what the caller found in the image and has judged free.
        total: about how many objects it will look at.

    Returns:
        How far it is; None where it has moved on since it was seen.

    Raises:
        Incompatible: a registered kernel does not understand the version that it leads to.
    """
    found = progress(root)
    if found != seen or compatibility.image_version(root) != migration.number - 1:
        return None
    compatibility.announce_version(root, migration.number)
    record = root.get(MIGRATION)
    if record is None:
        root[MIGRATION] = record = UvmObject(epoch=0)
    if found is None or found.number != migration.number:
        record.number, record.cursor, record.total, record.done = migration.number, START, total, False
        record.batches = record.looked = record.changed = 0
    record.name, record.incarnation = owner
    record.registered = any(one.incarnation == owner.incarnation for one in compatibility.registered(root))
    record.epoch = record.epoch + 1
    return progress(root)


def advance(root: Root, migration: Migration, held: Progress) -> Progress:
    """Do the next batch of a migration and note it, in one transaction; after the last one the image has its version.

    Raises:
        Superseded: somebody else runs it by now.
    """
    before = progress(root)
    if before is not None and before.done and (before.number, before.epoch) == (held.number, held.epoch):
        return before  # the commit of the last batch was of unknown fate, and is in
    record = _fence(root, held)
    step: Step = migration.step(root, tuple(record.cursor))
    record.batches = record.batches + 1
    record.looked = record.looked + step.looked
    record.changed = record.changed + step.changed
    if step.cursor is None:
        record.done = True
        record.name, record.incarnation = NOBODY
        compatibility.set_image_version(root, migration.number)
    else:
        record.cursor = step.cursor
    found = progress(root)
    assert found is not None  # noqa: S101 - it was written above
    return found


def give_up(root: Root, held: Progress) -> None:
    """Let go of a migration, so that the next one who is asked goes on at once. Does nothing where it is another's."""
    found = progress(root)
    if found is not None and _is_same(found, held):
        root[MIGRATION].name, root[MIGRATION].incarnation = NOBODY


def _fence(root: Root, held: Progress) -> Any:
    found = progress(root)
    if found is None or not _is_same(found, held):
        raise Superseded(held.number, found)
    return root[MIGRATION]


def _is_same(found: Progress, held: Progress) -> bool:
    return (found.number, found.owner, found.epoch) == (held.number, held.owner, held.epoch)
