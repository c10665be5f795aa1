"""The vessel: an engine on the bus, with the adapters that the image binds."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import ClassVar

from batos.persona_inference.adapters import AdapterShelf, ImageAdapters
from batos.persona_inference.answering import Answering
from batos.persona_inference.choice import look, make_engine
from batos.persona_inference.desk import AdapterDesk
from batos.persona_inference.engine import Engine, EngineHealth
from batos.persona_inference.errors import InferenceError, Transient
from batos.persona_inference.figures import Figures
from batos.persona_inference.settings import InferenceSettings
from batos.persona_inference.slots import Slots
from batos.vessel import StartFailed, Vessel, VesselError

SERVICE = "inference"
ADAPTERS_FOLDER = "adapters"
IMAGE_PAUSE_S = 0.5
"""Between two tries to read the image's bindings; with jitter."""

_log = logging.getLogger(__name__)


class InferenceVessel(Vessel[InferenceSettings]):
    """Answers prompts."""

    kind: ClassVar[str] = "inference"
    distribution: ClassVar[str] = "batos-persona-inference"

    def __init__(self, settings: InferenceSettings) -> None:
        super().__init__(settings)
        self.figures = Figures(self.registry)
        self._engine: Engine | None = None
        self._desk: AdapterDesk | None = None
        self._source: ImageAdapters | None = None
        self._awaiting = "the engine"
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring the engine up and serve; become ready once the bound adapters are loaded."""
        settings = self.settings
        try:
            engine = await asyncio.to_thread(make_engine, settings, look(settings))
        except InferenceError as error:
            raise StartFailed(error.code, error.message, error.hint) from error
        self._engine = engine
        try:
            await engine.start(self._engine_said)
        except InferenceError as error:
            raise StartFailed(error.code, error.message, error.hint) from error
        facts = engine.facts
        _log.info(
            "engine %s, model %s (%s…), %d slots of %d tokens",
            facts.engine,
            facts.model,
            facts.model_hash[:16],
            facts.slots,
            facts.context_tokens,
        )
        self._source = ImageAdapters(settings.image_uri)
        self._desk = AdapterDesk(
            engine, self._source, AdapterShelf(settings.home / ADAPTERS_FOLDER), most=settings.inference_max_adapters
        )
        answering = Answering(
            engine,
            self._desk,
            Slots(facts.slots, settings.inference_queue, self.figures),
            self.figures,
            self.peer.publish,
            gather_s=settings.inference_delta_s,
        )
        self.peer.serve(
            (SERVICE, f"{SERVICE}/{self.name}"), answering.handlers(), facts.slots + settings.inference_queue
        )
        for name, work in (("bound-adapters", self._load_bound(self._desk)), ("engine-figures", self._measure(engine))):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Stop the engine and let go of the image."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._desk is not None:
            await self._desk.close()
        if self._engine is not None:
            await self._engine.stop()
        if self._source is not None:
            await self._source.close()

    def _engine_said(self, health: EngineHealth) -> None:
        """Take the engine's health over as this vessel's."""
        self.figures.engine_up.set(health.ready)
        if health.failed:
            self.fail(VesselError("engine_failed", health.reason, "its own words stand above"))
        elif not health.ready:
            if self.ready:
                self.figures.engine_losses.inc()
            self.set_ready(False, health.reason)
        else:
            self.set_ready(not self._awaiting, self._awaiting)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task of this vessel that fails must not fail unseen."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)
            self.fail(VesselError("internal", f"{task.get_name()} failed: {type(error).__name__}: {error}"))

    async def _measure(self, engine: Engine) -> None:
        """Take the engine's own figures over into this vessel's metrics, again and again."""
        while True:
            await asyncio.sleep(self.settings.inference_look_s)
            if engine.health.ready:
                try:
                    figures = await engine.metrics()
                except InferenceError as error:
                    _log.info("the engine did not give its figures: %s", error)
                else:
                    for name, value in figures.items():
                        self.figures.engine_own.labels(name).set(value)

    async def _load_bound(self, desk: AdapterDesk) -> None:
        """Load what the image binds; while the image is away, try again."""
        while True:
            try:
                await desk.ensure_bound()
            except Transient as error:
                self._awaiting = f"waiting for the image's adapters: {error.message}"
                self.set_ready(False, self._awaiting)
                await asyncio.sleep(IMAGE_PAUSE_S * (1 + random.random()))  # noqa: S311 - spreading, not secrecy
            else:
                break
        self._awaiting = ""
        if self._engine is not None:
            self.figures.adapters.set(len(self._engine.loaded))
            self._engine_said(self._engine.health)
