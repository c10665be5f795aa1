"""The OpenAI chat API as engines offer it, and what vLLM adds to it: counting tokens, adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from batos.persona_inference import http
from batos.persona_inference.engine import OnText, Question
from batos.persona_inference.errors import AdapterRefused, EngineFailed, EngineLost, RequestInvalid
from batos.persona_inference.turns import ControlTokens
from batos.protocol import Usage

SCHEMA_NAME = "answer"


@dataclass(frozen=True, slots=True)
class Chatted:
    """An answer as the API gave it.

    Attributes:
        text: all of it.
        finish_reason: `stop` or `length`.
        usage: tokens, by the API's count.
        model: the name that the API says it answered with.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    model: str


class OpenAIApi:
    """Asks one server."""

    def __init__(self, root: str, prefix: str, *, key: str = "", keep_alive: bool = False) -> None:
        """Begin.

        Args:
            root: the server's address, without the API's path.
            prefix: the API's path, for example `/v1`.
            key: bearer token; empty for none.
            keep_alive: whether connections are used again.
        """
        self.client: httpx.AsyncClient = http.make_client(root, key=key, keep_alive=keep_alive)
        self._prefix = prefix

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """Return the models that the server offers."""
        found = await http.ask(self.client, "GET", f"{self._prefix}/models")
        return list(found.get("data", []))

    async def chat(
        self, model: str, question: Question, control: ControlTokens, extra: Mapping[str, Any], on_text: OnText
    ) -> Chatted:
        """Ask one question.

        Args:
            model: its name at the server.
            question: what is asked.
            control: the model's control tokens.
            extra: fields of the request beside the standard ones, or over them.
            on_text: is handed each piece.
        """
        body = {**chat_body(model, question, control), **extra}
        pieces: list[str] = []
        usage, reason, named = Usage(), "", ""
        async for event in http.events(self.client, f"{self._prefix}/chat/completions", body):
            named = event.get("model") or named
            if found := event.get("usage"):
                usage = Usage(
                    prompt_tokens=found.get("prompt_tokens", 0), completion_tokens=found.get("completion_tokens", 0)
                )
            for choice in event.get("choices") or ():
                if piece := (choice.get("delta") or {}).get("content"):
                    pieces.append(piece)
                    on_text(piece)
                reason = choice.get("finish_reason") or reason
        if not reason:
            raise EngineLost("the answer ended in the middle")
        if reason not in {"stop", "length"}:
            raise EngineFailed(f"the server ended the answer with {reason!r}")
        return Chatted("".join(pieces), "length" if reason == "length" else "stop", usage, named)

    async def encode(self, text: str) -> list[int]:
        """Return a text's tokens (vLLM)."""
        found = await http.ask(self.client, "POST", "/tokenize", {"prompt": text, "add_special_tokens": False})
        return [int(token) for token in found["tokens"]]

    async def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens (vLLM)."""
        found = await http.ask(self.client, "POST", "/detokenize", {"tokens": tokens})
        return str(found["prompt"])

    async def render(self, messages: list[dict[str, str]]) -> int:
        """Return how many tokens a whole prompt has (vLLM)."""
        found = await http.ask(self.client, "POST", "/tokenize", {"messages": messages})
        return int(found["count"])

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter (vLLM); the server reads the folder itself.

        Raises:
            AdapterRefused: the server cannot serve it, or knows no adapters.
        """
        try:
            await http.text(
                self.client,
                "POST",
                f"{self._prefix}/load_lora_adapter",
                {"lora_name": name, "lora_path": str(folder)},
            )
        except (RequestInvalid, EngineFailed) as error:
            raise AdapterRefused("adapter_unsupported", name, f"adapter {name}: {error.message}", error.hint) from error

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter (vLLM)."""
        await http.text(self.client, "POST", f"{self._prefix}/unload_lora_adapter", {"lora_name": name})


def chat_body(model: str, question: Question, control: ControlTokens) -> dict[str, Any]:
    """Return the standard fields of a chat request; always streaming, so that leaving it frees the slot."""
    sampling = question.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": control.turns(question.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if question.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": SCHEMA_NAME, "strict": True, "schema": dict(question.schema)},
        }
    return body
