"""No prompt exceeds the model's context: who gives way, in which order, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batos.kernel.governor import MARKER, Governor, PromptTooLarge, share_level
from batos.kernel.prompt import Prompt, turn
from batos.protocol import EventType


def words(count: int, word: str = "w") -> str:
    return " ".join([word] * count)


def prompt(*, memory: int = 0, partials: tuple[int, ...] = (), mission: int = 10, fixed: int = 5) -> Prompt:
    return Prompt(
        persona="ROBIN",
        step="weave",
        turns=(
            turn("system", words(fixed, "f"), ("memory", words(memory, "m")), *_partials(partials)),
            turn("user", ("mission", words(mission, "q"))),
        ),
        max_tokens=20,
    )


def _partials(sizes: tuple[int, ...]) -> list[Any]:
    return [("partial", words(size, f"p{place}")) for place, size in enumerate(sizes)]


def test_what_fits_is_left_alone(engine: Any) -> None:
    """A prompt within its budget is passed on word for word, counted with the template's overhead."""
    (fitted,) = Governor(engine, 100).fit([prompt(partials=(7,))])
    assert fitted.cuts == ()
    assert fitted.prompt_tokens == 5 + 7 + 10 + 3 * 2
    assert (fitted.max_tokens, fitted.budget) == (20, 80)


def test_memory_gives_way_first(engine: Any) -> None:
    """Memory is cut before anything else is touched."""
    (fitted,) = Governor(engine, 100).fit([prompt(memory=60, partials=(20,), mission=20)])
    assert {cut.kind for cut in fitted.cuts} == {"memory"}
    assert fitted.prompt_tokens <= fitted.budget == 80
    assert fitted.messages[0].content.count("p0") == 20
    assert MARKER in fitted.messages[0].content


def test_partial_answers_give_way_in_equal_shares(engine: Any) -> None:
    """Once memory is gone, long partial answers are cut to one length and short ones stay whole."""
    (fitted,) = Governor(engine, 150).fit([prompt(memory=30, partials=(60, 50, 6), mission=20)])
    assert [(cut.kind, cut.index) for cut in fitted.cuts] == [("memory", 0), ("partial", 0), ("partial", 1)]
    first, second = (cut.after for cut in fitted.cuts[1:])
    assert first == second
    assert "m" not in fitted.messages[0].content.split()
    assert fitted.messages[0].content.count("p2") == 6
    assert fitted.messages[1].content == words(20, "q")


def test_mission_gives_way_last(engine: Any) -> None:
    """A mission that is larger than the context is cut and marked, and the rest is still there."""
    (fitted,) = Governor(engine, 100).fit([prompt(mission=500)])
    (cut,) = fitted.cuts
    assert (cut.kind, cut.before) == ("mission", 500)
    assert fitted.messages[1].content.endswith(MARKER)
    assert fitted.prompt_tokens <= fitted.budget


def test_partial_answers_keep_a_few_lines(engine: Any) -> None:
    """Before a large mission drives the partial answers out, it is cut itself."""
    (fitted,) = Governor(engine, 200).fit([prompt(partials=(60, 60), mission=500)])
    assert [(cut.kind, cut.after) for cut in fitted.cuts[:2]] == [("partial", 32), ("partial", 32)]
    assert fitted.cuts[2].kind == "mission"
    assert fitted.cuts[2].after > 64


def test_fixed_parts_are_never_cut(engine: Any) -> None:
    """Where the fixed parts alone are too large, the prompt is refused, with the figures."""
    with pytest.raises(PromptTooLarge, match="where 80 are free"):
        Governor(engine, 100).fit([prompt(fixed=200)])


def test_answer_never_takes_more_than_half(engine: Any) -> None:
    """On a tiny context the answer's bound gives way, so that there is room for a question."""
    (fitted,) = Governor(engine, 30).fit([prompt(mission=4, fixed=2)])
    assert (fitted.max_tokens, fitted.budget) == (15, 15)


def test_prompts_are_counted_together(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts of a batch are counted by one request where none has to be cut."""
    counted = []
    count = engine.tokenize
    monkeypatch.setattr(engine, "tokenize", lambda *texts: (counted.append(texts), count(*texts))[1])
    assert len(Governor(engine, 100).fit([prompt(), prompt(), prompt()])) == 3
    assert len(counted) == 1


@given(sizes=st.lists(st.integers(0, 300), max_size=4), memory=st.integers(0, 300), mission=st.integers(0, 300))
def test_nothing_ever_exceeds_the_context(sizes: list[int], memory: int, mission: int) -> None:
    """Whatever the parts' sizes, the fitted prompt and its answer fit, and what was cut adds up."""
    from types import SimpleNamespace

    def tokenize(texts: Any, limits: Any = ()) -> Any:
        cut = tuple(" ".join(t.split()[:n]) for t, n in zip(texts, limits, strict=True)) if limits else ()
        return SimpleNamespace(counts=tuple(len(t.split()) for t in texts), cut=cut, overhead_per_message=2)

    asked = prompt(memory=memory, partials=tuple(sizes), mission=mission)
    (fitted,) = Governor(SimpleNamespace(tokenize=tokenize), 100).fit([asked])  # type: ignore[arg-type]
    real = sum(len(message.content.split()) for message in fitted.messages) + 3 * 2
    assert real == fitted.prompt_tokens <= 100 - fitted.max_tokens
    assert all(cut.after < cut.before for cut in fitted.cuts)
    if sum(sizes) + memory + mission + 5 + 6 <= 80:
        assert fitted.cuts == ()


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(0, 500))
def test_share_level_is_the_largest(sizes: list[int], total: int) -> None:
    """The level is the largest one that keeps the sum, and never above the largest size."""
    level = share_level(sizes, total)
    assert sum(min(size, level) for size in sizes) <= total or level == 0
    if level < max(sizes):
        assert sum(min(size, level + 1) for size in sizes) > total


def test_cut_is_told(mind: Any) -> None:
    """A mission that does not fit is thought about all the same, and the log says what was cut by how many tokens."""
    mind.engine.context_tokens = 1024
    assert mind.think(words(1500, "long")).outcome == "COMPLETE"
    cuts = mind.told.of(EventType.PROMPT_CUT)
    assert [record["detail"]["step"] for record in cuts] == ["plan", "facet-1", "facet-2", "weave"]
    for record in cuts:
        (cut,) = record["detail"]["cuts"]
        assert cut["kind"] == "mission"
        assert cut["cut_tokens"] == cut["before"] - cut["after"] > 0
    for asked in mind.engine.asked:
        used = sum(len(message.content.split()) + 2 for message in asked.messages) + 2
        assert used + asked.sampling.max_tokens <= 1024


def test_context_that_is_too_small_is_said(mind: Any) -> None:
    """An engine whose context cannot hold the decomposition prompt fails the thought with the reason."""
    mind.engine.context_tokens = 64
    outcome = mind.think()
    assert outcome.outcome == "FAILED"
    assert "larger context" in outcome.error
