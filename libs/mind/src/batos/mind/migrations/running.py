"""Running what an image still needs: one runner at a time, one batch a transaction, killed and gone on with at will."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from batos.mind import compatibility
from batos.mind.compatibility import Incompatible
from batos.mind.errors import MindError
from batos.mind.migrations.migration import Migration, Migrations
from batos.mind.migrations.progress import (
    NOBODY,
    MigrationRuns,
    Owner,
    Progress,
    Superseded,
    advance,
    give_up,
    progress,
    take,
)
from batos.uvm import CommitFateUnknown, Contention, DiskFull, Image, ImageUnreachable, Root, Transient, UvmError

LEASE_S = 15.0
"""How long the runner of a migration may commit nothing before another takes it over, in seconds."""
LOOK_S = 0.1
WRITE_TRIES = 12
WRITE_S = 5.0
"""A write meets conflicts for so many seconds, so many times over, and in between hears whether it is to stop."""

_log = logging.getLogger("batos.mind")

T = TypeVar("T")
Tell = Callable[[Migration, Progress], None]


class Stopped(MindError):  # noqa: N818 - it says what happened
    """The runner was told to stop; the next one goes on where it did."""

    def __init__(self, found: Progress | None) -> None:
        how_far = "before it began" if found is None else f"at {found} of version {found.number}"
        super().__init__("migration_stopped", f"the migration was stopped {how_far}", "batos image migrate goes on")


class MigrationFailed(MindError):  # noqa: N818 - it says what happened
    """A migration cannot be done to this image."""

    def __init__(self, migration: Migration, found: Progress, cause: Exception) -> None:
        super().__init__(
            "migration_failed",
            f"migration {migration.number} ({migration.title}) failed at {found}: {type(cause).__name__}: {cause}",
            "what was done so far stays and is understood; look at the image (batos image verify), then migrate again",
        )


_PASSED_ON = (Superseded, Stopped, Incompatible, Transient, CommitFateUnknown, DiskFull)
"""What stands against a batch without being a fault of its migration."""


@dataclass(frozen=True)
class Ran:
    """A migration that came to its end.

    Attributes:
        migration: which one.
        ended: how far it came, over all its runners.
        looked_before: how many objects had been looked at when this runner began.
    """

    migration: Migration
    ended: Progress
    looked_before: int


class Runner:
    """Runs migrations on behalf of one incarnation, which has one runner at a time. Its methods block.

    Args:
        image: what is migrated.
        known: the migrations of this release.
        owner: who runs them.
        tell: told after every batch how far it is.
        stop: set by anybody, it ends the run after the batch that is under way.
        lease_s: seconds without a batch after which another runner counts as gone.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        image: Image,
        known: Migrations,
        owner: Owner,
        *,
        tell: Tell = lambda _migration, _progress: None,
        stop: threading.Event | None = None,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._image = image
        self._known = known
        self._owner = owner
        self._tell = tell
        self._stop = stop or threading.Event()
        self._lease_s = lease_s
        self._clock = clock

    def run(self) -> list[Ran]:
        """Do all that the image still needs; return what was done.

        Raises:
            Incompatible: a registered kernel does not understand what it would become; nothing was begun.
            MigrationRuns: another runner is at it.
            Superseded: this one stood still, and another took over.
            Stopped: it was told to.
            MigrationFailed: a batch failed.
            MindError: `migration_gap`, this release has no way from the image's version.
            batos.uvm.UvmError: the image cannot be read or written.
        """
        ran: list[Ran] = []
        while True:
            with self._image.snapshot() as root:
                pending = self._known.after(compatibility.image_version(root))
                for migration in pending:
                    compatibility.require_image(root, migration.number)
            if not pending:
                return ran
            held = self._taken(pending[0])
            if held is not None:
                looked_before = held.looked
                ran.append(Ran(pending[0], self._through(pending[0], held), looked_before))

    def _taken(self, migration: Migration) -> Progress | None:
        seen = self._free()
        begun = seen is not None and seen.number == migration.number
        with self._image.snapshot() as root:
            total = None if begun else migration.total(root)
        self._hear(None)
        return self._written(
            lambda root: take(root, migration, self._owner, seen=seen, total=total),
            f"migration {migration.number}: {'taken over' if begun else 'begun'}",
        )

    def _free(self) -> Progress | None:
        """Return what stands in the image once nobody is at it.

        Whether another runner is still there is judged by what this one sees: that it commits, not what its clock says.
        Time in which this process stood still itself is no silence of the other's.
        """
        first: Progress | None = None
        silent_s, looked_at = 0.0, self._clock()
        while True:
            with self._image.snapshot() as root:
                found = progress(root)
                present = {one.incarnation for one in compatibility.registered(root)}
            if found is None or found.done or found.owner in {NOBODY, self._owner}:
                return found
            if found.registered and found.owner.incarnation not in present:
                return found
            if first is not None and found != first:
                raise MigrationRuns(found)
            if silent_s >= self._lease_s:
                return found
            first = found
            if self._stop.wait(LOOK_S):
                raise Stopped(found)
            now = self._clock()
            silent_s += min(now - looked_at, 2 * LOOK_S)
            looked_at = now

    def _through(self, migration: Migration, held: Progress) -> Progress:
        self._tell(migration, held)
        try:
            while not held.done:
                self._hear(held)
                held = self._batch(migration, held)
                self._tell(migration, held)
        except ImageUnreachable:
            raise  # who cannot commit cannot let go either
        except _PASSED_ON:
            self._let_go(held)
            raise
        except Exception as wrong:
            self._let_go(held)
            raise MigrationFailed(migration, held, wrong) from wrong
        return held

    def _hear(self, held: Progress | None) -> None:
        if self._stop.is_set():
            raise Stopped(held)

    def _batch(self, migration: Migration, held: Progress) -> Progress:
        return self._written(
            lambda root: advance(root, migration, held), f"migration {migration.number}: batch {held.batches + 1}"
        )

    def _written(self, work: Callable[[Root], T], note: str) -> T:
        """Commit some work. It may be done again after a commit of unknown fate: what it has done stands beside it."""
        for last in (*(False,) * (WRITE_TRIES - 1), True):
            try:
                return self._image.run(work, user=self._owner.name, note=note, timeout_s=WRITE_S)
            except (Contention, CommitFateUnknown):
                if last or self._stop.is_set():
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def _let_go(self, held: Progress) -> None:
        """Let the next runner begin at once. Where that cannot be written, it begins after enough silence."""
        try:
            self._written(lambda root: give_up(root, held), f"migration {held.number}: given up at {held.looked}")
        except UvmError as error:
            _log.warning("migration %d is not let go of, it is free after %g s: %s", held.number, self._lease_s, error)
