"""What a kernel does where the image is to be migrated: in a thread of its own, given up when the kernel ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from batos.kernel import looking
from batos.kernel.migrations import MIGRATIONS
from batos.kernel.missions import Owner, is_id
from batos.kernel.ticket import EventSink, LogSink
from batos.mind import compatibility, migrations
from batos.mind.migrations import Migration, Migrations, Stopped
from batos.protocol import (
    EventType,
    Handler,
    ImageMigrate,
    ImageMigrated,
    Message,
    MigrationView,
    Progress,
    RequestContext,
    RequestFailed,
)
from batos.uvm import CommitFateUnknown, Image

TELL_S = 0.2
"""Seconds between two events that say how far it is."""

R = TypeVar("R")
_log = logging.getLogger("batos.kernel")


class _Work:
    """One request at work.

    Attributes:
        stop: set to have it end after the batch that is under way.
        said: how far it is.
    """

    def __init__(self, request: ImageMigrate, events: EventSink, clock: Callable[[], float]) -> None:
        self.dry_run = request.dry_run
        self.stop = threading.Event()
        self.said = "it begins"
        self.thread: threading.Thread | None = None
        self._id = request.request_id
        self._events = events
        self._clock = clock
        self._told_at = clock() - TELL_S

    def tell(self, migration: Migration, found: migrations.Progress) -> None:
        """Say on the bus how far it is, a few times a second and at the end."""
        self.said = f"{found} for version {migration.number}"
        now = self._clock()
        if now - self._told_at < TELL_S and not found.done:
            return
        self._told_at = now
        event = Progress(
            what="migrate",
            id=self._id,
            stage=f"{'dry run of ' if self.dry_run else ''}{migration.number}: {migration.title}",
            fraction=min(1.0, found.looked / found.total) if found.total else None,
            detail=f"{found} looked at",
        )
        self._events.publish(f"progress/migrate/{self._id}", event)


class Migrating:
    """Handler of `ImageMigrate`. Its coroutines belong to one event loop.

    Args:
        image: what is migrated.
        owner: this kernel.
        events: where progress is published.
        log: the metacognition log.
        known: the migrations of this release.
        lease_s: seconds without a batch after which another kernel's run is taken over.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        *,
        image: Image,
        owner: Owner,
        events: EventSink,
        log: LogSink,
        known: Migrations = MIGRATIONS,
        lease_s: float = migrations.LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._image = image
        self._owner = owner
        self._events = events
        self._log = log
        self._known = known
        self._lease_s = lease_s
        self._clock = clock
        self._at_work: set[_Work] = set()
        self._leaving = False

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return who answers what."""
        return {ImageMigrate: self._migrate}

    def leave(self) -> None:
        """Begin nothing more, and let what is at work stop after its batch: another kernel goes on with it."""
        self._leaving = True
        for work in self._at_work:
            work.stop.set()

    def close(self) -> None:
        """Wait until nothing is at work. Call `leave` first, and this not in the event loop."""
        for work in list(self._at_work):
            if work.thread is not None:
                work.thread.join()

    async def _migrate(self, message: ImageMigrate, context: RequestContext) -> ImageMigrated:
        del context
        if not is_id(message.request_id):
            raise RequestFailed(
                "request_id_invalid", "the request's id is no 32 lower-case hex digits", "make it with new_id()"
            )
        if self._leaving:
            raise _draining()
        running = next((work for work in self._at_work if not work.dry_run), None)
        if running is not None and not message.dry_run:
            raise RequestFailed(
                "migration_runs",
                f"{self._owner.kernel} is migrating the image: {running.said}",
                "wait until it has ended, then ask again",
            )
        work = _Work(message, self._events, self._clock)
        try:
            with looking.refusals():
                return await self._in_thread(work, partial(self._rehearse if message.dry_run else self._run, work))
        except RequestFailed as refused:
            if isinstance(refused.__cause__, Stopped):
                raise _draining() from refused
            if isinstance(refused.__cause__, CommitFateUnknown):
                raise looking.unreachable(refused.__cause__) from refused
            raise

    def _run(self, work: _Work) -> ImageMigrated:
        owner = migrations.Owner(*self._owner)
        before = self._version()
        runner = migrations.Runner(
            self._image, self._known, owner, tell=work.tell, stop=work.stop, lease_s=self._lease_s
        )
        ran = runner.run()
        for one in ran:
            _log.info("the image has version %d: %s changed", one.ended.number, f"{one.ended.changed:,}")
            self._log.record(
                EventType.VESSEL,
                detail={"what": "migrated", "image_version": one.ended.number, "changed": one.ended.changed},
            )
        return ImageMigrated(
            before=before,
            version=self._version(),
            newest=self._known.newest,
            migrations=tuple(
                MigrationView(
                    number=one.migration.number,
                    title=one.migration.title,
                    looked=one.ended.looked,
                    changed=one.ended.changed,
                    looked_before=one.looked_before,
                    total=one.ended.total,
                )
                for one in ran
            ),
        )

    def _rehearse(self, work: _Work) -> ImageMigrated:
        expected, against = migrations.rehearse(self._image, self._known, tell=work.tell, stop=work.stop)
        version = self._version()
        return ImageMigrated(
            before=version,
            version=version,
            newest=self._known.newest,
            migrations=tuple(
                MigrationView(
                    number=one.migration.number,
                    title=one.migration.title,
                    looked=one.looked,
                    changed=one.changed,
                    looked_before=one.looked_before,
                    total=one.total,
                )
                for one in expected
            ),
            against=against,
            dry_run=True,
        )

    def _version(self) -> int:
        with self._image.snapshot() as root:
            return compatibility.image_version(root)

    async def _in_thread(self, work: _Work, do: Callable[[], R]) -> R:
        """Do it in a thread of its own: it may take hours, and the loop's threads are few and for what is short."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[R] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            self._at_work.discard(work)
            if outcome.done():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        def run() -> None:
            result, error = None, None
            try:
                result = do()
            except BaseException as wrong:  # noqa: BLE001 - handed to whoever waits
                error = wrong
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        self._at_work.add(work)
        work.thread = threading.Thread(target=run, name="migrating")
        work.thread.start()
        try:
            return await outcome
        finally:
            work.stop.set()  # who asked waits no longer


def _draining() -> RequestFailed:
    return RequestFailed("draining", "this kernel is ending", "another one goes on with it", transient=True)
