"""Any OpenAI-compatible API as an engine; with adapters where it offers vLLM's endpoints and shares the disk."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from batos.persona_inference.engine import (
    Answer,
    Engine,
    EngineFacts,
    EngineHealth,
    OnText,
    Question,
    Report,
    TokenCounts,
)
from batos.persona_inference.errors import AdapterNotLoaded, EngineFailed, EngineLost, InferenceError, WrongWeights
from batos.persona_inference.keeping import Keeper, KeepingTimes
from batos.persona_inference.openai_api import OpenAIApi
from batos.persona_inference.tokens import count_and_cut, find_control_tokens, measure_overhead
from batos.persona_inference.turns import ControlTokens

NAME = "openai"
ESTIMATED_OVERHEAD = 8
"""Tokens that a template adds to a message, where the API cannot count; known ones add 3 to 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAISettings:
    """Which API.

    Attributes:
        url: with its path, for example `http://host:8000/v1`.
        key: bearer token; empty for none.
        model_name: at the server; empty takes the first that it offers.
        model_hash: stands for its weights, which nobody here can see.
        slots: requests made at a time.
        context_tokens: of one request, where the server does not say.
        bytes_per_token: to estimate counts, where the server cannot count.
        times: how often it is looked after.
    """

    url: str
    key: str
    model_name: str
    model_hash: str
    slots: int
    context_tokens: int
    bytes_per_token: float
    times: KeepingTimes


class OpenAIEngine(Engine):
    """A remote API behind the engine's interface."""

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._model = settings.model_name
        self._api: OpenAIApi | None = None
        self._counts = False
        self._control = ControlTokens(())
        self._facts: EngineFacts | None = None
        self._adapters: set[str] = set()
        self._keeper = Keeper(NAME, self._bring_up, self._alive, self._ended, settings.times)

    async def start(self, report: Report) -> None:
        """See `Engine.start`."""
        await self._keeper.start(report)

    async def stop(self) -> None:
        """See `Engine.stop`."""
        await self._keeper.stop()
        await self._let_go()

    @property
    def facts(self) -> EngineFacts:
        """See `Engine.facts`."""
        if self._facts is None:
            raise EngineLost("the engine has not started yet")
        return self._facts

    @property
    def health(self) -> EngineHealth:
        """See `Engine.health`."""
        return self._keeper.health

    @property
    def loaded(self) -> tuple[str, ...]:
        """See `Engine.loaded`."""
        return tuple(sorted(self._adapters))

    async def infer(self, question: Question, on_text: OnText) -> Answer:
        """See `Engine.infer`."""
        if question.adapter and question.adapter not in self._adapters:
            raise AdapterNotLoaded(question.adapter)
        asked = question.adapter or self._model
        chatted = await self._current().chat(asked, question, self._control, {}, on_text)
        # Many an API answers with a dated name of the model; an adapter's name must come back as it is.
        if question.adapter and chatted.model != asked:
            raise WrongWeights(question.adapter, chatted.model)
        return Answer(
            text=chatted.text,
            finish_reason=chatted.finish_reason,
            usage=chatted.usage,
            adapter=chatted.model if question.adapter else "",
        )

    async def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> TokenCounts:
        """See `Engine.tokenize`; estimated where the API cannot count."""
        api = self._current()
        if self._counts:
            return await count_and_cut(texts, limits, self._control, api.encode, api.decode)
        per_token = self._settings.bytes_per_token
        counts = tuple(math.ceil(len(text.encode()) / per_token) for text in texts)
        cut = tuple(
            text.encode()[: int(limit * per_token)].decode(errors="ignore")
            for text, limit in zip(texts, limits, strict=bool(limits))
        )
        return TokenCounts(counts, cut)

    async def load(self, adapter: str, folder: Path) -> None:
        """See `Engine.load`."""
        if adapter not in self._adapters:
            await self._current().load_adapter(adapter, folder)
            self._adapters.add(adapter)

    async def unload(self, adapter: str) -> None:
        """See `Engine.unload`."""
        if adapter in self._adapters:
            self._adapters.discard(adapter)
            await self._current().unload_adapter(adapter)

    async def metrics(self) -> Mapping[str, float]:
        """See `Engine.metrics`."""
        return {}

    async def _bring_up(self, report: Report) -> None:
        settings = self._settings
        report(EngineHealth(False, f"asking {settings.url} for its models"))
        await self._let_go()
        address = urlsplit(settings.url)
        api = OpenAIApi(f"{address.scheme}://{address.netloc}", address.path, key=settings.key, keep_alive=True)
        self._api = api
        models = {str(model["id"]): model for model in await api.models()}
        self._model = settings.model_name or next(iter(models), "")
        if self._model not in models:
            raise EngineFailed(
                f"{settings.url} offers no model {self._model!r}, but {', '.join(sorted(models)) or 'none'}",
                "set BATOS_INFERENCE_MODEL_NAME",
            )
        overhead = ESTIMATED_OVERHEAD
        try:
            self._control = await find_control_tokens(api.encode)
            overhead = await measure_overhead(api.encode, api.render)
            self._counts = True
        except (InferenceError, KeyError, TypeError):
            self._counts = False
        self._adapters &= models.keys()
        self._facts = EngineFacts(
            engine=NAME,
            model=self._model,
            model_hash=settings.model_hash,
            context_tokens=int(models[self._model].get("max_model_len") or settings.context_tokens),
            slots=settings.slots,
            overhead_per_message=overhead,
        )

    async def _alive(self) -> None:
        if self._api is not None:
            await self._api.models()

    async def _ended(self) -> str:
        """Wait for ever: a server elsewhere ends only for whoever looks."""
        await asyncio.Event().wait()
        return ""

    async def _let_go(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    def _current(self) -> OpenAIApi:
        if self._api is None or not self.health.ready:
            raise EngineLost(f"the API is not ready: {self.health.reason}")
        return self._api
