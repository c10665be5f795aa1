"""One llama.cpp server in the child: a model with a fixed set of adapters behind a loopback address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from batos.persona_inference import http
from batos.persona_inference.engine import Answer, OnText, Question
from batos.persona_inference.errors import AdapterNotLoaded, EngineFailed, WrongWeights
from batos.persona_inference.turns import ControlTokens
from batos.protocol import Usage

COMPACT_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How llguidance writes JSON: one fixed layout, so that no model fills its answer with blanks."""
LORA_USED = "generation_settings/lora"
"""Where llama.cpp's last event says which adapters were on."""
FINAL_FIELDS = ("content", "stop", "stop_type", "tokens_predicted", "tokens_evaluated", LORA_USED)


@dataclass(frozen=True, slots=True)
class Choosing:
    """What narrows the choice of a token besides a question's sampling.

    Attributes:
        top_k: how many tokens are considered; 0 for all.
        min_p: least probability, relative to the likeliest token's.
    """

    top_k: int
    min_p: float


class LlamaServer:
    """Asks one server, and knows what is in flight there."""

    def __init__(self, number: int, url: str, key: str, adapters: Sequence[str], choosing: Choosing) -> None:
        """Begin.

        Args:
            number: the child's name for it.
            url: its loopback address.
            key: that it wants to be shown.
            adapters: names of its adapters; their order is their ids.
            choosing: how tokens are chosen.
        """
        self.number = number
        self.adapters = tuple(adapters)
        self.client: httpx.AsyncClient = http.make_client(url, key=key)
        self._choosing = choosing
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the server while something is asked of it."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        await self._idle.wait()

    async def verify(self, paths: Sequence[str]) -> None:
        """Check that the server took these adapter files in this order, all of them off.

        Raises:
            EngineFailed: it did not.
        """
        found = await http.ask(self.client, "GET", "/lora-adapters")
        taken = [(entry["id"], entry["path"], entry["scale"]) for entry in found]
        if taken != [(number, path, 0.0) for number, path in enumerate(paths)]:
            raise EngineFailed(f"llama.cpp took the adapters {taken}, not {list(paths)}")

    async def infer(self, question: Question, control: ControlTokens, on_text: OnText) -> Answer:
        """Answer a question; see `Engine.infer`."""
        if question.adapter and question.adapter not in self.adapters:
            raise AdapterNotLoaded(question.adapter)
        with self.lease():
            rendered = await http.ask(
                self.client, "POST", "/apply-template", {"messages": control.turns(question.messages)}
            )
            pieces: list[str] = []
            async for event in http.events(self.client, "/completion", self._body(question, rendered["prompt"])):
                if piece := event.get("content", ""):
                    pieces.append(piece)
                    on_text(piece)
                if event.get("stop"):
                    return self._answer(question, "".join(pieces), event)
        raise EngineFailed("llama.cpp's stream ended without its last event")

    async def encode(self, text: str) -> list[int]:
        """Return a text's tokens, control tokens recognised."""
        found = await http.ask(self.client, "POST", "/tokenize", {"content": text, "add_special": False})
        return [int(token) for token in found["tokens"]]

    async def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; half a character comes back as U+FFFD."""
        found = await http.ask(self.client, "POST", "/detokenize", {"tokens": tokens})
        return str(found["content"])

    async def render(self, messages: list[dict[str, str]]) -> int:
        """Return how many tokens a whole prompt has."""
        rendered = await http.ask(self.client, "POST", "/apply-template", {"messages": messages})
        found = await http.ask(self.client, "POST", "/tokenize", {"content": rendered["prompt"], "add_special": True})
        return len(found["tokens"])

    def _body(self, question: Question, prompt: str) -> dict[str, Any]:
        sampling = question.sampling
        body: dict[str, Any] = {
            "prompt": prompt,
            "stream": True,
            "cache_prompt": True,
            "n_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": self._choosing.top_k,
            "min_p": self._choosing.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "lora": [{"id": i, "scale": float(name == question.adapter)} for i, name in enumerate(self.adapters)],
            "response_fields": list(FINAL_FIELDS),
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if question.schema is not None:
            body["json_schema"] = {**question.schema, "x-guidance": COMPACT_JSON}
        return body

    def _answer(self, question: Question, text: str, last: Mapping[str, Any]) -> Answer:
        on = [entry["id"] for entry in last[LORA_USED] if entry["scale"]]
        used = "+".join(self.adapters[number] if number < len(self.adapters) else f"#{number}" for number in on)
        if used != question.adapter:
            raise WrongWeights(question.adapter, used)
        reason: Literal["stop", "length"] = "length" if last["stop_type"] == "limit" else "stop"
        usage = Usage(prompt_tokens=last["tokens_evaluated"], completion_tokens=last["tokens_predicted"])
        return Answer(text=text, finish_reason=reason, usage=usage, adapter=used)
