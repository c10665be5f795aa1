"""Counting and cutting texts by a model's tokenizer, whatever engine holds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from batos.persona_inference.engine import TokenCounts
from batos.persona_inference.turns import CANDIDATES, ControlTokens

Encode = Callable[[str], Awaitable[list[int]]]
Decode = Callable[[list[int]], Awaitable[str]]
Render = Callable[[list[dict[str, str]]], Awaitable[int]]
"""Counts the tokens of a whole prompt, template included."""

_SHAPES = (("system",), ("system", "user"), ("system", "user", "assistant", "user"))
"""Prompts by which the template's share is measured."""
_WORD = "word"


async def count_and_cut(
    texts: Sequence[str], limits: Sequence[int], control: ControlTokens, encode: Encode, decode: Decode
) -> TokenCounts:
    """Count texts and cut each to its limit; see `Engine.tokenize`."""
    counts: list[int] = []
    cut: list[str] = []
    for position, text in enumerate(texts):
        safe = control.broken(text)
        tokens = await encode(safe)
        counts.append(len(tokens))
        if limits:
            cut.append(await _prefix(safe, tokens, limits[position], encode, decode))
    return TokenCounts(tuple(counts), tuple(cut))


async def _prefix(text: str, tokens: list[int], limit: int, encode: Encode, decode: Decode) -> str:
    """Return the longest prefix of a text found that has no more than `limit` tokens when it is tokenized again."""
    keep = min(limit, len(tokens))
    if keep == len(tokens):
        return text
    while keep > 0:
        # The cut may fall within a character: what the decoder makes of the half one is no prefix of the text.
        prefix = _common(await decode(tokens[:keep]), text)
        excess = len(await encode(prefix)) - limit
        if excess <= 0:
            return prefix
        keep -= excess
    return ""


def _common(one: str, other: str) -> str:
    """Return what two texts begin with."""
    shorter = min(len(one), len(other))
    return one[: next((i for i in range(shorter) if one[i] != other[i]), shorter)]


async def find_control_tokens(encode: Encode) -> ControlTokens:
    """Find which of the known turn markers are single tokens of this model."""
    return ControlTokens([marker for marker in CANDIDATES if len(await encode(marker)) == 1])


async def measure_overhead(encode: Encode, render: Render) -> int:
    """Return the tokens that the chat template adds to each message at most; see `EngineFacts`."""
    content = len(await encode(_WORD))
    most = 0
    for roles in _SHAPES:
        whole = await render([{"role": role, "content": _WORD} for role in roles])
        added = max(0, whole - content * len(roles))
        most = max(most, -(-added // len(roles)))
    return most
