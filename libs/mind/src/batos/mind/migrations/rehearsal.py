"""What migrations would do to an image: every batch is done and thrown away."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from batos.mind import compatibility
from batos.mind.compatibility import Incompatible
from batos.mind.migrations.migration import START, Cursor, Migration, Migrations
from batos.mind.migrations.progress import NOBODY, Progress, progress
from batos.mind.migrations.running import MigrationFailed, Stopped, Tell
from batos.uvm import Image, Transient


@dataclass(frozen=True)
class Expected:
    """What a migration would do.

    Attributes:
        migration: which one.
        looked_before: how many objects were looked at already, where it was begun.
        looked: how many objects it would still look at.
        changed: how many of them it would change; None where that shows only when those before it have been done.
        total: about how many objects there are to look at in all; None where nobody knows.
    """

    migration: Migration
    looked_before: int
    looked: int
    changed: int | None
    total: int | None


def rehearse(
    image: Image,
    known: Migrations,
    *,
    tell: Tell = lambda _migration, _progress: None,
    stop: threading.Event | None = None,
) -> tuple[list[Expected], str]:
    """Say what `Runner.run` would do, and write nothing.

    Each batch is a transaction that is aborted, so that no more than one is in memory. Therefore only the first
    migration meets the image as it would be; of those behind it no count is given.

    Args:
        image: what would be migrated.
        known: the migrations of this release.
        tell: told after every batch how far it is.
        stop: set by anybody, it ends the rehearsal after the batch that is under way.

    Returns:
        What is expected, and what stands against it; empty where nothing does.

    Raises:
        Stopped: it was told to.
        MigrationFailed: a batch failed.
        MindError: `migration_gap`, this release has no way from the image's version.
        batos.uvm.UvmError: the image cannot be read.
    """
    against = ""
    with image.snapshot() as root:
        pending = known.after(compatibility.image_version(root))
        begun = progress(root)
        try:
            for migration in pending:
                compatibility.require_image(root, migration.number)
        except Incompatible as error:
            against = str(error)
        if not pending:
            return [], ""
        first = pending[0]
        if begun is None or begun.number != first.number:
            begun = Progress(
                first.number, START, 0, 0, 0, first.total(root), NOBODY, registered=False, epoch=0, done=False
            )
    expected = [_rehearsed(image, first, begun, tell, stop or threading.Event())]
    return [*expected, *(Expected(later, 0, 0, None, None) for later in pending[1:])], against


def _rehearsed(image: Image, migration: Migration, begun: Progress, tell: Tell, stop: threading.Event) -> Expected:
    at, changed = begun, 0
    cursor: Cursor | None = begun.cursor
    tell(migration, at)
    with image.session() as session:
        while cursor is not None:
            if stop.is_set():
                raise Stopped(at)
            root = session.begin()
            try:
                step = migration.step(root, cursor)
            except Transient:
                raise
            except Exception as wrong:
                raise MigrationFailed(migration, at, wrong) from wrong
            finally:
                session.abort()
            cursor = step.cursor
            changed += step.changed
            at = replace(at, looked=at.looked + step.looked, batches=at.batches + 1)
            tell(migration, at)
    return Expected(migration, begun.looked, at.looked - begun.looked, changed, begun.total)
