"""Prompts, answers, engines, tokens, adapters as an engine knows them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from batos.protocol.messages.message import Message
from batos.protocol.messages.missions import Usage


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen and when to stop."""

    temperature: float = 0.7
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None
    repeat_penalty: float = 1.0


class PromptLabel(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a thought a prompt stands; token deltas carry it."""

    mission_id: str = ""
    cycle_id: str = ""
    state: str = ""
    step: str = ""
    persona: str = ""
    facet: str = ""


class Infer(Message, frozen=True, kw_only=True):
    """To persona-inference: answer this. The header's deadline bounds it."""

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()
    adapter: str = ""
    """Serving name of the adapter (its content hash, for example `brick-3f9a2c…`); empty asks the base model."""
    schema: dict[str, Any] | None = None
    """JSON Schema that the answer must follow; every string and list in it is bounded."""
    label: PromptLabel = PromptLabel()
    probe: bool = False
    """A readiness probe: counted apart, never published."""


class Inferred(Message, frozen=True, kw_only=True):
    """The answer, and the weights that gave it as the engine itself reported them."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    engine: str
    model: str
    model_hash: str
    adapter: str
    duration_ms: int


class EngineDescribe(Message, frozen=True, kw_only=True):
    """To persona-inference: which engine, which model, how much fits."""


class EngineDescription(Message, frozen=True, kw_only=True):
    """What the engine is. `context_tokens` is what one request may use: prompt and answer together."""

    engine: str
    model: str
    model_hash: str
    context_tokens: int
    slots: int
    adapters: tuple[str, ...] = ()


class Tokenize(Message, frozen=True, kw_only=True):
    """To persona-inference: count texts by the model's own tokenizer; `limits` cuts text i to limits[i] tokens."""

    texts: tuple[str, ...]
    limits: tuple[int, ...] = ()
    """Empty: only count. Else one limit a text."""


class Tokenized(Message, frozen=True, kw_only=True):
    """Token counts of the texts as given, and the texts cut to their limits (empty when none were given)."""

    counts: tuple[int, ...]
    cut: tuple[str, ...] = ()
    overhead_per_message: int = 0
    """Tokens that the chat template adds to each message, at most."""


class AdapterLoad(Message, frozen=True, kw_only=True):
    """To persona-inference: fetch this adapter, verify its hash, load it, answer once requests can use it."""

    adapter: str


class AdapterUnload(Message, frozen=True, kw_only=True):
    """To persona-inference: this adapter is no longer needed."""

    adapter: str


class AdaptersLoaded(Message, frozen=True, kw_only=True):
    """The adapters that this replica can answer with now."""

    adapters: tuple[str, ...]
