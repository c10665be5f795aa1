"""The cycles that run here: a bounded number of places, a thread for each, and what follows when a thought ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import stamina

from batos.kernel import missions
from batos.kernel.chronicle import ORCHESTRATOR
from batos.kernel.cycle import Cycle
from batos.kernel.engine import BusEngine
from batos.kernel.errors import Fenced
from batos.kernel.metacognition import Metacognition
from batos.kernel.metrics import KernelMetrics
from batos.kernel.ticket import CycleOutcome, EventSink, Ticket
from batos.protocol import EventType, MissionEnded, MissionStatus
from batos.uvm import CommitFateUnknown, Image, Transient

FAILURE_ATTEMPTS = 100
FAILURE_TIMEOUT_S = 600.0
FAILURE_PAUSE_S = 5.0
"""Bounds of trying to record a failure while the image is away: tries, seconds in all, longest pause."""

_log = logging.getLogger("batos.kernel")


class Places:
    """How many cycles may run at a time. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._free = count
        self._open = False
        self._queued = False

    @property
    def free(self) -> int:
        """Places that can be had now."""
        with self._lock:
            return self._free if self._open else 0

    @property
    def taken(self) -> int:
        """Places with a cycle, or with somebody who is about to start one."""
        with self._lock:
            return self._count - self._free

    def set_open(self, is_open: bool) -> None:
        """Say whether places are given at all: not before the awakening, and not during a drain."""
        with self._lock:
            self._open = is_open

    def set_queued(self, is_queued: bool) -> None:
        """Say whether missions wait already, so that a new one has to wait behind them."""
        with self._lock:
            self._queued = is_queued

    def reserve(self, *, new: bool = False) -> bool:
        """Take a place; return whether there was one.

        Args:
            new: for a mission that has only just come, and goes behind those that wait.
        """
        with self._lock:
            if not self._open or not self._free or (new and self._queued):
                self._queued = self._queued or new
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        """Return a place."""
        with self._lock:
            self._free += 1


@dataclass(frozen=True, eq=False)
class Running:
    """A cycle at work."""

    ticket: Ticket
    engine: BusEngine


