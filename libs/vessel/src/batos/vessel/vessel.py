"""What every process of the fleet is: started, ready or not and why, drained, stopped."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic

from prometheus_client import CollectorRegistry, Gauge, Info
from prometheus_client.process_collector import ProcessCollector
from typing_extensions import TypeVar

from batos.protocol import Peer, VesselCard, new_id
from batos.vessel.errors import VesselError
from batos.vessel.health import HealthState
from batos.vessel.peer_metrics import PeerCollector
from batos.vessel.settings import VesselSettings

S = TypeVar("S", bound=VesselSettings, default=VesselSettings)

DRAIN_POLL_S = 0.05


class Vessel(ABC, Generic[S]):
    """One incarnation of one plank. `run` drives it: `start`, then a life, then `drain` and `stop`."""

    kind: ClassVar[str]
    """Its sort, as cards and rosters show it."""
    uses_bus: ClassVar[bool] = True
    """Whether `run` gives it a peer. Only the bus itself has none."""
    distribution: ClassVar[str] = "batos-vessel"
    """The package whose version is this vessel's."""

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.name = settings.name or self.kind
        self.incarnation = new_id()
        self.registry = CollectorRegistry()
        self.started_at = time.time()
        self.version = importlib.metadata.version(self.distribution)
        self.metrics_url = ""
        self.draining = False
        self.ending = asyncio.Event()
        """Set once the vessel is to end: by a signal, a `Drain`, or a failure."""
        self.failure: VesselError | None = None
        self.drain_timeout_s = settings.drain_timeout_s
        self._peer: Peer | None = None
        self._announce: Callable[[], object] | None = None
        self._ready = False
        self._reason = "starting"
        self._notice = ""
        self._turned_at = time.monotonic()
        ProcessCollector(registry=self.registry)
        info = Info("batos_vessel", "Which vessel this is", registry=self.registry)
        info.info({"name": self.name, "kind": self.kind, "incarnation": self.incarnation, "version": self.version})
        self._ready_gauge = Gauge("batos_vessel_ready", "1 when the vessel can do its work", registry=self.registry)

    @property
    def peer(self) -> Peer:
        """This process on the bus; there from before `start`."""
        if self._peer is None:
            raise VesselError("no_peer", f"{self.name} has no peer: `run` attaches one before it calls start()")
        return self._peer

    def attach(self, peer: Peer, announce: Callable[[], object] | None = None) -> None:
        """Give the vessel its peer.

        Args:
            peer: this process on the bus.
            announce: called whenever the card has changed, from whichever thread changed it.
        """
        self._peer = peer
        self._announce = announce
        self.registry.register(PeerCollector(peer.stats))

    @abstractmethod
    async def start(self) -> None:
        """Acquire what the work needs and begin to serve; return when started.

        `set_ready(True)` may come later, from a task. Raise an error whose sentence says what to do where it fails.
        """

    async def drain(self, timeout_s: float) -> None:
        """Finish what runs. The bus sends nothing new by now.

        Args:
            timeout_s: seconds after which what still runs is to be released; `run` goes on to `stop` then in any case.
        """
        del timeout_s
        while self._peer is not None and self._peer.running:  # noqa: ASYNC110 - the peer has a count, no event
            await asyncio.sleep(DRAIN_POLL_S)

    async def stop(self) -> None:
        """Let go of everything. Also called when `start` failed half way. The default holds nothing."""

    def set_ready(self, ready: bool, reason: str = "") -> None:
        """Say whether the vessel can do its work.

        Args:
            ready: whether it can.
            reason: why it cannot, in words that tell what is awaited.
        """
        reason = "" if ready else reason
        if (ready, reason) == (self._ready, self._reason):
            return
        self._ready, self._reason = ready, reason
        self._changed()

    def set_notice(self, notice: str) -> None:
        """Say what is wrong although the vessel can do its work, in words; empty: nothing is."""
        if notice != self._notice:
            self._notice = notice
            self._changed()

    @property
    def ready(self) -> bool:
        """Whether it can do its work: not while it drains."""
        return self._ready and not self.draining

    @property
    def reason(self) -> str:
        """Why it is not ready."""
        return "draining" if self.draining else self._reason

    def card(self) -> VesselCard:
        """Return what this vessel says about itself now."""
        return VesselCard(
            name=self.name,
            kind=self.kind,
            incarnation=self.incarnation,
            pid=os.getpid(),
            version=self.version,
            started_at=self.started_at,
            metrics=self.metrics_url,
            ready=self.ready,
            reason=self.reason,
            draining=self.draining,
            notice=self._notice,
        )

    def begin_drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what runs within this many seconds, exit 0. From the event loop's thread."""
        if not self.ending.is_set():
            self.drain_timeout_s = timeout_s
            self.ending.set()

    def fail(self, error: VesselError) -> None:
        """End this vessel now, with exit code 1 and this error's sentence. From the event loop's thread."""
        if self.failure is None:
            self.failure = error
        self.drain_timeout_s = 0.0
        self.ending.set()

    def set_draining(self) -> None:
        """Say that nothing new is taken from now on."""
        self.draining = True
        self._changed()

    def _changed(self) -> None:
        self._ready_gauge.set(self.ready)
        if self._announce is not None:
            self._announce()

    def turned(self) -> None:
        """Note that the event loop turns."""
        self._turned_at = time.monotonic()

    def health(self) -> HealthState:
        """Return how the vessel is; called by the thread that serves the pages."""
        still = time.monotonic() - self._turned_at
        if still > self.settings.stall_s:
            return HealthState(alive=False, ready=False, reason=f"the event loop has not turned for {still:.0f} s")
        return HealthState(alive=True, ready=self.ready, reason=self.reason or self._notice)
