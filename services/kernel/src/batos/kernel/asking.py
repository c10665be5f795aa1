"""How a thought asks its prompts: fitted to the context, logged, answered once and by the right weights."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import msgspec
import stamina

from batos.kernel.chronicle import Chronicle
from batos.kernel.errors import ThoughtFailed
from batos.kernel.governor import Governor
from batos.kernel.prompt import Answer, Prompt, prompt_hash
from batos.kernel.ticket import Engine, Ticket
from batos.protocol import (
    EngineDescription,
    EventType,
    FacetAnswered,
    FacetAsked,
    Infer,
    Inferred,
    PromptLabel,
    RequestTimeout,
    Sampling,
    Transient,
    Usage,
)

T = TypeVar("T")

MOST_AT_ONCE = 64
MOST_PROMPTS = 512
"""Prompts that a thought asks at most: at once, and in all."""
ENGINE_ATTEMPTS = 4
"""How often the engine is asked for the same at most, all within one timeout."""
LEAST_TIMEOUT_S = 1.0
"""Less time than this is not worth another attempt."""


@dataclass(frozen=True)
class Voice:
    """What a persona's DNA says about how it is asked on the engine's model."""

    temperature: float
    adapter: str
    """Serving name; empty asks the base model."""


@dataclass(frozen=True)
class _Question:
    key: str
    prompt: Prompt
    request: Infer
    hash: str


class Asking:
    """Asks for one cycle. Answers are remembered, so that a thought that is thought again asks nothing twice.

    Args:
        ticket: whose thought it is.
        engine: answers.
        chronicle: where prompts and answers are told.
        timeout_s: how long the answers to one batch of prompts are waited for, in seconds.

    Attributes:
        personas: who was heard, in the order of their first word.
    """

    def __init__(self, ticket: Ticket, engine: Engine, chronicle: Chronicle, timeout_s: float) -> None:
        self._ticket = ticket
        self._engine = engine
        self._chronicle = chronicle
        self._timeout_s = timeout_s
        self._answers: dict[str, Inferred] = {}
        self._model: EngineDescription | None = None
        self.personas: list[str] = []

    @property
    def model(self) -> EngineDescription:
        """The engine's model, the same for the whole cycle."""
        if self._model is None:
            self._model = self._patiently("EngineDescribe", lambda _: self._engine.describe())
        return self._model

    @property
    def usage(self) -> Usage:
        """Tokens of all answers so far."""
        return Usage(
            prompt_tokens=sum(found.usage.prompt_tokens for found in self._answers.values()),
            completion_tokens=sum(found.usage.completion_tokens for found in self._answers.values()),
        )

    def ask(self, prompts: Sequence[tuple[Prompt, Voice]]) -> list[Answer]:
        """Ask all prompts at once and wait for all answers. What is asked twice is asked and told once.

        Raises:
            PromptTooLarge: a prompt cannot be cut to the context.
            ThoughtFailed: there are too many, or an answer came from other weights than were asked.
            ProtocolError: the engine has no answer.
        """
        if len(prompts) > MOST_AT_ONCE:
            raise _too_many(f"{len(prompts)} prompts at once", MOST_AT_ONCE)
        questions = self._questions(prompts)
        different: dict[str, _Question] = {}
        for question in questions:
            different.setdefault(question.key, question)
        open_ones = [question for key, question in different.items() if key not in self._answers]
        if len(self._answers) + len(open_ones) > MOST_PROMPTS:
            raise _too_many(f"{len(self._answers) + len(open_ones)} prompts in one thought", MOST_PROMPTS)
        for question in open_ones:
            self._tell_prompt(question)
        if open_ones:
            for question, found in zip(open_ones, self._infer([q.request for q in open_ones]), strict=True):
                self._tell_answer(question, found)
                self._check_weights(question, found)
                self._answers[question.key] = found
        return [self._answer(question, self._answers[question.key]) for question in questions]

    def heard(self, persona: str) -> None:
        """Remember that a persona took part."""
        if persona not in self.personas:
            self.personas.append(persona)

    def _questions(self, prompts: Sequence[tuple[Prompt, Voice]]) -> list[_Question]:
        governor = Governor(self._engine, self.model.context_tokens)
        fitted = self._patiently("Tokenize", lambda _: governor.fit([prompt for prompt, _ in prompts]))
        questions = []
        for (prompt, voice), fit in zip(prompts, fitted, strict=True):
            self.heard(prompt.persona)
            if fit.cuts:
                self._chronicle.record(
                    EventType.PROMPT_CUT,
                    persona=prompt.persona,
                    detail={
                        **_place(prompt),
                        "cuts": [{**asdict(cut), "cut_tokens": cut.before - cut.after} for cut in fit.cuts],
                        "prompt_tokens": fit.prompt_tokens,
                        "budget_tokens": fit.budget,
                    },
                )
            digest = prompt_hash(fit.messages, prompt.schema, voice.adapter)
            request = Infer(
                messages=fit.messages,
                sampling=Sampling(
                    temperature=voice.temperature,
                    max_tokens=fit.max_tokens,
                    top_p=prompt.top_p,
                    repeat_penalty=prompt.repeat_penalty,
                    seed=seed(self._ticket.mission_id, prompt.step, prompt.attempt),
                ),
                adapter=voice.adapter,
                schema=prompt.schema,
                label=PromptLabel(
                    mission_id=self._ticket.mission_id,
                    cycle_id=self._ticket.cycle_id,
                    state=self._chronicle.state,
                    step=prompt.step,
                    persona=prompt.persona,
                    facet=prompt.facet,
                ),
            )
            questions.append(_Question(f"{prompt.step}/{prompt.attempt}/{digest}", prompt, request, digest))
        return questions

    def _infer(self, requests: Sequence[Infer]) -> list[Inferred]:
        return self._patiently("Infer", lambda left_s: self._engine.infer_all(requests, left_s))

    def _patiently(self, request: str, call: Callable[[float], T]) -> T:
        """Call the engine, again after a passing failure while there is time; the call is told how much is left."""
        deadline = time.monotonic() + self._timeout_s
        for attempt in stamina.retry_context(
            on=lambda wrong: isinstance(wrong, Transient) and deadline - time.monotonic() > LEAST_TIMEOUT_S,
            attempts=ENGINE_ATTEMPTS,
            timeout=self._timeout_s,
        ):
            with attempt:
                return call(max(LEAST_TIMEOUT_S, deadline - time.monotonic()))
        raise RequestTimeout("inference", request, self._timeout_s)

    def _tell_prompt(self, question: _Question) -> None:
        prompt, request = question.prompt, question.request
        self._chronicle.record(
            EventType.LLM_PROMPT,
            persona=prompt.persona,
            adapter=request.adapter,
            prompt_hash=question.hash,
            llm_prompt=msgspec.json.encode(request.messages).decode(),
            detail={
                **_place(prompt),
                "schema": prompt.schema is not None,
                "seed": request.sampling.seed,
                "temperature": request.sampling.temperature,
                "max_tokens": request.sampling.max_tokens,
            },
        )
        self._chronicle.publish(FacetAsked(label=request.label, adapter=request.adapter))

    def _tell_answer(self, question: _Question, found: Inferred) -> None:
        self._chronicle.record(
            EventType.LLM_RESPONSE,
            persona=question.prompt.persona,
            adapter=found.adapter,
            prompt_hash=question.hash,
            llm_response_raw=found.text,
            usage=found.usage,
            duration_ms=found.duration_ms,
            detail={
                **_place(question.prompt),
                "finish_reason": found.finish_reason,
                "engine": found.engine,
                "model": found.model,
                "model_hash": found.model_hash,
            },
        )
        self._chronicle.publish(
            FacetAnswered(
                label=question.request.label, usage=found.usage, duration_ms=found.duration_ms, adapter=found.adapter
            )
        )

    def _check_weights(self, question: _Question, found: Inferred) -> None:
        asked = question.request.adapter
        if found.adapter != asked:
            raise ThoughtFailed(
                "adapter_mismatch",
                f"{question.prompt.persona} was asked with {asked or 'the base model'} in step {question.prompt.step}, "
                f"and {found.adapter or 'the base model'} answered",
                "see `batos status` for the adapters that each engine has loaded",
            )
        if found.model_hash != self.model.model_hash:
            raise ThoughtFailed(
                "model_changed",
                f"the thought began on {self.model.model} ({self.model.model_hash[:12]}), and {found.model} "
                f"({found.model_hash[:12]}) answered",
                "give all engines of a fleet the same model, then ask the mission again",
            )

    def _answer(self, question: _Question, found: Inferred) -> Answer:
        return Answer(
            text=found.text,
            persona=question.prompt.persona,
            facet=question.prompt.facet,
            finish_reason=found.finish_reason,
            prompt_hash=question.hash,
            model=found.model,
            adapter=found.adapter,
        )


def _too_many(what: str, most: int) -> ThoughtFailed:
    return ThoughtFailed("too_many_prompts", f"{what} are too many", f"ask {most} at most")


def _place(prompt: Prompt) -> dict[str, str | int]:
    return {"step": prompt.step, "attempt": prompt.attempt, "facet": prompt.facet}


def seed(mission_id: str, step: str, attempt: int) -> int:
    """Return the seed of a draw: the same whenever this attempt of this step is thought again, 0 to 2**31 - 1."""
    return int.from_bytes(hashlib.sha256(f"{mission_id}/{step}/{attempt}".encode()).digest()[:4], "big") >> 1
