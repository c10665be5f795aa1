"""One place of a fleet as a state machine: who fills it, who follows, when it is filled again. No processes here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from batos.supervisor.errors import PlaceError


@dataclass(frozen=True, slots=True)
class PlaceSpec:
    """What fills a place.

    Attributes:
        name: the vessel's name, for example `kernel-1`.
        kind: its sort.
        argv: program and arguments.
        environ: what its environment has beyond the keeper's.
        two_at_once: whether a successor may run beside it (kernels); everything else is alone in its place.
        foundation: started first and awaited before the others start (image, bus).
        stop_rank: places of a lower rank are stopped first, those of one rank together.
    """

    name: str
    kind: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    two_at_once: bool = False
    foundation: bool = False
    stop_rank: int = 0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a place is filled again.

    Attributes:
        first_s: after the first failure.
        ceiling_s: never longer.
        stable_s: a process that lived this long wipes out the failures before it.
        short_s: a process that ended with exit code 0 within this time failed, too.
        loop_after: failures in a row from which on the place is said to be crash-looping.
        jitter: gives a number from 0 to 1; the wait is its share of the upper half.
    """

    first_s: float
    ceiling_s: float
    stable_s: float
    short_s: float
    loop_after: int
    jitter: Callable[[], float]

    def wait_s(self, failures: int) -> float:
        """Return the seconds to wait after this many failures in a row."""
        if failures <= 0:
            return 0.0
        full = min(self.ceiling_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return full * (0.5 + 0.5 * self.jitter())


@dataclass(frozen=True, slots=True)
class Restart:
    """The place is empty: fill it again after this long."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The successor fills the place now; nothing is to be started."""


@dataclass(frozen=True, slots=True)
class SuccessorLost:
    """The successor ended before it took the place; nothing is to be started."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process ended that was meant to; nothing is to be started."""


Verdict = Restart | Succeeded | SuccessorLost | Ended


class Place:
    """Knows the process ids that belong to it and judges their exits."""

    def __init__(self, spec: PlaceSpec, backoff: Backoff) -> None:
        self.spec = spec
        self._backoff = backoff
        self.current: int | None = None
        self.successor: int | None = None
        self.successor_since = 0.0
        self.successor_failure = ""
        """Why the last successor ended by itself; kept until abandoned, so that whoever asked for it learns it."""
        self.failures = 0
        self.last_end = ""
        """How the last process ended that failed."""
        self.stopping = False
        self._started_at: dict[int, float] = {}

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of this place that run."""
        return tuple(pid for pid in (self.current, self.successor) if pid is not None)

    @property
    def is_looping(self) -> bool:
        """Whether its process has ended again and again."""
        return self.failures >= self._backoff.loop_after

    def started(self, pid: int, now: float) -> None:
        """A process was started to fill the place."""
        self.current = pid
        self._started_at[pid] = now

    def check_successor(self, beside: int = 0) -> int | None:
        """Return the process id of the successor that runs or has taken the place; None where one may be started.

        Args:
            beside: process id of the one that is to be followed; 0 means whichever fills the place.

        Raises:
            PlaceError: none may: the place is for one only, is empty, is given up, or the successor has failed.
        """
        name = self.spec.name
        if not self.spec.two_at_once:
            raise PlaceError(
                "place_single", name, f"{name} is alone in its place", "drain it; it is started again by itself"
            )
        if self.successor_failure:
            raise PlaceError("successor_failed", name, f"the successor of {name} {self.successor_failure}")
        if self.stopping:
            raise PlaceError("fleet_stopping", name, f"the fleet is being stopped: nobody follows {name}")
        if self.successor is None and self.current is None:
            raise PlaceError("place_empty", name, f"{name} is not running at the moment: {self.last_end}", "try again")
        if beside and self.successor is None and self.current not in {None, beside}:
            return self.current
        return self.successor

    def successor_started(self, pid: int, now: float) -> None:
        """A process was started to follow the one that fills the place."""
        self.successor = pid
        self.successor_since = now
        self._started_at[pid] = now

    def abandon(self) -> int | None:
        """Give up the successor: forget how it failed, return its process id if it runs (it is to be ended)."""
        self.successor_failure = ""
        pid, self.successor = self.successor, None
        return pid

    def stop(self) -> None:
        """From now on nothing is started again."""
        self.stopping = True

    def unstartable(self, reason: str) -> Restart:
        """No process could be started at all: try again after a while."""
        self.failures += 1
        self.last_end = f"could not be started: {reason}"
        return Restart(self._backoff.wait_s(self.failures))

    def exited(self, pid: int, code: int, now: float, last_words: str = "") -> Verdict:
        """A process of this place ended.

        Args:
            pid: which one.
            code: its exit code, negative for a signal.
            now: seconds of the same clock as in `started`.
            last_words: the last line that it said.
        """
        lived_s = now - self._started_at.pop(pid, now)
        words = f"ended with {said_code(code)} after {lived_s:.1f} s" + (f": {last_words}" if last_words else "")
        if pid == self.successor:
            self.successor = None
            if not self.stopping:
                self.successor_failure = words
                return SuccessorLost()
            return Ended()
        if pid != self.current:
            return Ended()
        self.current = None
        if self.stopping:
            return Ended()
        if self.successor is not None:
            self.current, self.successor = self.successor, None
            self.failures = 0
            return Succeeded()
        if lived_s >= self._backoff.stable_s:
            self.failures = 0
        if code != 0 or lived_s < self._backoff.short_s:
            self.failures += 1
            self.last_end = words
        return Restart(self._backoff.wait_s(self.failures))


def said_code(code: int) -> str:
    """Return an exit code in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