class Runner:
    """Runs cycles in threads of its own and sees to what follows."""

    def __init__(
        self,
        *,
        image: Image,
        places: Places,
        slots: int,
        engine_for: Callable[[str], BusEngine],
        log: Metacognition,
        events: EventSink,
        metrics: KernelMetrics,
        prompt_timeout_s: float,
        on_end: Callable[[MissionStatus], None],
        on_free: Callable[[], None],
        tidy: Callable[[str], None],
    ) -> None:
        """Begin with no cycle.

        Args:
            image: where the mind lives.
            places: a place of them is returned when a cycle has ended.
            slots: how many threads there are, one a place.
            engine_for: makes the engine for a mission.
            log: the metacognition log.
            events: the events channel.
            metrics: counts missions.
            prompt_timeout_s: seconds that the answers to one batch of prompts may take.
            on_end: told of every mission that ended here, by the cycle's thread, once it is committed.
            on_free: told that a place is free again, by the cycle's thread.
            tidy: told which mission's end is in the log for good, by the log's thread.
        """
        self._image = image
        self._places = places
        self._engine_for = engine_for
        self._log = log
        self._events = events
        self._metrics = metrics
        self._prompt_timeout_s = prompt_timeout_s
        self._on_end = on_end
        self._on_free = on_free
        self._tidy = tidy
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="cycle")

    def begin(self, ticket: Ticket) -> None:
        """Start to think about a mission, in a place that was reserved for it. Thread-safe."""
        running = Running(ticket, self._engine_for(ticket.mission_id))
        with self._lock:
            self._running[ticket.mission_id] = running
        self._metrics.running.inc()
        self._pool.submit(self._run, running)

    def at_work(self) -> list[Running]:
        """Return the cycles at work."""
        with self._lock:
            return list(self._running.values())

    def give_back(self, which: list[Running], reason: str) -> int:
        """Release missions in the image and stop their cycles; return how many were still this kernel's.

        Args:
            which: cycles at work.
            reason: for metrics and log, one word.

        Raises:
            UvmError: the image cannot be reached; the cycles are stopped, and others will adopt the missions.
        """
        tickets = [running.ticket for running in which]
        try:
            released = self._image.run(
                lambda root: _released(root, tickets),
                user="kernel",
                note=f"{len(tickets)} missions given back: {reason}",
            )
        finally:
            for running in which:
                running.engine.interrupt(f"it was given back: {reason}")
        self._metrics.released.labels(reason).inc(released)
        return released

    def close(self) -> None:
        """Wait for the threads. Every cycle has to have ended or been given back."""
        self._pool.shutdown(wait=True)

    def _run(self, running: Running) -> None:
        ticket = running.ticket
        began = time.monotonic()
        ended = False
        try:
            ended = self._think(running)
        except Fenced as fenced:
            _log.warning("%s", fenced)
            self._metrics.missions.labels("fenced").inc()
        except (Transient, CommitFateUnknown) as error:
            _log.error("mission %s is left as it is recorded: %s", ticket.mission_id, error)
            self._metrics.missions.labels("left").inc()
        finally:
            self._metrics.cycle_duration.observe(time.monotonic() - began)
            with self._lock:
                if self._running.get(ticket.mission_id) is running:
                    del self._running[ticket.mission_id]
            self._metrics.running.dec()
            self._places.give_back()
            if ended:
                self._log.when_durable(lambda: self._tidy(ticket.mission_id))
            self._on_free()

    def _think(self, running: Running) -> bool:
        """Run the cycle and record its outcome.

        Raises:
            Fenced: the mission is somebody else's by now.
            batos.uvm.Transient: the image is away.
        """
        ticket = running.ticket
        cycle = Cycle(
            self._image, ticket, running.engine, self._log, self._events, prompt_timeout_s=self._prompt_timeout_s
        )
        try:
            outcome = cycle.run()
        except (Fenced, Transient, CommitFateUnknown):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the kernel's own ends the mission, not the kernel
            outcome = self._broken(ticket, error)
        if outcome.outcome == missions.FAILED:
            record_failure(self._image, ticket, outcome)
        status = ended_status(ticket, outcome)
        self._metrics.missions.labels(outcome.outcome).inc()
        self._events.publish(f"mission/{ticket.mission_id}", MissionEnded(status=status))
        self._on_end(status)
        return True

    def _broken(self, ticket: Ticket, error: Exception) -> CycleOutcome:
        """Tell of a cycle that broke down for a reason that no cycle foresees."""
        _log.exception("mission %s: its cycle broke down", ticket.mission_id, exc_info=error)
        outcome = CycleOutcome(
            outcome="FAILED",
            error=f"the kernel itself broke down: {type(error).__name__}: {error} (its log has the traceback)",
            weaver=ticket.weaver,
        )
        self._log.record(
            EventType.FINAL_OUTCOME,
            cycle_id=ticket.cycle_id,
            mission_id=ticket.mission_id,
            current_state=missions.FAILED,
            active_persona=ORCHESTRATOR,
            detail={"code": "kernel_failed", "error": outcome.error},
            final_outcome=missions.FAILED,
        )
        return outcome


def record_failure(image: Image, ticket: Ticket, outcome: CycleOutcome) -> None:
    """Record why a thought failed, as soon as the image can be reached.

    Raises:
        Fenced: the mission is somebody else's by now.
        batos.uvm.Transient: the image was away for too long.
    """

    def work(root: Any) -> None:
        found = missions.find(root, ticket.mission_id)
        if found is not None and (found.state, found.epoch) == (missions.FAILED, ticket.epoch):
            return  # a commit of unknown fate was in
        missions.fail(root, ticket, outcome)

    for attempt in stamina.retry_context(
        on=(Transient, CommitFateUnknown),
        attempts=FAILURE_ATTEMPTS,
        timeout=FAILURE_TIMEOUT_S,
        wait_max=FAILURE_PAUSE_S,
    ):
        with attempt:
            image.run(work, user=ticket.author, note="outcome", cycle=ticket.cycle_id, mission=ticket.mission_id)


def ended_status(ticket: Ticket, outcome: CycleOutcome) -> MissionStatus:
    """Return what the bus says of a mission that ended so."""
    return MissionStatus(
        mission_id=ticket.mission_id,
        text=ticket.text,
        state=outcome.outcome,
        author=ticket.author,
        answer=outcome.answer,
        error=outcome.error,
        cycle_id=ticket.cycle_id,
        tid=outcome.tid,
        personas=outcome.personas,
        weaver=outcome.weaver or ticket.weaver,
        model=outcome.model,
        adapter=outcome.adapter,
        dna_version=outcome.dna_version,
        usage=outcome.usage,
        duration_ms=outcome.duration_ms,
        kernel=ticket.kernel,
        incarnation=ticket.incarnation,
        epoch=ticket.epoch,
        submitted_at=ticket.submitted_at,
    )


def _released(root: Any, tickets: list[Ticket]) -> int:
    released = 0
    for ticket in tickets:
        try:
            missions.release(root, ticket)
        except Fenced:
            continue  # it has ended, or is another's
        released += 1
    return released
