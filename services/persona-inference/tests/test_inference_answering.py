from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_engine import MODEL_HASH, FakeEngine, FakeSource
from prometheus_client import CollectorRegistry

from batos.persona_inference.adapters import AdapterShelf
from batos.persona_inference.answering import Answering
from batos.persona_inference.desk import AdapterDesk
from batos.persona_inference.errors import ContextExceeded, EngineLost
from batos.persona_inference.figures import Figures
from batos.persona_inference.slots import Slots
from batos.protocol import (
    AdapterLoad,
    AdapterUnload,
    ChatMessage,
    EngineDescribe,
    Infer,
    Message,
    PromptLabel,
    RequestContext,
    RequestFailed,
    Sampling,
    TokenDelta,
    Tokenize,
)

HELLO = (ChatMessage("system", "Be brief."), ChatMessage("user", "Hello?"))
MISSION = "0" * 31 + "1"


def context(seconds: float = 30.0) -> RequestContext:
    return RequestContext(id="r", parent="", sender="kernel-1", session="s", attempt=0, deadline=time.time() + seconds)


class Desk:
    """Everything around a fake engine."""

    def __init__(self, folder: Path, *, slots: int = 2, queue: int = 4, most: int = 4) -> None:
        self.engine = FakeEngine(slots=slots)
        self.source = FakeSource()
        self.registry = CollectorRegistry()
        self.published: list[tuple[str, Message]] = []
        figures = Figures(self.registry)
        self.desk = AdapterDesk(self.engine, self.source, AdapterShelf(folder), most=most)
        self.answering = Answering(
            self.engine,
            self.desk,
            Slots(slots, queue, figures),
            figures,
            lambda topic, event: self.published.append((topic, event)),
            gather_s=0.0,
        )

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def around(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def refused(work: Awaitable[Any]) -> RequestFailed:
    with pytest.raises(RequestFailed) as found:
        await work
    return found.value


async def settled(condition: Callable[[], bool]) -> None:
    """Let tasks and threads run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is awaited is no event of the code under test
            await asyncio.sleep(0)


async def test_an_answer_names_the_weights_that_gave_it(around: Desk) -> None:
    """Model, its hash, engine and adapter stand in the reply, and the tokens are counted."""
    reply = await around.answering.infer(Infer(messages=HELLO), context())
    assert (reply.text, reply.engine, reply.model, reply.model_hash, reply.adapter) == (
        "one two",
        "fake",
        "fake-model",
        MODEL_HASH,
        "",
    )
    assert around.count("batos_inference_requests_total", engine="fake", outcome="stop", adapter="base") == 1
    assert around.count("batos_inference_tokens_total", engine="fake", kind="prompt") == 7


async def test_an_adapter_is_loaded_on_demand(around: Desk) -> None:
    """A bound adapter that this replica has not loaded is fetched, checked and loaded before the answer."""
    name = around.source.add("brick", 1)
    reply = await around.answering.infer(Infer(messages=HELLO, adapter=name), context())
    assert reply.adapter == name
    assert around.engine.loads == [name]


async def test_one_load_serves_all_who_wait_for_it(around: Desk) -> None:
    """Requests that need the same adapter at once load it once."""
    name = around.source.add("brick", 1)
    around.engine.load_gate.clear()
    asked = [asyncio.create_task(around.answering.infer(Infer(messages=HELLO, adapter=name), context())) for _ in "123"]
    await settled(lambda: around.source.fetched == [name])
    around.engine.load_gate.set()
    assert {reply.adapter for reply in await asyncio.gather(*asked)} == {name}
    assert around.engine.loads == [name]


async def test_an_unknown_adapter_is_never_answered_by_other_weights(around: Desk) -> None:
    """The engine is not even asked."""
    error = await refused(around.answering.infer(Infer(messages=HELLO, adapter="brick-0000000000000000"), context()))
    assert (error.code, error.transient) == ("adapter_unknown", False)
    assert around.engine.asked == []
    error = await refused(around.answering.infer(Infer(messages=HELLO, adapter="../../etc/passwd"), context()))
    assert error.code == "adapter_unknown"
    assert around.source.fetched == ["brick-0000000000000000"]
    assert (
        around.count("batos_inference_requests_total", engine="fake", outcome="adapter_unknown", adapter="other") == 2
    )


async def test_corrupt_bytes_are_refused(around: Desk) -> None:
    """Bytes whose hash is not the one in the name are not loaded."""
    good, other = around.source.add("brick", 1), around.source.add("brick", 2)
    stored = around.source.adapters
    stored[good] = type(stored[good])(good, MODEL_HASH, stored[other].archive)
    error = await refused(around.answering.infer(Infer(messages=HELLO, adapter=good), context()))
    assert (error.code, error.transient) == ("adapter_corrupt", False)
    assert around.engine.loads == []


async def test_an_adapter_of_another_model_is_refused(around: Desk) -> None:
    """What was trained on other weights is not put on these."""
    name = around.source.add("brick", 1, model_hash="cd" * 32)
    assert (await refused(around.answering.infer(Infer(messages=HELLO, adapter=name), context()))).code == (
        "adapter_foreign"
    )


async def test_an_answer_by_other_weights_is_thrown_away(around: Desk) -> None:
    """What the engine reports counts, not what it was asked for."""
    name = around.source.add("brick", 1)
    around.engine.answers_as = ""
    error = await refused(around.answering.infer(Infer(messages=HELLO, adapter=name), context()))
    assert error.code == "engine_failed"


async def test_a_lost_engine_is_worth_another_try(around: Desk) -> None:
    """Only what may succeed when it is made again is marked so."""
    around.engine.fault = EngineLost("it died")
    error = await refused(around.answering.infer(Infer(messages=HELLO), context()))
    assert (error.code, error.transient) == ("engine_lost", True)
    around.engine.fault = ContextExceeded(130, 100)
    error = await refused(around.answering.infer(Infer(messages=HELLO), context()))
    assert (error.code, error.transient) == ("context_exceeded", False)
    assert "130" in error.message
    assert "100" in error.message


async def test_more_than_the_slots_wait_their_turn(tmp_path: Path) -> None:
    """No more requests than slots are in the engine; those beyond the queue are refused for now."""
    around = Desk(tmp_path, slots=2, queue=1)
    around.engine.gate.clear()
    asked = [asyncio.create_task(around.answering.infer(Infer(messages=HELLO), context())) for _ in range(3)]
    await settled(lambda: around.count("batos_inference_queue_requests") == 1)
    assert around.engine.running == 2
    error = await refused(around.answering.infer(Infer(messages=HELLO), context()))
    assert (error.code, error.transient) == ("engine_busy", True)
    around.engine.gate.set()
    await asyncio.gather(*asked)
    assert around.engine.most_running == 2
    assert around.count("batos_inference_running_requests") == 0


async def test_the_deadline_says_what_was_waited_for(tmp_path: Path) -> None:
    """Whether a request waited for its adapter, for a slot or for its text, the error says so, and its slot is free."""
    around = Desk(tmp_path, slots=1)
    around.engine.gate.clear()
    first = asyncio.create_task(around.answering.infer(Infer(messages=HELLO), context()))
    await settled(lambda: around.engine.running == 1)
    error = await refused(around.answering.infer(Infer(messages=HELLO), context(0.1)))
    assert error.code == "deadline_passed"
    assert "free slot" in error.message
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    error = await refused(around.answering.infer(Infer(messages=HELLO), context(0.1)))
    assert "decoded, 2 pieces" in error.message
    assert around.engine.running == 0
    name = around.source.add("brick", 1)
    around.engine.load_gate.clear()
    error = await refused(around.answering.infer(Infer(messages=HELLO, adapter=name), context(0.1)))
    assert f"adapter {name} was loaded" in error.message
    around.engine.load_gate.set()
    await around.desk.ensure(name)
    assert around.engine.loads == [name]


async def test_streamed_text_is_published_for_a_mission(around: Desk) -> None:
    """Deltas go to the mission's topic under the prompt's label; together they are the answer."""
    label = PromptLabel(mission_id=MISSION, persona="BRICK", state="DECOMPOSING")
    await around.answering.infer(Infer(messages=HELLO, label=label), context())
    assert {topic for topic, _ in around.published} == {f"mission/{MISSION}"}
    deltas = [event for _, event in around.published if isinstance(event, TokenDelta)]
    assert "".join(delta.text for delta in deltas) == "one two"
    assert {delta.label for delta in deltas} == {label}


async def test_probes_and_prompts_without_a_mission_publish_nothing(around: Desk) -> None:
    """A probe is counted apart."""
    await around.answering.infer(Infer(messages=HELLO, label=PromptLabel(mission_id=MISSION), probe=True), context())
    await around.answering.infer(Infer(messages=HELLO), context())
    assert around.published == []
    assert around.count("batos_inference_probes_total", engine="fake", outcome="stop") == 1
    assert around.count("batos_inference_requests_total", engine="fake", outcome="stop", adapter="base") == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Infer(messages=()), "request_invalid"),
        (Infer(messages=(ChatMessage("user", "  "),)), "request_invalid"),
        (Infer(messages=HELLO, sampling=Sampling(max_tokens=0)), "request_invalid"),
        (Infer(messages=HELLO, sampling=Sampling(temperature=-1)), "request_invalid"),
        (Infer(messages=HELLO, sampling=Sampling(temperature=float("nan"))), "request_invalid"),
        (Infer(messages=HELLO, sampling=Sampling(top_p=0)), "request_invalid"),
        (Infer(messages=HELLO, sampling=Sampling(seed=-1)), "request_invalid"),
        (Infer(messages=HELLO, schema={"type": "string"}), "schema_unbounded"),
        (Infer(messages=HELLO, schema={"type": "text"}), "schema_invalid"),
        (Infer(messages=HELLO, schema={}), "schema_invalid"),
    ],
)
async def test_what_has_no_right_answer_is_refused(around: Desk, message: Infer, code: str) -> None:
    """A prompt without words, sampling out of bounds, a schema that would not end: the engine is not asked."""
    error = await refused(around.answering.infer(message, context()))
    assert (error.code, error.transient) == (code, False)
    assert error.hint
    assert around.engine.asked == []


async def test_structured_answers_are_checked(around: Desk) -> None:
    """An engine that ignores the schema is found out."""
    asked = Infer(messages=HELLO, schema={"type": "string", "maxLength": 9})
    assert (await refused(around.answering.infer(asked, context()))).code == "engine_failed"
    around.engine.pieces = ('"fi', 'ne"')
    assert (await around.answering.infer(asked, context())).text == '"fine"'


async def test_texts_are_counted_and_cut(around: Desk) -> None:
    """Counts and cut texts come from the engine, with the template's share."""
    reply = await around.answering.tokenize(Tokenize(texts=("a b c", "d"), limits=(2, 5)), context())
    assert (reply.counts, reply.cut, reply.overhead_per_message) == ((3, 1), ("a b", "d"), 5)
    assert (await around.answering.tokenize(Tokenize(texts=("a b c",)), context())).cut == ()
    for wrong in (Tokenize(texts=("a",), limits=(1, 2)), Tokenize(texts=("a",), limits=(-1,))):
        assert (await refused(around.answering.tokenize(wrong, context()))).code == "request_invalid"


async def test_loading_and_unloading_say_what_is_loaded(around: Desk) -> None:
    """The reply to a load comes once requests can use the adapter."""
    name = around.source.add("brick", 1)
    assert (await around.answering.load(AdapterLoad(adapter=name), context())).adapters == (name,)
    assert (await around.answering.describe(EngineDescribe(), context())).adapters == (name,)
    assert (await around.answering.unload(AdapterUnload(adapter=name), context())).adapters == ()
    assert around.count("batos_inference_loaded_adapters") == 0


async def test_an_adapter_that_made_room_meanwhile_is_loaded_again(tmp_path: Path) -> None:
    """A request whose adapter was evicted while it waited for a slot is answered by it all the same."""
    around = Desk(tmp_path, slots=1, most=1)
    first, second = around.source.add("brick", 1), around.source.add("babs", 2)
    around.engine.gate.clear()
    blocking = asyncio.create_task(around.answering.infer(Infer(messages=HELLO), context()))
    await settled(lambda: around.engine.running == 1)
    waiting = [
        asyncio.create_task(around.answering.infer(Infer(messages=HELLO, adapter=name), context()))
        for name in (first, second)
    ]
    await settled(lambda: around.engine.loads == [first, second])
    around.engine.gate.set()
    await blocking
    assert [reply.adapter for reply in await asyncio.gather(*waiting)] == [first, second]
