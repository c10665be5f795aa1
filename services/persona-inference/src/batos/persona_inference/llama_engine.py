"""The embedded engine: llama.cpp in a child process, for machines without a GPU.

llama.cpp takes its adapters when a server is built. So a change of the set builds a second server beside the first one;
new questions go to the new one, and the old one is dropped when its last answer is out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from batos.persona_inference import http
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
from batos.persona_inference.errors import AdapterRefused, EngineFailed, EngineLost
from batos.persona_inference.keeping import Keeper, KeepingTimes
from batos.persona_inference.llama_process import LlamaProcess
from batos.persona_inference.llama_server import Choosing, LlamaServer
from batos.persona_inference.llama_wire import Build, Convert
from batos.persona_inference.tokens import count_and_cut, find_control_tokens, measure_overhead
from batos.persona_inference.turns import ControlTokens

NAME = "llama"
METRIC_PREFIX = "llamacpp:"
KEY_BYTES = 24
NOTICE_S = 1.0
"""How long the end of a child may take to be noticed after its connections broke."""
SHOWN_DIGITS = 16
"""Of the model's hash, in the name of an adapter's GGUF file."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSettings:
    """How the embedded engine is run.

    Attributes:
        python: interpreter of the environment that has llama.cpp.
        model: the GGUF file.
        model_name: what the model is called in answers.
        model_hash: of the file, as `model_hash.ModelHashes` found it.
        slots: requests decoded at a time (1 to 256).
        context_tokens: of one slot.
        threads: that decode.
        choosing: how tokens are chosen.
        times: how the child is kept.
    """

    python: Path
    model: Path
    model_name: str
    model_hash: str
    slots: int
    context_tokens: int
    threads: int
    choosing: Choosing
    times: KeepingTimes


