"""What an awake kernel is at work with: everything that thinks and answers, built together and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ZODB.POSException import ConflictError

from batos.kernel.answering import Answering
from batos.kernel.engine import BusEngine
from batos.kernel.events import BusEvents
from batos.kernel.inspecting import Inspecting
from batos.kernel.intake import Intake
from batos.kernel.learning import Learning
from batos.kernel.metacognition import Metacognition
from batos.kernel.metrics import KernelMetrics
from batos.kernel.migrating import Migrating
from batos.kernel.missions import Owner
from batos.kernel.registration import Registration
from batos.kernel.running import Places, Runner
from batos.kernel.sandboxing import kernel_sandbox
from batos.kernel.scheduler import Scheduler
from batos.kernel.segments import SegmentFolder
from batos.kernel.settings import KernelSettings
from batos.kernel.watching import MissionWatch
from batos.mind.compatibility import Kernel
from batos.protocol import AdapterPromote, AdapterRollback, Handler, Message, OrderCreate, OrderGet, Peer
from batos.uvm import Image, UvmError

_log = logging.getLogger("batos.kernel")


class Serving:
    """The parts of an awake kernel.

    Args:
        settings: the kernel's.
        plank: this kernel, as it stands in the image.
        registration: keeps it there.
        image: the open image.
        peer: this process on the bus.
        log: the metacognition log.
        log_folder: where this kernel's segments of it are; those of the others are beside it.
        places: where cycles may run.
        metrics: counts.
        on_free: told by a cycle's thread that its place is free again.
    """

    def __init__(
        self,
        *,
        settings: KernelSettings,
        plank: Kernel,
        registration: Registration,
        image: Image,
        peer: Peer,
        log: Metacognition,
        log_folder: Path,
        places: Places,
        metrics: KernelMetrics,
        on_free: Callable[[], object],
    ) -> None:
        loop = asyncio.get_running_loop()
        owner = Owner(plank.name, plank.incarnation)
        events = BusEvents(peer, loop)
        self._on_free = on_free
        image.sandbox = self._sandbox = kernel_sandbox(settings, log, metrics)
        self._watch = MissionWatch(image, poll_s=settings.kernel_wait_poll_s, metrics=metrics)

        def engine_for(mission_id: str) -> BusEngine:
            return BusEngine(peer, loop, mission_id, short_timeout_s=settings.kernel_engine_timeout_s, metrics=metrics)

        self._runner = Runner(
            image=image,
            places=places,
            slots=settings.kernel_slots,
            engine_for=engine_for,
            log=log,
            events=events,
            metrics=metrics,
            prompt_timeout_s=settings.kernel_infer_timeout_s,
            on_end=self._watch.told,
            on_free=self._freed,
            tidy=self._tidy,
        )
        self._scheduler = Scheduler(
            image=image,
            owner=owner,
            places=places,
            runner=self._runner,
            registration=registration,
            peer=peer,
            log=log,
            logs=log_folder.parent,
            events=events,
            tidy=self._tidy,
            on_end=self._watch.told,
            metrics=metrics,
            poll_s=settings.kernel_poll_s,
            roster_s=settings.kernel_roster_s,
            adopt_after_s=settings.kernel_adopt_after_s,
            most_adoptions=settings.kernel_max_adoptions,
            genesis_after_s=settings.kernel_genesis_after_s,
        )
        self._intake = Intake(
            image=image,
            owner=owner,
            places=places,
            begin=self._runner.begin,
            on_waiting=self._scheduler.wake,
            metrics=metrics,
            batch=settings.kernel_batch,
        )
        self._answering = Answering(
            image=image,
            intake=self._intake,
            watch=self._watch,
            log=SegmentFolder(log_folder),
            kernel=plank.name,
            text_bytes=settings.kernel_text_bytes,
        )
        self._inspecting = Inspecting(image=image, kernel=plank)
        self._migrating = Migrating(image=image, owner=owner, events=events, log=log)
        self._learning = Learning(
            peer=peer,
            image=image,
            kernel=plank.name,
            load_timeout_s=settings.kernel_load_timeout_s,
            metrics=metrics,
        )

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return who answers what."""
        return {
            **self._answering.handlers(),
            **self._inspecting.handlers(),
            **self._migrating.handlers(),
            OrderCreate: self._learning.create_order,
            OrderGet: self._learning.get_order,
            AdapterPromote: self._learning.promote,
            AdapterRollback: self._learning.roll_back,
        }

    async def schedule(self) -> None:
        """Give places to missions that wait, and adopt those of kernels that are gone, until cancelled."""
        await self._scheduler.run()

    def send_away(self) -> None:
        """Let others answer who waits here, and go on with what takes long."""
        self._watch.leave()
        self._migrating.leave()

    async def close(self) -> None:
        """Give back what still runs, and end all threads and processes. Call `send_away` first."""
        for end in (
            self._give_back,
            self._runner.close,
            self._sandbox.close,
            self._intake.close,
            self._watch.close,
            self._migrating.close,
        ):
            try:
                await asyncio.to_thread(end)
            except Exception:  # noqa: BLE001 - whatever it is: the log has to be closed, and the image left
                _log.exception("%s did not end in order; the others are ended all the same", end.__qualname__)

    def _freed(self) -> None:
        self._on_free()
        self._scheduler.wake()

    def _tidy(self, mission_id: str) -> None:
        self._intake.tidy(mission_id)

    def _give_back(self) -> None:
        at_work = self._runner.at_work()
        if not at_work:
            return
        try:
            released = self._runner.give_back(at_work, "drain_expired")
            _log.warning("gave back %d of %d missions that still ran", released, len(at_work))
        except (UvmError, ConflictError) as error:
            _log.error("missions could not be given back, others will adopt them: %s", error)
