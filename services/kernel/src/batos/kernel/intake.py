"""Where missions become durable: those that wait together are committed in one transaction, then acknowledged."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import stamina
from ZODB.POSException import ConflictError

from batos.kernel import missions
from batos.kernel.errors import KernelError
from batos.kernel.metrics import KernelMetrics
from batos.kernel.missions import Owner
from batos.kernel.running import Places
from batos.kernel.ticket import Ticket
from batos.mind import PERSONAS, compatibility
from batos.protocol import MissionAccepted, MissionSubmit, RequestFailed
from batos.uvm import CommitFateUnknown, Image, Session, Transient

TIDY_AFTER_S = 0.5
"""How long an ended mission waits for others to be tidied up after with, in seconds."""
TIDY_BATCH = 1000
ATTEMPTS = 50
TIMEOUT_S = 60.0
"""Bounds of trying to commit one batch: tries, and seconds in all. Who asked may wait longer and asks again."""
SHOWN_CHARACTERS = 40

_log = logging.getLogger("batos.kernel")


@dataclass(eq=False)
class _Submission:
    """A mission that waits to be committed."""

    message: MissionSubmit
    answer: Future[MissionAccepted] = field(default_factory=Future)
    reserved: bool = False
    made: bool = False
    """It was not there when this kernel began the commit that is in, or whose fate is unknown."""


def checked(message: MissionSubmit, *, most_bytes: int) -> MissionSubmit:
    """Return a mission as it may be committed, the weaver's name in upper case.

    Raises:
        RequestFailed: what is wrong with it, and what to do.
    """
    if not missions.is_id(message.mission_id):
        raise RequestFailed(
            "mission_id_invalid",
            f"{message.mission_id[:SHOWN_CHARACTERS]!r} is no mission id",
            "an id is a UUIDv7 of 32 lower-case hexadecimal digits",
        )
    if not message.text.strip():
        raise RequestFailed("mission_empty", "the mission has no text", 'say what is to be done: batos ask "…"')
    size = len(message.text.encode("utf-8", "surrogatepass"))
    if size > most_bytes:
        raise RequestFailed(
            "mission_too_large",
            f"the mission's text has {size} bytes, {most_bytes} are allowed",
            "shorten it, or raise BATOS_KERNEL_TEXT_BYTES",
        )
    weaver = message.weaver.strip().upper()
    if weaver and weaver not in PERSONAS:
        raise RequestFailed(
            "persona_unknown",
            f"there is no persona {message.weaver[:SHOWN_CHARACTERS]!r}",
            f"personas are {', '.join(PERSONAS)}",
        )
    return MissionSubmit(
        mission_id=message.mission_id, text=message.text, weaver=weaver, author=message.author or "architect"
    )


class Intake:
    """Commits missions, and tidies up after those that ended, in one thread with one session."""

    def __init__(
        self,
        *,
        image: Image,
        owner: Owner,
        places: Places,
        begin: Callable[[Ticket], None],
        on_waiting: Callable[[], None],
        metrics: KernelMetrics,
        batch: int,
    ) -> None:
        """Start the thread.

        Args:
            image: where missions are kept.
            owner: this kernel.
            places: where a mission is run at once if there is a free one.
            begin: starts a mission that got a place.
            on_waiting: told, by the thread, that a mission found no place.
            metrics: counts missions and transactions.
            batch: missions committed together at most.
        """
        self._image = image
        self._owner = owner
        self._places = places
        self._begin = begin
        self._on_waiting = on_waiting
        self._metrics = metrics
        self._batch = batch
        self._queue: queue.SimpleQueue[_Submission | str | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._tidies: dict[str, float] = {}
        self._thread = threading.Thread(target=self._work, name="intake")
        self._thread.start()

    def submit(self, message: MissionSubmit) -> Future[MissionAccepted]:
        """Have a checked mission committed. Thread-safe."""
        submission = _Submission(message)
        submission.answer.set_running_or_notify_cancel()  # whoever stops waiting for it does not stop it
        with self._gate:
            if self._closed:
                submission.answer.set_exception(_stopped())
            else:
                self._queue.put(submission)
        return submission.answer

    def tidy(self, mission_id: str) -> None:
        """Have an ended mission taken out of the open ones, some time soon. Thread-safe."""
        with self._gate:
            if not self._closed:
                self._queue.put(mission_id)

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        session = self._image.session()
        ended = False
        try:
            while not ended:
                waiting, ended = self._waiting()
                due = ended or (self._tidies and time.monotonic() - min(self._tidies.values()) >= TIDY_AFTER_S)
                if waiting or (self._tidies and due):
                    self._commit_all(session, waiting)
        finally:
            session.close()

    def _waiting(self) -> tuple[list[_Submission], bool]:
        """Wait for something to do, then take all there is up to the batch's bound."""
        found: list[_Submission] = []
        try:
            item = self._queue.get(timeout=TIDY_AFTER_S if self._tidies else None)
            while True:
                if item is None:
                    return found, True
                if isinstance(item, str):
                    self._tidies.setdefault(item, time.monotonic())
                else:
                    found.append(item)
                if len(found) >= self._batch:
                    return found, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return found, False

    def _commit_all(self, session: Session, waiting: list[_Submission]) -> None:
        """Commit a batch and acknowledge it; where that is impossible, say so to who asked."""
        tidies = list(self._tidies)[:TIDY_BATCH]
        try:
            results = self._committed(session, waiting, tidies)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told and the intake lives on
            _log.exception("the intake could not commit %d missions", len(waiting))
            self._refuse(waiting, error)
            if not waiting:
                for mission_id in tidies:
                    self._tidies[mission_id] = time.monotonic()
            return
        for mission_id in tidies:
            del self._tidies[mission_id]
        for submission, result in zip(waiting, results, strict=True):
            self._acknowledge(submission, result)

    def _committed(
        self, session: Session, waiting: list[_Submission], tidies: list[str]
    ) -> list[Ticket | KernelError | None]:
        """Write a batch, where this kernel is one of the image's.

        After a commit of unknown fate the image is looked at: what is there is not made again.
        """
        for attempt in stamina.retry_context(
            on=(ConflictError, Transient, CommitFateUnknown),
            attempts=ATTEMPTS,
            timeout=TIMEOUT_S,
            wait_initial=0.002,
            wait_max=1.0,
            wait_jitter=0.02,
        ):
            with attempt:
                try:
                    root = session.begin()
                    # A kernel that was stopped for long may wake in an image whose missions have another shape by now.
                    session.read_current(compatibility.standing(root, self._owner.incarnation))
                    results = [self._written(root, submission) for submission in waiting]
                    for mission_id in tidies:
                        missions.tidy(root, mission_id)
                    session.commit(user=self._owner.kernel, note=f"intake of {len(waiting)} missions")
                except (ConflictError, Transient):
                    for submission in waiting:
                        submission.made = False
                    raise
                finally:
                    session.abort()
                self._metrics.batches.inc()
                return results
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _written(self, root: Any, submission: _Submission) -> Ticket | KernelError | None:
        """Write one mission; return the ticket to run it here, None where it waits or was known, or what is wrong."""
        message = submission.message
        if not submission.reserved and missions.find(root, message.mission_id) is None:
            submission.reserved = self._places.reserve(new=True)
        try:
            created = missions.create(
                root,
                mission_id=message.mission_id,
                text=message.text,
                weaver=message.weaver,
                author=message.author,
                owner=self._owner if submission.reserved else None,
            )
        except KernelError as error:
            return error
        record = created.record
        submission.made = submission.made or not created.duplicate
        if not (submission.made and submission.reserved):
            return None
        is_mine = (record.state, record.kernel, record.incarnation, record.epoch) == (missions.RUNNING, *self._owner, 1)
        return missions.ticket(record) if is_mine else None

    def _acknowledge(self, submission: _Submission, result: Ticket | KernelError | None) -> None:
        if isinstance(result, Ticket):
            self._begin(result)
        elif submission.reserved:
            self._places.give_back()
        elif submission.made:
            self._on_waiting()
        if isinstance(result, KernelError):
            submission.answer.set_exception(RequestFailed(result.code, result.message, result.hint))
            return
        duplicate = not submission.made
        self._metrics.accepted.labels(str(duplicate).lower()).inc()
        submission.answer.set_result(MissionAccepted(mission_id=submission.message.mission_id, duplicate=duplicate))

    def _refuse(self, waiting: list[_Submission], error: Exception) -> None:
        for submission in waiting:
            if submission.reserved:
                self._places.give_back()
            failed = RequestFailed(
                "image_unreachable",
                f"the mission could not be made durable: {error}",
                "it is safe to ask again with the same id; is the image up? see `batos status`",
                transient=isinstance(error, (Transient, CommitFateUnknown, ConflictError)),
            )
            submission.answer.set_exception(failed)


def _stopped() -> RequestFailed:
    return RequestFailed("draining", "this kernel takes no new missions", "another kernel will", transient=True)