SLEEPING_BARRIERS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""llama.cpp's threads meet a few hundred times a token. OpenMP's default is to spin there: on a machine whose cores are
wanted by others, too, each meeting then costs a time slice (two busy cores: 2 tokens a second; asleep: 20)."""


class LlamaEngine(Engine):
    """llama.cpp behind the engine's interface."""

    def __init__(self, settings: LlamaSettings) -> None:
        self._settings = settings
        self._key = secrets.token_urlsafe(KEY_BYTES)
        self._process: LlamaProcess | None = None
        self._server: LlamaServer | None = None
        self._adapters: dict[str, str] = {}
        self._swap = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._control = ControlTokens(())
        self._facts: EngineFacts | None = None
        self._keeper = Keeper(NAME, self._bring_up, self._alive, self._ended, settings.times)

    async def start(self, report: Report) -> None:
        """See `Engine.start`."""
        await self._keeper.start(report)

    async def stop(self) -> None:
        """See `Engine.stop`."""
        await self._keeper.stop()
        for task in list(self._retiring):
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
        return tuple(sorted(self._adapters))

    @property
    def pid(self) -> int:
        """Process id of the child; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    async def infer(self, question: Question, on_text: OnText) -> Answer:
        """See `Engine.infer`."""
        return await self._asked(self._current().infer(question, self._control, on_text))

    async def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> TokenCounts:
        """See `Engine.tokenize`."""
        server = self._current()
        with server.lease():
            return await self._asked(count_and_cut(texts, limits, self._control, server.encode, server.decode))

    async def load(self, adapter: str, folder: Path) -> None:
        """See `Engine.load`."""
        async with self._swap:
            if adapter in self._adapters:
                return
            process = self._live()
            target = folder / f"{self._settings.model_hash[:SHOWN_DIGITS]}.gguf"
            model = str(self._settings.model)
            await process.convert(adapter, Convert(model=model, folder=str(folder), target=str(target)))
            try:
                await self._switch(process, {**self._adapters, adapter: str(target)})
            except EngineFailed as error:
                raise AdapterRefused("adapter_unsupported", adapter, f"adapter {adapter}: {error.message}") from error

    async def unload(self, adapter: str) -> None:
        """See `Engine.unload`."""
        async with self._swap:
            if adapter in self._adapters:
                kept = {name: path for name, path in self._adapters.items() if name != adapter}
                await self._switch(self._live(), kept)

    async def metrics(self) -> Mapping[str, float]:
        """See `Engine.metrics`."""
        server = self._current()
        with server.lease():
            page = await self._asked(http.text(server.client, "GET", "/metrics"))
        found = {
            sample.name.removeprefix(METRIC_PREFIX): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        return {**found, "requests_running": found.get("requests_processing", 0.0)}

    async def _bring_up(self, report: Report) -> None:
        """Start a child with the adapters that are to be loaded."""
        report(EngineHealth(False, f"starting llama.cpp with {self._settings.model.name}"))
        async with self._swap:
            await self._let_go()
            threads = str(self._settings.threads)
            process = LlamaProcess(self._settings.python, {"OMP_NUM_THREADS": threads, **SLEEPING_BARRIERS})
            self._process = process
            await process.start()
            server = await self._built(process, self._adapters)
            try:
                self._control = await find_control_tokens(server.encode)
                overhead = await measure_overhead(server.encode, server.render)
            except BaseException:
                await server.client.aclose()
                raise
            self._facts = EngineFacts(
                engine=NAME,
                model=self._settings.model_name,
                model_hash=self._settings.model_hash,
                context_tokens=self._settings.context_tokens,
                slots=self._settings.slots,
                overhead_per_message=overhead,
            )
            self._server = server

    async def _alive(self) -> None:
        """Fail unless the server answers."""
        server = self._server
        if server is not None:
            with server.lease():
                await http.ask(server.client, "GET", "/health")

    async def _ended(self) -> str:
        """Wait until the child ends; return how."""
        if self._process is None:
            return "it was never started"
        code = await self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    async def _let_go(self) -> None:
        """End the child and forget its servers."""
        server, self._server = self._server, None
        process, self._process = self._process, None
        if server is not None:
            await server.client.aclose()
        if process is not None:
            await process.stop()

    async def _switch(self, process: LlamaProcess, adapters: Mapping[str, str]) -> None:
        """Put a server with this set in the place of the current one."""
        server = await self._built(process, adapters)
        old, self._server = self._server, server
        self._adapters = dict(adapters)
        if old is not None:
            self._background(self._retire(process, old))

    async def _built(self, process: LlamaProcess, adapters: Mapping[str, str]) -> LlamaServer:
        settings = self._settings
        paths = tuple(adapters.values())
        built = await process.build(
            Build(
                model=str(settings.model),
                adapters=paths,
                slots=settings.slots,
                context_tokens=settings.context_tokens,
                threads=settings.threads,
                key=self._key,
            )
        )
        server = LlamaServer(built.server, built.url, self._key, tuple(adapters), settings.choosing)
        try:
            await server.verify(paths)
        except BaseException:
            await server.client.aclose()
            raise
        return server

    async def _retire(self, process: LlamaProcess, server: LlamaServer) -> None:
        """Drop a server when its last answer is out."""
        try:
            await server.idle()
            await process.drop(server.number)
        except EngineLost:
            _log.info("the child ended before its old server could be dropped")
        finally:
            await server.client.aclose()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="llama-retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _current(self) -> LlamaServer:
        if self._server is None or not self.health.ready:
            raise EngineLost(f"the engine is not ready: {self.health.reason}")
        return self._server

    def _live(self) -> LlamaProcess:
        if self._process is None or not self._process.alive:
            raise EngineLost(f"the engine is not ready: {self.health.reason}")
        return self._process

    async def _asked(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what was asked of a server. Where its connection broke, look first whether the child has ended."""
        process = self._process
        try:
            return await work
        except EngineLost:
            if process is not None and process.alive:
                await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=NOTICE_S)
            raise
