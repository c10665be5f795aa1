"""A mind in a temporary folder, and an engine that answers by script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import stamina

from batos.kernel import missions
from batos.kernel.cycle import Cycle
from batos.kernel.genesis import seed
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.protocol import (
    EngineDescription,
    Event,
    EventType,
    Infer,
    Inferred,
    Tokenized,
    Usage,
    new_id,
)
from batos.uvm import Image, open_image

PLAN = {
    "goal": "Name a small boat.",
    "parts": [
        {"facet": "sage", "ask": "What matters in a boat's name?"},
        {"facet": "disruptor", "ask": "Does a boat need a name?"},
    ],
}
MODEL_HASH = "m" * 64
Script = Callable[[Infer], str | Inferred | Exception]


@dataclass
class ScriptedEngine:
    """Answers prompts by the step in their label; a token is a word, and each message costs two more."""

    steps: dict[str, Script | str | list[str | Inferred | Exception]] = field(default_factory=dict)
    context_tokens: int = 2048
    asked: list[Infer] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    model_hash: str = MODEL_HASH

    def infer_all(self, prompts: Sequence[Infer], timeout_s: float) -> list[Inferred]:
        assert timeout_s > 0
        self.asked.extend(prompts)
        self.batches.append(len(prompts))
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Infer) -> Inferred:
        step = prompt.label.step
        given = self.steps.get(step, self.steps.get(step.partition("-")[0], f"An answer about {step}."))
        if isinstance(given, list):
            given = given.pop(0) if len(given) > 1 else given[0]
        found = given(prompt) if callable(given) else given
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Inferred) else self.inferred(found, prompt.adapter)

    def inferred(self, text: str, adapter: str = "", **other: Any) -> Inferred:
        fields = {
            "finish_reason": "stop",
            "usage": Usage(prompt_tokens=10, completion_tokens=5),
            "engine": "scripted",
            "model": "words",
            "model_hash": self.model_hash,
            "duration_ms": 3,
        }
        return Inferred(text=text, adapter=adapter, **{**fields, **other})

    def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> Tokenized:
        cut = tuple(" ".join(text.split()[:limit]) for text, limit in zip(texts, limits, strict=True)) if limits else ()
        return Tokenized(counts=tuple(len(text.split()) for text in texts), cut=cut, overhead_per_message=2)

    def describe(self) -> EngineDescription:
        return EngineDescription(
            engine="scripted", model="words", model_hash=self.model_hash, context_tokens=self.context_tokens, slots=4
        )


@dataclass
class Told:
    """What was logged and published, in order."""

    records: list[tuple[EventType, dict[str, Any]]] = field(default_factory=list)
    events: list[tuple[str, Event]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, event_type: EventType, **fields: Any) -> None:
        with self._lock:
            self.records.append((event_type, fields))

    def publish(self, topic: str, event: Event) -> None:
        with self._lock:
            self.events.append((topic, event))

    def of(self, event_type: EventType) -> list[dict[str, Any]]:
        return [fields for kind, fields in self.records if kind == event_type]

    @property
    def line(self) -> list[str]:
        return [f"{fields['current_state']}:{kind}" for kind, fields in self.records]


@dataclass
class Mind:
    """A seeded image, and the way to let it think."""

    image: Image
    engine: ScriptedEngine
    told: Told

    def accept(self, text: str, weaver: str = "", mission_id: str = "") -> Ticket:
        mission_id = mission_id or new_id()
        owner = missions.Owner("kernel-1", new_id())

        def work(root: Any) -> Ticket:
            record = missions.create(root, mission_id=mission_id, text=text, weaver=weaver, owner=owner).record
            return missions.ticket(record)

        return self.image.run(work)

    def cycle(self, ticket: Ticket, **options: Any) -> Cycle:
        return Cycle(self.image, ticket, self.engine, self.told, self.told, **options)

    def think(self, text: str = "Suggest a name for a small boat.", weaver: str = "") -> CycleOutcome:
        return self.cycle(self.accept(text, weaver)).run()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Retries happen at once."""
    with stamina.set_testing(True, attempts=8, cap=True):
        yield


@pytest.fixture
def empty_image(tmp_path: Path) -> Iterator[Image]:
    with open_image(f"file://{tmp_path}/live_image.fs") as image:
        yield image


@pytest.fixture
def image(empty_image: Image) -> Image:
    def fill(root: Any) -> None:
        seed(root)
        missions.ensure(root)

    empty_image.run(fill)
    return empty_image


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine({"plan": json.dumps(PLAN), "facet": "A partial answer.", "weave": "Call it Drip."})


@pytest.fixture
def mind(image: Image, engine: ScriptedEngine) -> Mind:
    return Mind(image, engine, Told())
