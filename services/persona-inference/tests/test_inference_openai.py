from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from batos.persona_inference.engine import Question
from batos.persona_inference.errors import (
    AdapterNotLoaded,
    AdapterRefused,
    ContextExceeded,
    EngineFailed,
    EngineLost,
    RequestInvalid,
    WrongWeights,
)
from batos.persona_inference.keeping import KeepingTimes
from batos.persona_inference.openai_engine import OpenAIEngine, OpenAISettings
from batos.protocol import ChatMessage, Sampling

HELLO = Question(messages=(ChatMessage("user", "Hello?"),), sampling=Sampling(seed=3))


def stream(*events: Any) -> bytes:
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in (*events, "[DONE]")]
    return "".join([": a comment\n\n", *lines]).encode()


def chunk(text: str = "", reason: str | None = None, model: str = "big", **more: Any) -> dict[str, Any]:
    return {"model": model, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}], **more}


USAGE = {"model": "big", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
GOOD = (chunk("one "), chunk("two", "stop"), USAGE)


class Api:
    """An API that answers as a test says."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = [{"id": "big", "max_model_len": 4096}]
        self.counts = False
        self.answer: Callable[[dict[str, Any]], httpx.Response] = lambda _: httpx.Response(200, content=stream(*GOOD))
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if path == "/api/v1/models":
            return httpx.Response(200, json={"data": self.models})
        if path == "/api/v1/chat/completions":
            return self.answer(json.loads(request.content))
        if path == "/tokenize" and self.counts:
            body = json.loads(request.content)
            if "messages" in body:
                return httpx.Response(200, json={"count": 3 + sum(5 + 1 for _ in body["messages"])})
            return httpx.Response(200, json={"tokens": [len(word) for word in body["prompt"].split()]})
        return httpx.Response(404, json={"detail": "Not Found"})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    real = httpx.AsyncClient

    def client(**given: Any) -> httpx.AsyncClient:
        return real(**given, transport=httpx.MockTransport(made))

    monkeypatch.setattr("batos.persona_inference.http.httpx.AsyncClient", client)
    return made


def engine_for(**given: Any) -> OpenAIEngine:
    values: dict[str, Any] = {
        "url": "http://host:1/api/v1",
        "key": "secret",
        "model_name": "",
        "model_hash": "ab" * 32,
        "slots": 4,
        "context_tokens": 8192,
        "bytes_per_token": 3.0,
        "times": KeepingTimes(),
        **given,
    }
    return OpenAIEngine(OpenAISettings(**values))


@pytest.fixture
async def engine(api: Api) -> AsyncIterator[OpenAIEngine]:
    del api
    made = engine_for()
    await made.start(lambda _: None)
    yield made
    await made.stop()


async def test_answers_are_streamed_with_usage(api: Api, engine: OpenAIEngine) -> None:
    """The request streams and asks for usage, shows its key, and takes the first model that is offered."""
    pieces: list[str] = []
    answer = await engine.infer(HELLO, pieces.append)
    assert (answer.text, pieces, answer.finish_reason, answer.adapter) == ("one two", ["one ", "two"], "stop", "")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 2)
    request = api.requests[-1]
    body = json.loads(request.content)
    assert request.headers["authorization"] == "Bearer secret"
    assert (body["model"], body["stream"], body["stream_options"], body["seed"]) == (
        "big",
        True,
        {"include_usage": True},
        3,
    )
    assert engine.facts.context_tokens == 4096


async def test_counts_are_estimated_where_the_api_cannot_count(api: Api, engine: OpenAIEngine) -> None:
    """By bytes; a cut text is never longer than its limit by that measure."""
    del api
    counted = await engine.tokenize(("abcdef", "ä" * 6, ""), (1, 2, 3))
    assert (counted.counts, counted.cut) == ((2, 4, 0), ("abc", "äää", ""))


async def test_counts_are_the_servers_where_it_offers_them(api: Api) -> None:
    """vLLM's endpoints are found out by asking."""
    api.counts = True
    engine = engine_for()
    await engine.start(lambda _: None)
    assert (await engine.tokenize(("one two three",))).counts == (3,)
    await engine.stop()


async def test_adapters_need_vllms_endpoints(engine: OpenAIEngine, tmp_path: Path) -> None:
    """Where they are missing an adapter is refused, and never answered by the base model."""
    with pytest.raises(AdapterRefused) as refused:
        await engine.load("brick-0000000000000001", tmp_path)
    assert refused.value.code == "adapter_unsupported"
    with pytest.raises(AdapterNotLoaded):
        await engine.infer(Question(messages=HELLO.messages, adapter="brick-0000000000000001"), lambda _: None)


async def test_another_model_that_answers_for_an_adapter_is_wrong(api: Api, engine: OpenAIEngine) -> None:
    """What the server says it answered with must be the adapter."""
    engine._adapters.add("brick-0000000000000001")
    del api
    with pytest.raises(WrongWeights):
        await engine.infer(Question(messages=HELLO.messages, adapter="brick-0000000000000001"), lambda _: None)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(400, json={"error": {"message": "no such field", "type": "BadRequest"}}), RequestInvalid),
        (httpx.Response(401, json={"error": "no key"}), EngineFailed),
        (httpx.Response(503, content=b"loading"), EngineLost),
        (httpx.Response(500, json={"error": {"message": "dead"}}), EngineFailed),
        (httpx.Response(200, content=stream(chunk("one "))), EngineLost),
        (httpx.Response(200, content=stream({"error": {"message": "broke", "code": 500}})), EngineFailed),
        (httpx.Response(200, content=stream({"error": {"message": "wrong", "code": 400}})), RequestInvalid),
        (httpx.Response(200, content=b"data: {not json\n\n"), EngineFailed),
        (httpx.Response(200, content=stream(chunk("", "tool_calls"))), EngineFailed),
        (
            httpx.Response(
                400,
                json={
                    "error": {"type": "exceed_context_size_error", "n_prompt_tokens": 30, "n_ctx": 20, "message": "x"}
                },
            ),
            ContextExceeded,
        ),
    ],
)
async def test_refusals_become_errors_of_one_kind(
    api: Api, engine: OpenAIEngine, response: httpx.Response, error: type[Exception]
) -> None:
    """Whatever a server answers, it is one clear error, transient only where it may pass."""
    api.answer = lambda _: response
    with pytest.raises(error):
        await engine.infer(HELLO, lambda _: None)


async def test_a_model_that_is_not_offered_is_said_at_the_start(api: Api) -> None:
    """With the names that are."""
    del api
    engine = engine_for(model_name="small")
    with pytest.raises(EngineFailed, match="big"):
        await engine.start(lambda _: None)
    await engine.stop()
