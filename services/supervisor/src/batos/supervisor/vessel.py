"""The supervisor vessel: rolls the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import ClassVar

from prometheus_client import Counter, Gauge

from batos.protocol import Plank, RequestContext, RequestFailed, Roll, Rolled
from batos.supervisor.bus_fleet import BusFleet
from batos.supervisor.errors import RollError
from batos.supervisor.roll import RollLimits, RollOut
from batos.supervisor.settings import SupervisorSettings
from batos.vessel import Vessel

SERVED_AT_A_TIME = 8
"""More than one, so that a second roll is refused at once and not queued."""


class SupervisorVessel(Vessel[SupervisorSettings]):
    """Serves `supervisor`: one roll at a time."""

    kind: ClassVar[str] = "supervisor"
    distribution: ClassVar[str] = "batos-supervisor"

    def __init__(self, settings: SupervisorSettings) -> None:
        super().__init__(settings)
        self._rolling = ""
        self._task: asyncio.Task[tuple[Plank, ...]] | None = None
        self._rolls = Counter("batos_supervisor_rolls", "Rolls by how they ended", ["outcome"], registry=self.registry)
        self._planks = Counter("batos_supervisor_planks_replaced", "Planks replaced", registry=self.registry)
        self._busy = Gauge("batos_supervisor_rolling", "1 during a roll", registry=self.registry)

    async def start(self) -> None:
        """Begin to serve."""
        self.peer.serve(["supervisor"], {Roll: self._roll}, capacity=SERVED_AT_A_TIME)
        self.set_ready(True)

    async def drain(self, timeout_s: float) -> None:
        """See the roll through that is under way."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
        await super().drain(timeout_s)

    async def stop(self) -> None:
        """Leave a roll that is still under way; the keeper ends a successor that nobody asks about."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _roll(self, message: Roll, context: RequestContext) -> Rolled:
        if self._rolling:
            raise RequestFailed(
                "roll_busy", f"a roll of {self._rolling!r} is under way", "wait until it is done, then ask again"
            )
        limits = RollLimits(
            whole_s=message.timeout_s,
            drain_s=self.settings.supervisor_drain_timeout_s,
            poll_s=self.settings.supervisor_poll_s,
        )
        rolling = RollOut(BusFleet(self.peer, context.id), limits).run(message.target)
        self._rolling = message.target
        self._task = asyncio.create_task(self._see_through(rolling), name=f"roll-{context.id}")
        try:
            return Rolled(planks=await asyncio.shield(self._task))
        except RollError as error:
            raise RequestFailed(error.code, error.message, error.hint) from error

    async def _see_through(self, rolling: Coroutine[None, None, tuple[Plank, ...]]) -> tuple[Plank, ...]:
        """Finish a roll even where nobody waits for it any more: half a roll would leave two on one place."""
        outcome = "failed"
        try:
            with self._busy.track_inprogress():
                planks = await rolling
            outcome = "done"
        finally:
            self._rolling = ""
            self._rolls.labels(outcome).inc()
        self._planks.inc(len(planks))
        return planks
