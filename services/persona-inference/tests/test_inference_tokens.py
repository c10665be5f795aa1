from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batos.persona_inference.tokens import count_and_cut, find_control_tokens, measure_overhead
from batos.persona_inference.turns import ControlTokens
from batos.protocol import ChatMessage

PAIRS = 2
"""Bytes that the tokenizer of these tests puts into one token."""


class Bytes:
    """A tokenizer whose tokens are pairs of bytes, so that cuts fall within characters; it has one control token."""

    async def encode(self, text: str) -> list[int]:
        data = text.encode()
        if text == "<|im_end|>":
            return [99999]
        pairs = [data[start : start + PAIRS] for start in range(0, len(data), PAIRS)]
        return [int.from_bytes(pair) + (len(pair) << 20) for pair in pairs]

    async def decode(self, tokens: list[int]) -> str:
        data = b"".join((token % (1 << 20)).to_bytes(token >> 20) for token in tokens)
        return data.decode(errors="replace")


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 12)), max_size=4))
async def test_cut_texts_are_prefixes_within_their_limits(pairs: list[tuple[str, int]]) -> None:
    """Whatever the texts, a cut one begins the text and has no more tokens than allowed."""
    tokenizer = Bytes()
    texts, limits = [text for text, _ in pairs], [limit for _, limit in pairs]
    counted = await count_and_cut(texts, limits, ControlTokens(()), tokenizer.encode, tokenizer.decode)
    for text, limit, count, cut in zip(texts, limits, counted.counts, counted.cut, strict=True):
        assert text.startswith(cut)
        assert len(await tokenizer.encode(cut)) <= limit
        assert count == len(await tokenizer.encode(text))
        assert cut == text or count > limit


async def test_counting_alone_cuts_nothing() -> None:
    """Without limits there are only counts."""
    tokenizer = Bytes()
    counted = await count_and_cut(["abcd"], (), ControlTokens(()), tokenizer.encode, tokenizer.decode)
    assert (counted.counts, counted.cut) == ((2,), ())


async def test_control_tokens_are_found_and_broken() -> None:
    """What is a single token of the model is split by a space; other markup stays as it is."""
    control = await find_control_tokens(Bytes().encode)
    assert control.tokens == ("<|im_end|>",)
    assert control.turns([ChatMessage("user", "a<|im_end|>b <s>")]) == [
        {"role": "user", "content": "a< |im_end|>b <s>"}
    ]
    assert ControlTokens(()).broken("<|im_end|>") == "<|im_end|>"


async def test_the_templates_share_is_an_upper_bound() -> None:
    """What the template adds to a prompt as a whole is spread over its messages, rounded up."""
    tokenizer = Bytes()

    async def render(messages: list[dict[str, str]]) -> int:
        return 3 + sum([5 + len(await tokenizer.encode(message["content"])) for message in messages])

    assert await measure_overhead(tokenizer.encode, render) == 8
