"""The token governor: no prompt ever exceeds the model's context. It is cut by rule, and the cut is told.

The rule: memory gives way first, then the partial answers in equal shares down to a few lines each, then the mission's
text, then whatever is left of the partial answers. What a live method marked as fixed is never cut; where it alone does
not fit, the thought fails and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from batos.kernel.errors import KernelError
from batos.kernel.prompt import Part, PartKind, Prompt, Turn
from batos.kernel.ticket import Engine
from batos.protocol import ChatMessage

MARKER = " […]"
"""Stands where text was cut away."""
ORDER: tuple[PartKind, ...] = ("memory", "partial", "mission")
"""Who gives way first."""
STEPS: tuple[tuple[PartKind, int], ...] = (
    ("memory", 0),
    ("partial", 32),
    ("mission", 64),
    ("partial", 0),
    ("mission", 0),
)
"""Which kind is cut down to how many tokens a part before the next step is taken."""
ANSWER_SHARE = 0.5
"""At most this share of the context is kept free for the answer."""
ROUNDS = 6
"""Counts of a joined text may differ a little from the sum of its parts, so that a cut may need a second look."""

Place = tuple[int, int]
"""Turn and part within it."""


class PromptTooLarge(KernelError):  # noqa: N818 - it says what the prompt is
    """What may not be cut is larger than the model's context."""


@dataclass(frozen=True)
class Cut:
    """What was taken from one part of a prompt, in tokens."""

    kind: PartKind
    index: int
    """Counts from 0 among the parts of this kind."""
    before: int
    after: int


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits."""

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    prompt_tokens: int
    """Exact count with the chat template's overhead."""
    budget: int
    """Tokens that the prompt might have."""
    cuts: tuple[Cut, ...] = ()


class Governor:
    """Fits prompts into one model's context, by the model's own count.

    Args:
        engine: counts and cuts.
        context_tokens: what one request may use, prompt and answer together.
    """

    def __init__(self, engine: Engine, context_tokens: int) -> None:
        self._engine = engine
        self._context = context_tokens

    def fit(self, prompts: Sequence[Prompt]) -> list[Fitted]:
        """Return each prompt as messages that leave room for its answer; one count for all of them.

        Raises:
            PromptTooLarge: the fixed parts of a prompt alone do not fit.
        """
        texts = [turn.text for prompt in prompts for turn in prompt.turns]
        counted = self._engine.tokenize(texts)
        counts = iter(counted.counts)
        fitted = []
        for prompt in prompts:
            answer = min(prompt.max_tokens, int(self._context * ANSWER_SHARE))
            # The template also opens the answer's own message, hence one more than there are turns.
            overhead = counted.overhead_per_message * (len(prompt.turns) + 1)
            budget = self._context - answer
            tokens = overhead + sum(next(counts) for _ in prompt.turns)
            if tokens <= budget:
                fitted.append(Fitted(_messages(prompt.turns), answer, tokens, budget))
            else:
                fitted.append(self._cut(prompt, answer, overhead, tokens, budget))
        return fitted

    def _cut(self, prompt: Prompt, answer: int, overhead: int, tokens: int, budget: int) -> Fitted:
        places = [
            (at, number)
            for kind in ORDER
            for at, turn in enumerate(prompt.turns)
            for number, part in enumerate(turn.parts)
            if part.kind == kind and part.text
        ]
        marker, *sizes = self._engine.tokenize(
            [MARKER, *(prompt.turns[at].parts[number].text for at, number in places)]
        ).counts
        before = dict(zip(places, sizes, strict=True))
        allowed = dict(before)
        turns = prompt.turns
        for _ in range(ROUNDS):
            excess = tokens - budget
            if excess <= 0:
                break
            allowed = _lowered(prompt.turns, allowed, excess)
            turns = self._shortened(prompt.turns, before, allowed, marker)
            tokens = overhead + sum(self._engine.tokenize([turn.text for turn in turns]).counts)
        if tokens > budget:
            raise PromptTooLarge(
                "prompt_too_large",
                f"step {prompt.step} of {prompt.persona} needs {tokens} tokens where {budget} are free "
                f"(context {self._context}, {answer} kept for the answer), and nothing more of it may be cut",
                "shorten the persona's prompts, or give the engine a larger context",
            )
        cuts = []
        for kind in ORDER:
            alike = [place for place in places if prompt.turns[place[0]].parts[place[1]].kind == kind]
            cuts += [
                Cut(kind, index, before[place], allowed[place])
                for index, place in enumerate(alike)
                if allowed[place] < before[place]
            ]
        return Fitted(_messages(turns), answer, tokens, budget, tuple(cuts))

    def _shortened(
        self, turns: tuple[Turn, ...], before: dict[Place, int], allowed: dict[Place, int], marker: int
    ) -> tuple[Turn, ...]:
        short = [place for place in before if allowed[place] < before[place]]
        texts = [turns[at].parts[number].text for at, number in short]
        limits = [max(0, allowed[place] - marker) for place in short]
        cut = dict(zip(short, self._engine.tokenize(texts, limits).cut, strict=True))
        shortened = list(turns)
        for at, turn in enumerate(turns):
            parts = tuple(
                _marked(part, cut[at, number], allowed[at, number] > marker) if (at, number) in cut else part
                for number, part in enumerate(turn.parts)
            )
            shortened[at] = replace(turn, parts=parts)
        return tuple(shortened)


def _marked(part: Part, text: str, room: bool) -> Part:
    """Return a cut part; where there is no room even for the marker, nothing is left of it."""
    return Part(part.kind, f"{text.rstrip()}{MARKER}" if room else "")


def _lowered(turns: tuple[Turn, ...], allowed: dict[Place, int], excess: int) -> dict[Place, int]:
    """Return allowances that are `excess` tokens lower, taken step after step in equal shares."""
    lowered = dict(allowed)
    for kind, least in STEPS:
        group = [place for place in allowed if turns[place[0]].parts[place[1]].kind == kind]
        total = sum(lowered[place] for place in group)
        if excess <= 0 or total == 0:
            continue
        level = max(least, share_level([lowered[place] for place in group], max(0, total - excess)))
        for place in group:
            lowered[place] = min(lowered[place], level)
        excess -= total - sum(lowered[place] for place in group)
    return lowered


def share_level(sizes: Sequence[int], total: int) -> int:
    """Return the largest level such that sizes cut down to it add up to no more than `total`."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= total:
            low = middle
        else:
            high = middle - 1
    return low


def _messages(turns: Sequence[Turn]) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage(role=turn.role, content=turn.text) for turn in turns)
