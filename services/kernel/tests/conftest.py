"""A mind in a temporary folder, and an engine that answers by script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic_monty
import pytest
import stamina
from prometheus_client import CollectorRegistry

from batos.kernel import interface, missions
from batos.kernel.cycle import Cycle
from batos.kernel.genesis import seed
from batos.kernel.inspecting import Inspecting
from batos.kernel.metrics import KernelMetrics
from batos.kernel.sandboxing import kernel_sandbox
from batos.kernel.settings import KernelSettings
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.mind import compatibility
from batos.protocol import (
    EngineDescription,
    Event,
    EventType,
    Infer,
    Inferred,
    RequestContext,
    Tokenized,
    Usage,
    new_id,
)
from batos.uvm import Image, UvmObject, install_method, open_image
from batos.vessel.settings import load_settings

PLAN = {
    "goal": "Name a small boat.",
    "parts": [
        {"facet": "sage", "ask": "What matters in a boat's name?"},
        {"facet": "disruptor", "ask": "Does a boat need a name?"},
    ],
}
MODEL_HASH = "m" * 64
AUTHOR = "0197a0000000700080000000000000aa"
"""A cycle that writes methods."""
HANDLER = "_process_synthesis_"
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

    def part(self, root: Any, path: str) -> UvmObject:
        """The object at a path from the lobby; a state by its name alone."""
        found = root["lobby"]
        for name in f"psm_prototypes_obj.{path}".split(".") if path.isupper() else path.split("."):
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]  # slots have no types

    def write(self, path: str, source: str, *, name: str = HANDLER, author: str = AUTHOR) -> None:
        """Give an object a method that a cycle wrote; where nothing else is said, a state its handler."""
        self.image.run(lambda root: install_method(self.part(root, path), name, source, author=author).number)

    def stopped(self) -> list[dict[str, Any]]:
        """What was told of methods that were stopped."""
        return [fields["detail"] for fields in self.told.of(EventType.SANDBOX)]


@pytest.fixture(scope="session")
def first_pool() -> None:
    """The first pool of a process leaves it a pair of sockets for good (how it hears of signals): no test's leak."""
    with pydantic_monty.Monty() as begun, begun.checkout() as session:
        assert session.feed_run("1 + 1") == 2


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


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def sandboxed(
    first_pool: None,  # noqa: ARG001 - it comes before the leak check
    image: Image,
    engine: ScriptedEngine,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Mind]:
    """A mind with the sandbox of a kernel. Its clock is ample: a busy machine is no slow method."""
    monkeypatch.setenv("BATOS_KERNEL_SANDBOX_CPU_S", "2")
    made = Mind(image, engine, Told())
    with kernel_sandbox(load_settings(KernelSettings), made.told, KernelMetrics(registry)) as sandbox:
        image.sandbox = sandbox
        yield made


@pytest.fixture
def context() -> RequestContext:
    """Of a request that the console sent."""
    return RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)


@pytest.fixture
def inspecting(image: Image) -> Inspecting:
    """What kernel-1 answers about the image."""
    plank = compatibility.Kernel("kernel-1", "k1", "0.1.0", interface.HOST, interface.IMAGE)
    return Inspecting(image=image, kernel=plank)
