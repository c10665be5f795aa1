"""An engine without a model, and adapters without an image: for tests of what stands around an engine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import made_adapter

from batos.mind import archive
from batos.persona_inference.adapters import StoredAdapter
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
from batos.persona_inference.errors import AdapterNotLoaded, AdapterRefused, InferenceError
from batos.protocol import Usage

MODEL_HASH = "ab" * 32


class FakeEngine(Engine):
    """Answers with what it was asked, by rules that a test sets."""

    def __init__(self, *, slots: int = 2) -> None:
        self._facts = EngineFacts(
            engine="fake",
            model="fake-model",
            model_hash=MODEL_HASH,
            context_tokens=100,
            slots=slots,
            overhead_per_message=5,
        )
        self._adapters: dict[str, Path] = {}
        self.pieces: tuple[str, ...] = ("one ", "two")
        self.answers_as: str | None = None
        """Adapter that it claims to have used; None: the one that was asked for."""
        self.fault: InferenceError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        """While it is clear, questions wait inside the engine."""
        self.load_gate = asyncio.Event()
        self.load_gate.set()
        self.asked: list[Question] = []
        self.running = 0
        self.most_running = 0
        self.loads: list[str] = []
        self.unloads: list[str] = []

    async def start(self, report: Report) -> None:
        report(EngineHealth(True))

    async def stop(self) -> None:
        self._adapters.clear()

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    @property
    def health(self) -> EngineHealth:
        return EngineHealth(True)

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(sorted(self._adapters))

    async def infer(self, question: Question, on_text: OnText) -> Answer:
        if question.adapter and question.adapter not in self._adapters:
            raise AdapterNotLoaded(question.adapter)
        self.asked.append(question)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for piece in self.pieces:
                on_text(piece)
            await self.gate.wait()
        finally:
            self.running -= 1
        if self.fault is not None:
            raise self.fault
        return Answer(
            text="".join(self.pieces),
            finish_reason="stop",
            usage=Usage(prompt_tokens=7, completion_tokens=len(self.pieces)),
            adapter=question.adapter if self.answers_as is None else self.answers_as,
        )

    async def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> TokenCounts:
        words = [text.split() for text in texts]
        cut = tuple(" ".join(found[:limit]) for found, limit in zip(words, limits, strict=bool(limits)))
        return TokenCounts(tuple(map(len, words)), cut)

    async def load(self, adapter: str, folder: Path) -> None:
        await self.load_gate.wait()
        self.loads.append(adapter)
        self._adapters[adapter] = folder

    async def unload(self, adapter: str) -> None:
        self.unloads.append(adapter)
        self._adapters.pop(adapter, None)

    async def metrics(self) -> Mapping[str, float]:
        return {"requests_running": float(self.running)}


class FakeSource:
    """Adapters in a dictionary."""

    def __init__(self) -> None:
        self.adapters: dict[str, StoredAdapter] = {}
        self.bindings: dict[str, str] = {}
        self.fault: InferenceError | None = None
        self.fetched: list[str] = []

    def add(self, persona: str, seed: int, *, model_hash: str = MODEL_HASH) -> str:
        """Store an adapter and return its name."""
        config, weights = made_adapter.make(
            seed, layers=(0,), rank=1, shape=made_adapter.Shape(width=4, key_width=2, inner=4)
        )
        packed = archive.pack(config, weights)
        name = f"{persona}-{hashlib.sha256(packed).hexdigest()[:16]}"
        self.adapters[name] = StoredAdapter(name, model_hash, packed)
        return name

    async def bound(self, model_hash: str) -> dict[str, str]:
        if self.fault is not None:
            raise self.fault
        return {
            persona: name for persona, name in self.bindings.items() if self.adapters[name].model_hash == model_hash
        }

    async def fetch(self, name: str) -> StoredAdapter:
        self.fetched.append(name)
        if self.fault is not None:
            raise self.fault
        if name not in self.adapters:
            raise AdapterRefused("adapter_unknown", name, f"the image holds no adapter {name!r}")
        return self.adapters[name]
