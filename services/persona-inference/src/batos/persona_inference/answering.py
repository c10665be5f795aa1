"""Turns requests of the bus into questions to the engine, and its answers into replies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from batos.persona_inference import schema
from batos.persona_inference.deltas import DeltaFeed, Publish
from batos.persona_inference.desk import AdapterDesk
from batos.persona_inference.engine import Answer, Engine, Question
from batos.persona_inference.errors import AdapterNotLoaded, EngineFailed, InferenceError, RequestInvalid, Transient
from batos.persona_inference.figures import BASE, Figures
from batos.persona_inference.slots import Slots
from batos.protocol import (
    AdapterLoad,
    AdaptersLoaded,
    AdapterUnload,
    EngineDescribe,
    EngineDescription,
    Infer,
    Inferred,
    Message,
    RequestContext,
    RequestFailed,
    Sampling,
    Tokenize,
    Tokenized,
)

DEADLINE_MARGIN_S = 0.05
"""How long before its deadline a request is given up here, so that the reply can say what it waited for."""
LOAD_TRIES = 3
"""How often an adapter is loaded for one question: another question may have made room of it meanwhile."""
MAX_TEMPERATURE = 10.0
MAX_TEXTS = 10_000
"""Texts of one Tokenize."""
OTHER = "other"
"""Label of adapters that are not loaded: names from outside must not make metrics grow."""


class Stage:
    """What a request is waiting for, in words."""

    def __init__(self) -> None:
        self.now = "it was looked at"


class Answering:
    """The handlers of the vessel."""

    def __init__(
        self, engine: Engine, desk: AdapterDesk, slots: Slots, figures: Figures, publish: Publish, *, gather_s: float
    ) -> None:
        """Begin.

        Args:
            engine: started.
            desk: loads its adapters.
            slots: as many as the engine has.
            figures: what is counted.
            publish: takes events.
            gather_s: how long streamed text is gathered into one event, in seconds.
        """
        self._engine = engine
        self._desk = desk
        self._slots = slots
        self._figures = figures
        self._publish = publish
        self._gather_s = gather_s

    def handlers(self) -> dict[type[Message], Callable[[Any, RequestContext], Any]]:
        """Return the handlers by message type."""
        return {
            Infer: self.infer,
            EngineDescribe: self.describe,
            Tokenize: self.tokenize,
            AdapterLoad: self.load,
            AdapterUnload: self.unload,
        }

    async def infer(self, message: Infer, context: RequestContext) -> Inferred:
        """Answer a prompt."""
        began = time.monotonic()
        engine = self._engine.facts.engine
        outcome = "cancelled"
        try:
            async with answered_in_time(context, "Infer") as stage:
                question = asked(message)
                answer = await self._decoded(question, message, stage)
                outcome = answer.finish_reason
        except RequestFailed as error:
            outcome = error.code
            raise
        finally:
            if message.probe:
                self._figures.probes.labels(engine, outcome).inc()
            elif outcome not in {"stop", "length"}:
                known = message.adapter in self._engine.loaded
                label = (message.adapter if known else OTHER) if message.adapter else BASE
                self._figures.requests.labels(engine, outcome, label).inc()
        duration_s = time.monotonic() - began
        if not message.probe:
            self._figures.answered(engine, outcome, answer.adapter, answer.usage, duration_s)
        facts = self._engine.facts
        return Inferred(
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            engine=facts.engine,
            model=facts.model,
            model_hash=facts.model_hash,
            adapter=answer.adapter,
            duration_ms=round(duration_s * 1000),
        )

    async def describe(self, message: EngineDescribe, context: RequestContext) -> EngineDescription:
        """Say what the engine is."""
        del message, context
        facts = self._engine.facts
        return EngineDescription(
            engine=facts.engine,
            model=facts.model,
            model_hash=facts.model_hash,
            context_tokens=facts.context_tokens,
            slots=facts.slots,
            adapters=self._engine.loaded,
        )

    async def tokenize(self, message: Tokenize, context: RequestContext) -> Tokenized:
        """Count and cut texts."""
        async with answered_in_time(context, "Tokenize") as stage:
            if len(message.texts) > MAX_TEXTS:
                raise RequestInvalid(
                    "request_invalid", f"{len(message.texts)} texts at once", f"send at most {MAX_TEXTS}"
                )
            if message.limits and len(message.limits) != len(message.texts):
                raise RequestInvalid(
                    "request_invalid",
                    f"{len(message.limits)} limits for {len(message.texts)} texts",
                    "give one limit a text, or none",
                )
            if any(limit < 0 for limit in message.limits):
                raise RequestInvalid("request_invalid", "a limit is negative", "limits are tokens, 0 or more")
            stage.now = f"{len(message.texts)} texts were counted"
            counted = await self._engine.tokenize(message.texts, message.limits)
        return Tokenized(
            counts=counted.counts, cut=counted.cut, overhead_per_message=self._engine.facts.overhead_per_message
        )

    async def load(self, message: AdapterLoad, context: RequestContext) -> AdaptersLoaded:
        """Load an adapter."""
        async with answered_in_time(context, "AdapterLoad") as stage:
            stage.now = f"adapter {message.adapter} was loaded"
            await self._desk.ensure(message.adapter)
        return self._loaded()

    async def unload(self, message: AdapterUnload, context: RequestContext) -> AdaptersLoaded:
        """Unload an adapter."""
        async with answered_in_time(context, "AdapterUnload") as stage:
            stage.now = f"adapter {message.adapter} was unloaded"
            await self._desk.unload(message.adapter)
        return self._loaded()

    def _loaded(self) -> AdaptersLoaded:
        self._figures.adapters.set(len(self._engine.loaded))
        return AdaptersLoaded(adapters=self._engine.loaded)

    async def _decoded(self, question: Question, message: Infer, stage: Stage) -> Answer:
        """Load what the question needs, wait for a slot, decode."""
        for attempt in range(1, LOAD_TRIES + 1):
            if question.adapter:
                stage.now = f"adapter {question.adapter} was loaded"
                await self._desk.ensure(question.adapter)
                self._figures.adapters.set(len(self._engine.loaded))
            stage.now = f"it waited for a free slot, {self._slots.waiting} others too"
            async with self._slots.taken():
                try:
                    return await self._stream(question, message, stage)
                except AdapterNotLoaded:
                    if attempt == LOAD_TRIES:
                        raise
        raise AssertionError("the last try returns or raises")

    async def _stream(self, question: Question, message: Infer, stage: Stage) -> Answer:
        feed = None if message.probe else DeltaFeed(self._publish, message.label, self._gather_s)
        began = time.monotonic()
        pieces = 0

        def took(text: str) -> None:
            nonlocal pieces
            pieces += 1
            stage.now = f"it was decoded, {pieces} pieces so far"
            if pieces == 1:
                self._figures.first_text.labels(self._engine.facts.engine).observe(time.monotonic() - began)
            if feed is not None:
                feed.add(text)

        stage.now = "its prompt was read"
        try:
            answer = await self._engine.infer(question, took)
        finally:
            if feed is not None:
                feed.flush()
        if answer.adapter != question.adapter:
            raise EngineFailed(f"asked for {question.adapter!r}, answered by {answer.adapter!r}")
        if question.schema is not None and answer.finish_reason == "stop":
            check_json(answer.text)
        return answer


@asynccontextmanager
async def answered_in_time(context: RequestContext, what: str) -> AsyncIterator[Stage]:
    """Bound some work by its request's deadline and turn this package's errors into replies.

    Raises:
        RequestFailed: whatever went wrong; past the deadline, with what it was waited for.
    """
    stage = Stage()
    try:
        async with asyncio.timeout(max(0.0, context.deadline_s - DEADLINE_MARGIN_S)) as limit:
            yield stage
    except InferenceError as error:
        transient = isinstance(error, Transient)
        raise RequestFailed(error.code, error.message, error.hint, transient=transient) from error
    except TimeoutError:
        if not limit.expired():
            raise
        raise RequestFailed(
            "deadline_passed", f"the deadline of {what} passed while {stage.now}", "allow more time, or ask for less"
        ) from None


def asked(message: Infer) -> Question:
    """Return the question that a request means.

    Raises:
        RequestInvalid: it has no messages, or figures out of their bounds, or a schema that would not end.
    """
    if not message.messages:
        raise RequestInvalid("request_invalid", "the prompt has no messages", "send at least one")
    if not any(turn.content.strip() for turn in message.messages):
        raise RequestInvalid("request_invalid", "every message of the prompt is empty", "say what is asked")
    check_sampling(message.sampling)
    return Question(
        messages=message.messages,
        sampling=message.sampling,
        adapter=message.adapter,
        schema=None if message.schema is None else schema.bounded(message.schema),
    )


def check_sampling(sampling: Sampling) -> None:
    """Check that every figure is within its bounds.

    Raises:
        RequestInvalid: one is not; the message names it.
    """
    bounds = (
        ("temperature", 0 <= sampling.temperature <= MAX_TEMPERATURE, f"from 0 to {MAX_TEMPERATURE:g}"),
        ("max_tokens", sampling.max_tokens >= 1, "at least 1"),
        ("top_p", 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("repeat_penalty", 0 < sampling.repeat_penalty <= MAX_TEMPERATURE, f"above 0 and at most {MAX_TEMPERATURE:g}"),
        ("seed", sampling.seed is None or 0 <= sampling.seed < 2**32, "from 0 to 4294967295"),
    )
    for name, good, wanted in bounds:
        if not good:
            raise RequestInvalid("request_invalid", f"{name} is {getattr(sampling, name)}", f"it must be {wanted}")


def check_json(text: str) -> None:
    """Check that a structured answer is JSON: an engine that ignores a schema says so nowhere.

    Raises:
        EngineFailed: it is not.
    """
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise EngineFailed(f"the engine did not keep to the schema: {error}") from error
