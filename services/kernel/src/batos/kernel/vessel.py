"""The kernel as a vessel: it awakens, thinks, drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

from ZODB.POSException import ConflictError

from batos.kernel import interface
from batos.kernel.awakening import opened_aside, probe
from batos.kernel.errors import KernelError
from batos.kernel.metacognition import Metacognition
from batos.kernel.metrics import KernelMetrics
from batos.kernel.redaction import Redactor, redaction_key
from batos.kernel.registration import Registration
from batos.kernel.running import Places
from batos.kernel.serving import Serving
from batos.kernel.settings import KernelSettings
from batos.mind import MindError
from batos.mind.compatibility import Kernel
from batos.protocol import EventType, ProtocolError
from batos.uvm import BadImageUri, BatOSUVM, CovenantBroken, Image, UvmError
from batos.vessel import StartFailed, Vessel, VesselError

SERVICE = "kernel"
LOG_FOLDER = "log"
REDACTION_KEY = "redaction.key"
LEAVE_TIMEOUT_S = 5.0
"""How long the end waits for the image to take this kernel off its list, in seconds."""

_log = logging.getLogger("batos.kernel")


class KernelVessel(Vessel[KernelSettings]):
    """Takes missions, runs cycles, answers about the image."""

    kind: ClassVar[str] = "kernel"
    distribution: ClassVar[str] = "batos-kernel"

    def __init__(self, settings: KernelSettings) -> None:
        super().__init__(settings)
        self.metrics = KernelMetrics(self.registry)
        self.plank = Kernel(self.name, self.incarnation, self.version, host=interface.HOST, image=interface.IMAGE)
        self._places = Places(settings.kernel_slots)
        self._idle = asyncio.Event()
        self._awakening: asyncio.Task[None] | None = None
        self._scheduling: asyncio.Task[None] | None = None
        self._uvm: BatOSUVM | None = None
        self._log: Metacognition | None = None
        self._registration: Registration | None = None
        self._serving: Serving | None = None
        self._log_fault = ""
        self._awake = False

    @property
    def log_folder(self) -> Path:
        """Where this kernel's segments of the metacognition log are."""
        return self.settings.home / LOG_FOLDER / self.name

    async def start(self) -> None:
        """Open the log and begin to awaken; readiness comes when that is done."""
        loop = asyncio.get_running_loop()
        try:
            self._log = await asyncio.to_thread(self._open_log, loop)
        except OSError as error:
            raise StartFailed(
                "log_unusable",
                f"the metacognition log in {self.log_folder} cannot be opened: {error}",
                "make that folder writable for this user",
            ) from error
        self.metrics.log_torn.inc(self._log.torn)
        self._log.record(EventType.VESSEL, detail={"what": "started", "version": self.version, "torn": self._log.torn})
        self._awakening = asyncio.create_task(self._awaken(self._log), name="awakening")
        self._awakening.add_done_callback(self._ended_task)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, send away who waits, finish the cycles that run."""
        del timeout_s
        self._places.set_open(False)
        await self._end_tasks()
        if self._log is not None:
            self._log.record(EventType.VESSEL, detail={"what": "draining", "running": self._places.taken})
        if self._serving is not None:
            self._serving.send_away()
        while self._places.taken:
            self._idle.clear()
            await self._idle.wait()
        await super().drain(0.0)

    async def stop(self) -> None:
        """Give back what still runs, and let go of everything."""
        self._places.set_open(False)
        await self._end_tasks()
        try:
            if self._serving is not None:
                self._serving.send_away()
                await self._serving.close()
            if self._registration is not None:
                await self._leave(self._registration)
        finally:
            if self._log is not None:
                self._log.record(EventType.VESSEL, detail={"what": "stopped"})
                await self._log.close()
            if self._uvm is not None:
                await asyncio.to_thread(self._uvm.close)

    # ------------------------------------------------------------------------------------------ awakening

    async def _awaken(self, log: Metacognition) -> None:
        """Try until the image is open, its covenants hold and the engine answers; then serve."""
        uvm = await self._opened()
        self._uvm = uvm
        loop = asyncio.get_running_loop()
        registration = self._registration = Registration(
            uvm.image, self.plank, lambda words: loop.call_soon_threadsafe(self.set_notice, words)
        )
        await self._until(lambda: asyncio.to_thread(registration.enter), "the image")
        serving = self._serving = self._served(uvm.image, registration, log)
        await self._until(lambda: probe(self.peer, self.settings.kernel_probe_timeout_s), "the engine")
        self._awake = True
        self._show_readiness()
        self._places.set_open(True)
        log.record(EventType.VESSEL, snapshot_tid=await asyncio.to_thread(uvm.image.last_tid), detail={"what": "awake"})
        self._scheduling = asyncio.create_task(serving.schedule(), name="scheduler")
        self._scheduling.add_done_callback(self._ended_task)

    async def _opened(self) -> BatOSUVM:
        """Return the image's vessel side once the storage answers."""
        found: list[BatOSUVM] = []

        async def open_it() -> None:
            found.append(await opened_aside(self.settings.image_uri))

        await self._until(open_it, "the image")
        return found[0]

    async def _until(self, step: Callable[[], Awaitable[object]], what: str) -> None:
        """Take a step of the awakening, again and again until it succeeds; meanwhile readiness says why not."""
        self.set_ready(False, f"waiting for {what}")
        while True:
            try:
                await step()
            except BadImageUri as error:
                raise StartFailed("image_address", str(error), "correct BATOS_IMAGE_URI") from error
            except (CovenantBroken, MindError) as error:
                reason = f"{error}"
            except (UvmError, ProtocolError, ConflictError) as error:
                reason = f"{what} does not answer: {error}"
            else:
                return
            if self.reason != reason:
                _log.warning("not ready: %s", reason)
            self.set_ready(False, reason)
            await asyncio.sleep(self.settings.kernel_probe_pause_s)

    def _open_log(self, loop: asyncio.AbstractEventLoop) -> Metacognition:
        def on_fault(fault: str) -> None:
            loop.call_soon_threadsafe(self._log_faulty, fault)

        return Metacognition(
            self.log_folder,
            kernel=self.name,
            incarnation=self.incarnation,
            redactor=Redactor(redaction_key(self.settings.key_ring().folder / REDACTION_KEY)),
            segment_bytes=self.settings.kernel_log_segment_bytes,
            on_record=lambda event_type: self.metrics.log_records.labels(event_type.value).inc(),
            on_fault=on_fault,
        )

    def _served(self, image: Image, registration: Registration, log: Metacognition) -> Serving:
        """Begin to answer, and say so on the bus. The bus sends shared work only once this is ready."""
        loop = asyncio.get_running_loop()
        serving = Serving(
            settings=self.settings,
            plank=self.plank,
            registration=registration,
            image=image,
            peer=self.peer,
            log=log,
            log_folder=self.log_folder,
            places=self._places,
            metrics=self.metrics,
            on_free=lambda: loop.call_soon_threadsafe(self._idle.set),
        )
        capacity = self.settings.kernel_requests
        self.peer.serve([SERVICE, f"{SERVICE}/{self.name}"], serving.handlers(), capacity=capacity)
        return serving

    # ------------------------------------------------------------------------------------------ readiness and the end

    def _log_faulty(self, fault: str) -> None:
        self._log_fault = fault
        self.metrics.log_faulty.set(bool(fault))
        if self._awake:
            self._show_readiness()

    def _show_readiness(self) -> None:
        self.set_ready(not self._log_fault, self._log_fault)

    async def _leave(self, registration: Registration) -> None:
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await asyncio.to_thread(registration.leave)
        except (UvmError, ConflictError, TimeoutError) as error:
            _log.warning("the image still lists this kernel, others will find that it is gone: %r", error)

    async def _end_tasks(self) -> None:
        tasks = [task for task in (self._awakening, self._scheduling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        """A task of this kernel never ends by itself but by a fault, which ends the kernel."""
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        _log.error("task %s of the kernel failed", task.get_name(), exc_info=error)
        known = error if isinstance(error, VesselError) else None
        if isinstance(error, MindError):
            known = VesselError(error.code, error.message, error.hint)
        code = error.code if isinstance(error, KernelError) else "kernel_failed"
        self.fail(
            known or VesselError(code, f"{task.get_name()} failed: {type(error).__name__}: {error}", "see its log")
        )
