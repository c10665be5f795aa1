"""vLLM: the engine for machines with a GPU, as a server of its own behind a loopback address."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from batos.persona_inference import http, vllm_command
from batos.persona_inference.alternation import Alternation
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
from batos.persona_inference.errors import (
    AdapterNotLoaded,
    ContextExceeded,
    EngineFailed,
    EngineLost,
    InferenceError,
    WrongWeights,
)
from batos.persona_inference.keeping import Keeper
from batos.persona_inference.openai_api import OpenAIApi
from batos.persona_inference.tokens import count_and_cut, find_control_tokens, measure_overhead
from batos.persona_inference.turns import ControlTokens
from batos.persona_inference.vllm_command import BASE, LOOPBACK, VllmSettings
from batos.persona_inference.vllm_process import VllmProcess
from batos.vessel import free_ports

NAME = "vllm"
METRIC_PREFIX = "vllm:"
KEY_BYTES = 24
POLL_S = 0.25
"""Between two looks whether a starting server answers."""
NOTICE_S = 1.0
"""How long the end of the process may take to be noticed after its connections broke."""

_log = logging.getLogger(__name__)


class VllmEngine(Engine):
    """vLLM behind the engine's interface.

    Adapters are known to the server under their name and a number that no other load ever gets: vLLM caches by name.
    """

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._key = secrets.token_urlsafe(KEY_BYTES)
        self._process: VllmProcess | None = None
        self._api: OpenAIApi | None = None
        self._control = ControlTokens(())
        self._facts: EngineFacts | None = None
        self._served: dict[str, str] = {}
        self._folders: dict[str, Path] = {}
        self._in_flight: Counter[str] = Counter()
        self._idle = asyncio.Condition()
        self._loads = 0
        self._retiring: set[asyncio.Task[None]] = set()
        self._apart = Alternation() if settings.device == "cpu" else None
        self._turn = asyncio.Lock()
        self._keeper = Keeper(NAME, self._bring_up, self._alive, self._ended, settings.times)

    async def start(self, report: Report) -> None:
        """See `Engine.start`."""
        await self._keeper.start(report)

    async def stop(self) -> None:
        """See `Engine.stop`."""
        await self._keeper.stop()
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
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
        return tuple(sorted(self._served))

    @property
    def pid(self) -> int:
        """Process id of the server's guard; 0 while there is none."""
        return self._process.guard_pid if self._process is not None else 0

    async def infer(self, question: Question, on_text: OnText) -> Answer:
        """See `Engine.infer`."""
        api = self._current()
        served = BASE
        if question.adapter:
            if question.adapter not in self._served:
                raise AdapterNotLoaded(question.adapter)
            served = self._served[question.adapter]
        self._in_flight[served] += 1
        try:
            fitting = await self._fitted(api, question)
            choosing = self._settings.choosing
            extra = {
                "top_k": choosing.top_k,
                "min_p": choosing.min_p,
                "repetition_penalty": question.sampling.repeat_penalty,
            }
            async with self._together(served):
                chatted = await api.chat(served, fitting, self._control, extra, on_text)
        except EngineLost:
            await self._notice()
            raise
        finally:
            await self._left(served)
        if chatted.model != served:
            raise WrongWeights(question.adapter, chatted.model)
        return Answer(
            text=chatted.text,
            finish_reason=chatted.finish_reason,
            usage=chatted.usage,
            adapter="" if chatted.model == BASE else chatted.model.rpartition("@")[0],
        )

    async def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> TokenCounts:
        """See `Engine.tokenize`."""
        api = self._current()
        return await count_and_cut(texts, limits, self._control, api.encode, api.decode)

    async def load(self, adapter: str, folder: Path) -> None:
        """See `Engine.load`."""
        async with self._turn:
            if adapter not in self._served:
                await self._load(self._current(), adapter, folder)

    async def unload(self, adapter: str) -> None:
        """See `Engine.unload`. The server forgets it when what runs with it has ended."""
        async with self._turn:
            served = self._served.pop(adapter, None)
            if served is None:
                return
            self._folders.pop(adapter, None)
            task = asyncio.create_task(self._retire(self._current(), served), name=f"unload-{served}")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def metrics(self) -> Mapping[str, float]:
        """See `Engine.metrics`."""
        page = await http.text(self._current().client, "GET", "/metrics")
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(page):
            if family.name.startswith(METRIC_PREFIX) and family.type in {"gauge", "counter"}:
                for sample in family.samples:
                    if not sample.name.endswith("_created"):
                        name = sample.name.removeprefix(METRIC_PREFIX)
                        totals[name] = totals.get(name, 0.0) + sample.value
        return {**totals, "requests_running": totals.get("num_requests_running", 0.0)}

    def _together(self, served: str) -> AbstractAsyncContextManager[None]:
        """Be in the engine with whomever this question may share a batch."""
        return nullcontext() if self._apart is None else self._apart.inside(served == BASE)

    async def _fitted(self, api: OpenAIApi, question: Question) -> Question:
        """Return the question with no more tokens asked for than fit: vLLM refuses what might not."""
        sampling = question.sampling
        facts = self.facts
        turns = self._control.turns(question.messages)
        # No text has more tokens than bytes; most prompts need no counting.
        most = sum(len(turn["content"].encode()) + facts.overhead_per_message for turn in turns)
        if most + sampling.max_tokens <= facts.context_tokens:
            return question
        count = await api.render(turns)
        if count >= facts.context_tokens:
            raise ContextExceeded(count, facts.context_tokens)
        room = min(sampling.max_tokens, facts.context_tokens - count)
        return dataclasses.replace(question, sampling=msgspec.structs.replace(sampling, max_tokens=room))

    async def _load(self, api: OpenAIApi, adapter: str, folder: Path) -> None:
        self._loads += 1
        served = f"{adapter}@{self._loads}"
        await api.load_adapter(served, folder)
        self._served[adapter] = served
        self._folders[adapter] = folder

    async def _retire(self, api: OpenAIApi, served: str) -> None:
        """Unload an adapter when its last answer is out."""
        try:
            async with self._idle:
                await self._idle.wait_for(lambda: not self._in_flight[served])
            await api.unload_adapter(served)
        except InferenceError as error:
            _log.warning("vLLM did not unload %s: %s", served, error)

    async def _left(self, served: str) -> None:
        self._in_flight[served] -= 1
        async with self._idle:
            self._idle.notify_all()

    async def _bring_up(self, report: Report) -> None:
        """Start a server with the adapters that are to be loaded."""
        settings = self._settings
        report(EngineHealth(False, f"starting vLLM with {settings.model.name}"))
        async with self._turn:
            await self._let_go()
            (port,) = free_ports(1, host=LOOPBACK)
            process = VllmProcess(
                vllm_command.command(settings, port),
                vllm_command.environment(settings, self._key, vllm_command.processors()),
                lambda words: self._starting(report, words),
            )
            self._process = process
            await process.start()
            api = OpenAIApi(f"http://{LOOPBACK}:{port}", "/v1", key=self._key)
            self._api = api
            await self._answering(process, api)
            models = await api.models()
            self._control = await find_control_tokens(api.encode)
            self._facts = EngineFacts(
                engine=NAME,
                model=settings.model_name,
                model_hash=settings.model_hash,
                context_tokens=int(models[0]["max_model_len"]),
                slots=settings.slots,
                overhead_per_message=await measure_overhead(api.encode, api.render),
            )
            folders, self._served = dict(self._folders), {}
            for adapter, folder in folders.items():
                await self._load(api, adapter, folder)

    def _starting(self, report: Report, words: str) -> None:
        if not self.health.ready:
            report(EngineHealth(False, f"vLLM: {words}"))

    async def _answering(self, process: VllmProcess, api: OpenAIApi) -> None:
        """Wait until the server answers.

        Raises:
            EngineFailed: it ended before, or took too long.
        """
        ended = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                while not ended.done():
                    try:
                        await http.text(api.client, "GET", "/health")
                    except InferenceError:
                        await asyncio.wait({ended}, timeout=POLL_S)
                    else:
                        return
        except TimeoutError:
            limit = self._settings.start_timeout_s
            raise EngineFailed(
                f"vLLM did not answer within {limit:g} s of its start; its last words:\n{process.last_words}",
                "allow more with BATOS_INFERENCE_START_TIMEOUT_S",
            ) from None
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
        raise EngineFailed(f"vLLM ended while it started; its last words:\n{process.last_words}")

    async def _alive(self) -> None:
        """Fail unless the server answers."""
        if self._api is not None:
            await http.text(self._api.client, "GET", "/health")

    async def _ended(self) -> str:
        """Wait until the process ends; return how."""
        if self._process is None:
            return "it was never started"
        code = await self._process.wait()
        _log.warning("vLLM's last words:\n%s", self._process.last_words)
        return f"exit code {code}"

    async def _notice(self) -> None:
        """Give the keeper a moment to notice that the process has ended."""
        if self._process is not None and self._process.alive:
            await asyncio.wait({asyncio.ensure_future(self._process.wait())}, timeout=NOTICE_S)

    async def _let_go(self) -> None:
        api, self._api = self._api, None
        process, self._process = self._process, None
        if api is not None:
            await api.close()
        if process is not None:
            await process.stop()

    def _current(self) -> OpenAIApi:
        if self._api is None or not self.health.ready:
            raise EngineLost(f"the engine is not ready: {self.health.reason}")
        return self._api
