"""The keeper: the parent of every process of a fleet on one machine.

    python -m batos.supervisor.keeper

It takes no arguments; everything is a setting (`BATOS_…`, `batos.toml`): `BATOS_HOME`, `BATOS_KEEPER_KERNELS`,
`BATOS_BUS_WORK` and its siblings for fixed addresses, `BATOS_INFERENCE_ENV_PYTHON`, and those of `KeeperSettings`.
Its children inherit its environment and working directory: their settings are given to them by giving them to it.

What it does: takes the lock of the home, chooses addresses, makes keys, writes `fleet.json`, starts image and bus,
waits until they are ready, starts all others, starts again whatever ends. Its own log goes to its stderr, each child's
stdout and stderr to `log/<vessel>.log` in the home.

Watching it: it is a vessel of kind `keeper`. Its card in the bus's roster (and its /readyz) says ready once every place
of the fleet is, else which ones are awaited and why, crash loops among them. `batos.vessel.keeper_pid(home)` tells
whether a keeper runs, `FleetFile.load(home)` where its bus is. A bus that answers does not mean that all is ready.

Stopping it: SIGTERM or SIGINT (or `Drain` by the control channel) ends every child, those first that use the others,
each with SIGTERM, then a second SIGTERM, then SIGKILL; it exits 0. A third signal ends the keeper at once. However the
keeper ends, the system then kills what is left of its children.

Exit codes: 0 stopped in order; 1 it could not start (one line on stderr says why: an address is occupied, the image is
damaged, …) or failed; 2 bad settings; 4 a keeper already runs in this home.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import ClassVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batos.protocol import (
    AbandonSuccessor,
    ProtocolError,
    RequestContext,
    RequestFailed,
    Roster,
    RosterGet,
    SpawnSuccessor,
    SuccessorAbandoned,
    SuccessorSpawned,
    VesselCard,
)
from batos.supervisor.errors import PlaceError, SupervisorError
from batos.supervisor.keeping import Keeping
from batos.supervisor.place import PlaceSpec
from batos.supervisor.places import local_places
from batos.supervisor.prepare import BUS_NAME, prepare
from batos.supervisor.settings import KeeperSettings
from batos.vessel import (
    EXIT_FAILED,
    EXIT_SETTINGS,
    FleetLock,
    FleetRunning,
    SettingsError,
    StartFailed,
    Vessel,
    VesselError,
    load_settings,
    run,
)

EXIT_RUNNING = 4
ROSTER_TIMEOUT_S = 2.0
SERVED_AT_A_TIME = 8
TRANSIENT_CODES = frozenset({"place_empty"})

_log = logging.getLogger("batos.supervisor.keeper")


class KeeperVessel(Vessel[KeeperSettings]):
    """Owns the processes. A fleet of other places is a subclass with another `places`."""

    kind: ClassVar[str] = "keeper"
    distribution: ClassVar[str] = "batos-supervisor"

    def __init__(self, settings: KeeperSettings) -> None:
        super().__init__(settings)
        self._keeping = Keeping(self.places(settings), settings)
        self._watch: asyncio.Task[None] | None = None
        self.registry.register(_KeeperCollector(self._keeping))

    @classmethod
    def places(cls, settings: KeeperSettings) -> list[PlaceSpec]:
        """Return the places of the fleet, in the order in which they are started."""
        return local_places(settings)

    async def start(self) -> None:
        """Start image and bus, wait for them, start the others."""
        self.peer.serve(
            ["keeper", f"keeper/{self.name}"],
            {SpawnSuccessor: self._spawn_successor, AbandonSuccessor: self._abandon_successor},
            capacity=SERVED_AT_A_TIME,
        )
        places = self._keeping.places.values()
        foundation = [place.spec.name for place in places if place.spec.foundation]
        self.set_ready(False, "starting " + ", ".join(foundation))
        await self._keeping.fill(foundation)
        await self._await_foundation(foundation)
        await self._keeping.fill(place.spec.name for place in places if not place.spec.foundation)
        self._watch = asyncio.create_task(self._watch_fleet(), name="watch-fleet")

    async def drain(self, timeout_s: float) -> None:
        """Nothing of its own runs; its children are ended by `stop`."""
        del timeout_s

    async def stop(self) -> None:
        """End every child."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self._keeping.stop()
        _log.info("every process of the fleet has ended")

    async def _await_foundation(self, names: list[str]) -> None:
        """Return once these places are ready.

        Raises:
            StartFailed: one of their processes ended, or it takes too long.
        """
        timeout_s = self.settings.keeper_foundation_timeout_s
        awaited: list[str] = names
        try:
            async with asyncio.timeout(timeout_s):
                while awaited:
                    roster = await self._roster_unless_one_fell()
                    fallen = self._keeping.fallen(names)
                    if fallen:
                        raise StartFailed("foundation_fell", "; ".join(fallen))
                    awaited = self._keeping.unready(roster, names)
                    self.set_ready(False, "waiting for " + ", ".join(awaited or names))
                    if awaited:
                        await self._pause()
        except TimeoutError:
            raise StartFailed(
                "foundation_slow",
                f"waited {timeout_s:g} s for {', '.join(awaited)}",
                "see log/*.log in the home; BATOS_KEEPER_FOUNDATION_TIMEOUT_S gives it more time",
            ) from None

    async def _pause(self) -> None:
        """Wait for the next look at the roster, or until a process ends by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._keeping.fell.wait(), self.settings.keeper_poll_s)

    async def _roster_unless_one_fell(self) -> tuple[VesselCard, ...]:
        """Return who is there, or nobody as soon as a process ends by itself."""
        roster = asyncio.create_task(self._roster())
        fell = asyncio.create_task(self._keeping.fell.wait())
        try:
            await asyncio.wait({roster, fell}, return_when=asyncio.FIRST_COMPLETED)
            return roster.result() if roster.done() else ()
        finally:
            roster.cancel()
            fell.cancel()
            await asyncio.gather(roster, fell, return_exceptions=True)

    async def _roster(self) -> tuple[VesselCard, ...]:
        """Return who the bus says is there; nobody while it is away."""
        try:
            roster = await self.peer.request(BUS_NAME, RosterGet(), Roster, timeout_s=ROSTER_TIMEOUT_S)
        except ProtocolError as error:
            _log.debug("no roster: %s", error)
            return ()
        return roster.vessels

    async def _watch_fleet(self) -> None:
        """Say ready when every place is, else what is awaited."""
        while True:
            unready = self._keeping.unready(await self._roster())
            reason = "waiting for " + ", ".join(unready)
            if unready and self.ready:
                _log.warning(reason)
            elif not unready and not self.ready:
                _log.info("every vessel of the fleet is ready")
            self.set_ready(not unready, reason)
            await self._keeping.abandon_forgotten()
            await self._pause()
            self._keeping.fell.clear()

    async def _spawn_successor(self, message: SpawnSuccessor, context: RequestContext) -> SuccessorSpawned:
        """Start a successor, or say that it runs or how it ended: asking again is how its fate is learnt."""
        del context
        try:
            pid = await self._keeping.spawn_successor(message.name, message.beside)
        except PlaceError as error:
            raise _refusal(error) from error
        return SuccessorSpawned(name=message.name, pid=pid)

    async def _abandon_successor(self, message: AbandonSuccessor, context: RequestContext) -> SuccessorAbandoned:
        del context
        try:
            await self._keeping.abandon_successor(message.name)
        except PlaceError as error:
            raise _refusal(error) from error
        return SuccessorAbandoned(name=message.name)


def _refusal(error: PlaceError) -> RequestFailed:
    return RequestFailed(error.code, error.message, error.hint, transient=error.code in TRANSIENT_CODES)


class _KeeperCollector(Collector):
    """Processes and restarts of every place."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as of now."""
        running = GaugeMetricFamily("batos_keeper_place_processes", "Processes of a place", labels=["place"])
        restarts = CounterMetricFamily(
            "batos_keeper_restarts", "Starts after an end nobody asked for", labels=["place"]
        )
        looping = GaugeMetricFamily("batos_keeper_place_looping", "1 where it ends again and again", labels=["place"])
        for name, place in list(self._keeping.places.items()):
            running.add_metric([name], len(place.pids))
            restarts.add_metric([name], self._keeping.restarts[name])
            looping.add_metric([name], place.is_looping)
        yield from (running, restarts, looping)


def main(vessel_class: type[KeeperVessel] = KeeperVessel) -> int:
    """Keep the fleet of a home until told to stop; return the exit code."""
    try:
        _refuse_arguments(sys.argv[1:])
        settings = load_settings(KeeperSettings)
        settings = settings.model_copy(update={"name": settings.name or vessel_class.kind})
        with FleetLock(settings.home):
            return run(vessel_class, prepare(settings, vessel_class.places(settings)))
    except FleetRunning as error:
        return _said(error, EXIT_RUNNING)
    except SettingsError as error:
        return _said(error, EXIT_SETTINGS)
    except (SupervisorError, VesselError, ProtocolError, OSError) as error:
        return _said(error, EXIT_FAILED)


def _refuse_arguments(arguments: list[str]) -> None:
    if arguments:
        raise SettingsError("arguments", f"unknown arguments {arguments}", "the keeper is told by settings only")


def _said(error: Exception, code: int) -> int:
    sys.stderr.write(f"batos keeper: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
