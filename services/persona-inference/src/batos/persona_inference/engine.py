"""The one interface behind which every engine stands.

What holds for all of them, and is tested over all of them by one suite:

- An answer is given by the weights that the question names, or not at all; `Answer.adapter` is what the engine itself
  reported, never an echo of the question.
- Text is handed on while it is decoded; the pieces together are the answer's text.
- Cancelling `infer` frees the engine's slot within moments.
- `load` returns once the adapter can be used, and disturbs nothing that runs. A name always means the same
  weights.
- `unload` takes an adapter from new questions; what runs with it ends with it.
- An engine that dies fails what runs with `EngineLost`, comes back by itself with the adapters that it had, and says
  through `report` that it is not ready meanwhile.
- Token counts are the model's own: those of a prompt's texts plus the template's share bound
  `Usage.prompt_tokens`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from batos.protocol import ChatMessage, Sampling, Usage

OnText = Callable[[str], None]
"""Is handed the next piece of an answer, in the event loop's thread; must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One prompt.

    Attributes:
        messages: the turns, at least one; free of the model's control tokens.
        sampling: how to decode.
        adapter: name of a loaded adapter; empty asks the base model.
        schema: what the answer must follow, as `schema.bounded` returned it; None leaves it free.
    """

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str = ""
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the engine decoded.

    Attributes:
        text: all of it.
        finish_reason: `stop` where the model ended, `length` where tokens ran out.
        usage: tokens, by the engine's own count.
        adapter: the weights that the engine reports to have used; empty for the base model.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    adapter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine is; known once it has started.

    Attributes:
        engine: llama, vllm or openai.
        model: the base model's name.
        model_hash: identifies its weights (64 hexadecimal digits); adapters belong to it.
        context_tokens: what one request may use, prompt and answer together.
        slots: how many requests it decodes at a time.
        overhead_per_message: tokens that the chat template adds to each message, at most, in a prompt that begins with
            a system message; a template may add a system message of its own to prompts without one.
    """

    engine: str
    model: str
    model_hash: str
    context_tokens: int
    slots: int
    overhead_per_message: int


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Whether an engine can answer.

    Attributes:
        ready: whether it can.
        reason: why not, in words that say what is awaited.
        failed: it will not come back by itself.
    """

    ready: bool
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Token counts of texts, and the texts cut to their limits.

    Attributes:
        counts: one a text, as it was given.
        cut: one a text, each a prefix of it within its limit; empty where no limits were given.
    """

    counts: tuple[int, ...]
    cut: tuple[str, ...] = ()


Report = Callable[[EngineHealth], None]
"""Is told whenever an engine's health changes, in the event loop's thread."""


class Engine(ABC):
    """One engine; all methods belong to one event loop."""

    @abstractmethod
    async def start(self, report: Report) -> None:
        """Bring the engine up; return when it can answer.

        Args:
            report: is told of every change of health from then on, and how far a slow start is.

        Raises:
            EngineFailed: it cannot be started; `stop` is still to be called.
        """

    @abstractmethod
    async def stop(self) -> None:
        """End the engine and all that it started. What runs fails with `EngineLost`. Calling it again does nothing."""

    @property
    @abstractmethod
    def facts(self) -> EngineFacts:
        """What the engine is; only after `start`."""

    @property
    @abstractmethod
    def health(self) -> EngineHealth:
        """Whether it can answer now."""

    @property
    @abstractmethod
    def loaded(self) -> tuple[str, ...]:
        """Names of the adapters that questions may name now, sorted."""

    @abstractmethod
    async def infer(self, question: Question, on_text: OnText) -> Answer:
        """Answer one question.

        Args:
            question: what is asked.
            on_text: is handed each piece of the answer as it is decoded.

        Raises:
            AdapterNotLoaded: the adapter is not loaded.
            ContextExceeded: the prompt is too long.
            RequestInvalid: the engine cannot make sense of it, its schema for example.
            WrongWeights: other weights answered.
            EngineLost: the engine died or is not up.
        """

    @abstractmethod
    async def tokenize(self, texts: Sequence[str], limits: Sequence[int] = ()) -> TokenCounts:
        """Count texts by the model's tokenizer and cut them.

        Args:
            texts: what is counted.
            limits: tokens that text i may keep, each 0 or more; empty only counts.
        """

    @abstractmethod
    async def load(self, adapter: str, folder: Path) -> None:
        """Make an adapter usable; return when it is. Loading a loaded one does nothing.

        Args:
            adapter: its name, which stands for its content.
            folder: with peft's `adapter_config.json` and `adapter_model.safetensors`; read until `unload`.

        Raises:
            AdapterRefused: the engine cannot serve it.
            EngineLost: the engine died meanwhile.
        """

    @abstractmethod
    async def unload(self, adapter: str) -> None:
        """Take an adapter from new questions. Unloading one that is not loaded does nothing."""

    @abstractmethod
    async def metrics(self) -> Mapping[str, float]:
        """Return the engine's own figures by its own names and `requests_running`; empty where it keeps none."""
