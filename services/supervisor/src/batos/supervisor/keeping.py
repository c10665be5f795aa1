"""Keeps the places of a fleet filled: starts processes, judges their exits, starts them again, ends them."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from batos.protocol import VesselCard
from batos.supervisor.child import Child
from batos.supervisor.errors import PlaceError
from batos.supervisor.place import Backoff, Place, PlaceSpec, Restart, Succeeded, SuccessorLost, said_code
from batos.supervisor.settings import KeeperSettings

SHORT_S = 2.0
"""A process that ends within this time failed, whatever its exit code."""
OWN_NAMES = ("BATOS_NAME", "BATOS_METRICS_PORT", "BATOS_PARENT_PID")
"""Settings of the keeper that are not its children's."""
_PREFIX = re.compile(r"^\S+Z [A-Z]+ \S+ \S+: ")
"""What stands before the words of a log line."""

_log = logging.getLogger(__name__)


class Keeping:
    """The children of one keeper. Everything happens on its event loop, in the main thread."""

    def __init__(
        self,
        specs: Iterable[PlaceSpec],
        settings: KeeperSettings,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without children.

        Args:
            specs: the places, in the order in which they are started.
            settings: the keeper's.
            environ: the keeper's environment.
            clock: seconds that only go forward.
        """
        self._settings = settings
        self._clock = clock
        self._environ = children_environment(environ, settings)
        backoff = Backoff(
            first_s=settings.keeper_backoff_first_s,
            ceiling_s=settings.keeper_backoff_ceiling_s,
            stable_s=settings.keeper_stable_s,
            short_s=SHORT_S,
            loop_after=settings.keeper_loop_after,
            jitter=random.random,
        )
        self.places = {spec.name: Place(spec, backoff) for spec in specs}
        self.restarts = dict.fromkeys(self.places, 0)
        self._children: dict[int, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._succession = asyncio.Lock()
        self._stopping = False
        self.fell = asyncio.Event()
        """Set when a process ended without having been asked to."""

    async def fill(self, names: Iterable[str]) -> None:
        """Start a process in each of these places."""
        for name in names:
            await self._start(self.places[name])

    def unready(self, roster: Iterable[VesselCard], names: Iterable[str] | None = None) -> list[str]:
        """Return for each of these places (all, if not given) that is not ready its name and why."""
        cards = {card.pid: card for card in roster}
        found = []
        for name in self.places if names is None else names:
            place = self.places[name]
            card = cards.get(place.current) if place.current is not None else None
            if place.current is None:
                verb = "ends again and again" if place.is_looping else "is being started again"
                found.append(f"{name} {verb}" + (f" (it {place.last_end})" if place.last_end else ""))
            elif card is None or card.name != name:
                found.append(f"{name} (not yet on the bus)")
            elif not card.ready:
                found.append(f"{name} ({card.reason or 'not ready'})")
        return found

    def fallen(self, names: Iterable[str]) -> list[str]:
        """Return how those of these places failed that did."""
        return [f"{name} {self.places[name].last_end}" for name in names if self.places[name].last_end]

    async def spawn_successor(self, name: str, beside: int = 0) -> int:
        """Start a second process for a place, or find the one that was started; return its process id.

        Args:
            name: of the place.
            beside: process id of the one that is to be followed; 0 means whichever fills the place.

        Raises:
            PlaceError: there may be none, or it has failed.
        """
        place = self._place(name)
        async with self._succession:
            running = place.check_successor(beside)
            if running is not None:
                place.successor_since = self._clock()
                return running
            child = await self._spawn(place)
            place.successor_started(child.pid, self._clock())
        _log.info("%s: successor started, pid %d", name, child.pid)
        return child.pid

    async def abandon_successor(self, name: str) -> None:
        """End the successor of a place, if there is one; the place stays with whom it has.

        Raises:
            PlaceError: there is no such place.
        """
        place = self._place(name)
        async with self._succession:
            pid = place.abandon()
        child = self._children.get(pid) if pid is not None else None
        if child is not None:
            _log.info("%s: successor abandoned, pid %d", name, child.pid)
            await child.end(self._settings.keeper_grace_s, self._settings.keeper_kill_s)

    async def abandon_forgotten(self) -> None:
        """End the successors that nobody has asked about for long: who wanted them is gone."""
        before = self._clock() - self._settings.keeper_successor_timeout_s
        for name, place in self.places.items():
            if place.successor is not None and place.successor_since < before:
                _log.warning("%s: nobody has asked about its successor for long", name)
                await self.abandon_successor(name)

    async def stop(self) -> None:
        """End every process, those first that use the others. Bounded: grace and kill times a rank."""
        self._stopping = True
        for place in self.places.values():
            place.stop()
        for task in list(self._tasks):
            if task.get_name().startswith("refill-"):
                task.cancel()
        by_rank = sorted(self.places.values(), key=lambda place: place.spec.stop_rank)
        for _, places in groupby(by_rank, key=lambda place: place.spec.stop_rank):
            pids = [pid for place in places for pid in place.pids]
            await self._end([self._children[pid] for pid in pids if pid in self._children])
        await self._end(list(self._children.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        """Kill every process at once."""
        for child in self._children.values():
            child.kill()

    async def _end(self, children: Sequence[Child]) -> None:
        settings = self._settings
        await asyncio.gather(*(child.end(settings.keeper_grace_s, settings.keeper_kill_s) for child in children))

    async def _start(self, place: Place) -> None:
        child = await self._spawn(place)
        place.started(child.pid, self._clock())
        _log.info("%s: started, pid %d", place.spec.name, child.pid)

    async def _spawn(self, place: Place) -> Child:
        spec = place.spec
        child = await Child.start(
            spec.name,
            spec.argv,
            {**self._environ, **spec.environ, "BATOS_NAME": spec.name},
            self._log_path(spec.name),
            self._settings.keeper_log_bytes,
        )
        self._children[child.pid] = child
        if self._stopping:
            child.kill()
        self._task(f"watch-{spec.name}", self._watch(place, child))
        return child

    async def _watch(self, place: Place, child: Child) -> None:
        """Wait for a process to end and do what its place says."""
        code = await child.wait()
        del self._children[child.pid]
        name = place.spec.name
        words = child.last_words() if code != 0 else []
        verdict = place.exited(child.pid, code, self._clock(), _PREFIX.sub("", words[-1]) if words else "")
        _log.log(
            logging.INFO if code == 0 or self._stopping else logging.ERROR,
            "%s: pid %d ended with %s%s",
            name,
            child.pid,
            said_code(code),
            "".join(f"\n  | {line}" for line in words) if not self._stopping else "",
        )
        if isinstance(verdict, Restart):
            self.fell.set()
            self.restarts[name] += 1
            if place.is_looping:
                _log.error(
                    "%s ends again and again (%d times); next try in %.1f s; its words are in %s",
                    name,
                    place.failures,
                    verdict.after_s,
                    self._log_path(name),
                )
            self._task(f"refill-{name}", self._refill(place, verdict.after_s))
        elif isinstance(verdict, Succeeded):
            _log.info("%s: pid %s has taken the place", name, place.current)
        elif isinstance(verdict, SuccessorLost):
            _log.error("%s: its successor %s", name, place.successor_failure)

    async def _refill(self, place: Place, after_s: float) -> None:
        while True:
            await asyncio.sleep(after_s)
            if self._stopping or place.current is not None:
                return
            try:
                await self._start(place)
            except OSError as error:
                after_s = place.unstartable(str(error)).after_s
                _log.error("%s %s; next try in %.1f s", place.spec.name, place.last_end, after_s)
            else:
                return

    def _task(self, name: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s failed", task.get_name(), exc_info=task.exception())

    def _place(self, name: str) -> Place:
        place = self.places.get(name)
        if place is None:
            raise PlaceError("place_unknown", name, f"there is no place {name!r}; there are {', '.join(self.places)}")
        return place

    def _log_path(self, name: str) -> Path:
        return self._settings.home / "log" / f"{name}.log"


def children_environment(environ: Mapping[str, str], settings: KeeperSettings) -> dict[str, str]:
    """Return what every child's environment has: the keeper's without what is the keeper's own."""
    kept = {name: value for name, value in environ.items() if name not in OWN_NAMES}
    kept.setdefault("OMP_NUM_THREADS", str(settings.keeper_omp_threads))
    kept["BATOS_HOME"] = str(settings.home)
    kept["BATOS_METRICS_PORT"] = "0"
    kept["BATOS_PARENT_PID"] = str(os.getpid())
    return kept
