"""The engine over the bus, as a cycle's thread uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from batos.kernel.engine import BusEngine
from batos.kernel.errors import Fenced
from batos.kernel.metrics import KernelMetrics
from batos.protocol import (
    ChatMessage,
    EngineDescribe,
    EngineDescription,
    Infer,
    Inferred,
    Message,
    RemoteError,
    Tokenize,
    Tokenized,
    Usage,
)

PROMPTS = [Infer(messages=(ChatMessage("user", text),)) for text in ("one", "two", "three")]


class FakePeer:
    """Answers requests by a function; `asked` holds what was asked, `open` what is not answered yet."""

    def __init__(self, answer: Callable[[Message], Any]) -> None:
        self._answer = answer
        self.asked: list[Message] = []
        self.open = 0
        self.all_asked = asyncio.Event()

    async def request(self, service: str, body: Message, reply: type[Message], **_other: Any) -> Any:
        assert service == "inference"
        self.asked.append(body)
        if len(self.asked) == len(PROMPTS):
            self.all_asked.set()
        self.open += 1
        try:
            found = self._answer(body)
            found = await found if asyncio.iscoroutine(found) else found
        finally:
            self.open -= 1
        assert isinstance(found, reply)
        return found


def inferred(text: str) -> Inferred:
    return Inferred(
        text=text,
        finish_reason="stop",
        usage=Usage(prompt_tokens=3, completion_tokens=2),
        engine="e",
        model="m",
        model_hash="h",
        adapter="",
        duration_ms=1,
    )


def make(peer: FakePeer) -> tuple[BusEngine, CollectorRegistry]:
    registry = CollectorRegistry()
    loop = asyncio.get_running_loop()
    return BusEngine(peer, loop, "m" * 32, short_timeout_s=5, metrics=KernelMetrics(registry)), registry  # type: ignore[arg-type]


async def test_answers_stand_in_the_prompts_order() -> None:
    """All prompts are asked at once; whichever is answered first, the answers stand in order and are counted."""
    peer: FakePeer

    async def answer(body: Infer) -> Inferred:
        await peer.all_asked.wait()
        return inferred(body.messages[0].content)

    peer = FakePeer(answer)  # type: ignore[arg-type]
    engine, registry = make(peer)
    found = await asyncio.to_thread(engine.infer_all, PROMPTS, 5.0)
    assert [answer.text for answer in found] == ["one", "two", "three"]
    assert registry.get_sample_value("batos_kernel_prompts_total", {"result": "answered"}) == 3
    assert registry.get_sample_value("batos_kernel_tokens_total", {"kind": "prompt"}) == 9


async def test_one_failure_fails_all_and_cancels_the_rest() -> None:
    """When a prompt is refused, the others are not waited for."""

    def answer(body: Infer) -> Any:
        if body.messages[0].content == "two":
            raise RemoteError("adapter_unknown", "no such adapter")
        return asyncio.Event().wait()

    peer = FakePeer(answer)  # type: ignore[arg-type]
    engine, registry = make(peer)
    with pytest.raises(RemoteError):
        await asyncio.to_thread(engine.infer_all, PROMPTS, 5.0)
    assert peer.open == 0
    assert registry.get_sample_value("batos_kernel_prompts_total", {"result": "failed"}) == 3


async def test_interrupted_while_it_waits() -> None:
    """A mission that is given back frees its thread at once, and every later call of it is fenced."""
    peer = FakePeer(lambda _: asyncio.Event().wait())
    engine, _ = make(peer)
    waiting = asyncio.create_task(asyncio.to_thread(engine.infer_all, PROMPTS, 60.0))
    await peer.all_asked.wait()
    engine.interrupt("it was given back")
    with pytest.raises(Fenced, match="given back"):
        await waiting
    with pytest.raises(Fenced):
        await asyncio.to_thread(engine.describe)
    assert peer.open == 0


async def test_describes_and_counts() -> None:
    """Which model answers and how long texts are comes from the engine."""
    description = EngineDescription(engine="e", model="m", model_hash="h", context_tokens=10, slots=1)

    def answer(body: Message) -> Message:
        if isinstance(body, EngineDescribe):
            return description
        assert isinstance(body, Tokenize)
        return Tokenized(counts=(2,), cut=("a",))

    engine, _ = make(FakePeer(answer))
    assert await asyncio.to_thread(engine.describe) == description
    assert (await asyncio.to_thread(engine.tokenize, ["a b"], [1])).cut == ("a",)
    assert threading.current_thread() is threading.main_thread()
