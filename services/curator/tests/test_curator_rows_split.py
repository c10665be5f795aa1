"""Rows out of log records, and their division into two sides that have nothing in common."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batos.curator.ingest import decode_lines, position_after
from batos.curator.rows import chat, rows_of
from batos.curator.split import clusters, deduplicated, normalized, split
from batos.mind.datasets import Row
from batos.mind.log_memory import Position
from batos.protocol import ChatMessage, EventType, LogChunk, LogRecord, encode_record

WORDS = [
    "tar",
    "mast",
    "rope",
    "keel",
    "sail",
    "oar",
    "deck",
    "helm",
    "hull",
    "anchor",
    "tide",
    "gull",
    "wind",
    "salt",
    "lamp",
    "net",
]


def record(seq: int, event: EventType, **fields: object) -> LogRecord:
    return LogRecord(
        timestamp="2026-01-01T00:00:00Z",
        seq=seq,
        prev_hash="0" * 64,
        event_type=event,
        incarnation="one",
        mission_id="m",
        **fields,  # type: ignore[arg-type]
    )


def asked(seq: int, question: str, prompt_hash: str = "h") -> LogRecord:
    prompt = [{"role": "system", "content": "You are BRICK."}, {"role": "user", "content": question}]
    return record(seq, EventType.LLM_PROMPT, prompt_hash=prompt_hash, llm_prompt=json.dumps(prompt))


def answered(seq: int, text: str, prompt_hash: str = "h", persona: str = "BRICK", **detail: str) -> LogRecord:
    return record(
        seq,
        EventType.LLM_RESPONSE,
        prompt_hash=prompt_hash,
        llm_response_raw=text,
        active_persona=persona,
        detail=detail,
    )


def row(number: int, question: str, answer: str, cycle: str = "") -> Row:
    return Row(
        messages=(
            ChatMessage("system", "You are BRICK."),
            ChatMessage("user", question),
            ChatMessage("assistant", answer),
        ),
        cycle_id=cycle or f"cycle-{number}",
        mission_id=f"mission-{number}",
        seq=number,
        incarnation="one",
    )


def test_an_answer_and_its_prompt_are_a_row() -> None:
    """The row holds system, user and assistant as logged, and where the answer stands in the log."""
    found = rows_of("BRICK", {"c1": [asked(4, "Mend the kettle."), answered(5, "Find it first.")]})
    (only,) = found.rows
    assert [(message.role, message.content) for message in only.messages] == [
        ("system", "You are BRICK."),
        ("user", "Mend the kettle."),
        ("assistant", "Find it first."),
    ]
    assert (only.cycle_id, only.mission_id, only.seq, only.incarnation) == ("c1", "m", 5, "one")
    assert found.counts["answers"] == 1


def test_what_cannot_be_learned_from_is_left_out_and_counted() -> None:
    """Answers of others do not count; those without prompt, empty, cut or refused are left out with their reason."""
    refusal = record(11, EventType.VALIDATION_FAILURE, prompt_hash="r")
    records = [
        asked(0, "One"),
        answered(1, "by another", persona="ROBIN"),
        answered(2, "nobody asked", prompt_hash="unknown"),
        answered(3, "  "),
        answered(4, "goes on and", finish_reason="length"),
        asked(5, "Two", "r"),
        answered(6, "not in order", "r"),
        refusal,
        asked(12, "Three", "good"),
        answered(13, "in order", "good", finish_reason="stop"),
    ]
    found = rows_of("BRICK", {"c": records})
    assert [only.seq for only in found.rows] == [13]
    assert found.counts == {
        "answers": 5,
        "without a prompt": 1,
        "empty": 1,
        "cut at the limit": 1,
        "refused by validation": 1,
    }


@pytest.mark.parametrize("prompt", ["", "just words", "[]", '[{"role": "assistant", "content": "x"}]', '{"a": 1}'])
def test_a_prompt_of_another_shape_gives_no_row(prompt: str) -> None:
    """A logged prompt that is no list of turns ending in a question gives nothing."""
    assert chat(prompt) == ()


def test_a_line_that_is_no_record_is_counted() -> None:
    """One bad line does not hide the good ones around it."""
    good = encode_record(record(0, EventType.VESSEL))
    found = decode_lines(good + b"\n{torn\n\n" + good + b"\n")
    assert len(found.records) == 2
    assert found.undecodable == 1


def test_reading_goes_on_in_the_next_segment() -> None:
    """At the end of a closed segment the next one is read from its beginning."""
    chunk = LogChunk(segment="a", offset=0, data=b"", next_offset=9)
    assert position_after(chunk) == Position("a", 9)
    closed = LogChunk(segment="a", offset=0, data=b"", next_offset=9, next_segment="b")
    assert position_after(closed) == Position("b", 0)


def test_case_and_punctuation_do_not_make_an_example_another() -> None:
    """Rows that say the same but for case, punctuation and spacing are one; the first stays."""
    rows = [row(0, "Mend the kettle!", "Find it."), row(1, "mend  THE kettle", "find it"), row(2, "Sell it.", "No.")]
    assert deduplicated(rows) == [rows[0], rows[2]]
    assert normalized("Mend, the KETTLE!") == ("mend", "the", "kettle")


def test_rows_of_one_cycle_belong_together() -> None:
    """Whatever a cycle's rows say, they are one cluster."""
    rows = [row(0, "alpha beta gamma", "delta", "c"), row(1, "one two three", "four", "c"), row(2, "nothing", "alike")]
    assert clusters(rows) == [[0, 1], [2]]


def test_nearly_the_same_words_belong_together() -> None:
    """Questions that differ in a word of many, and answers that do, are near-duplicates; a shared template is none."""
    long = "why do wooden ships need tar between all of their planks before they go to sea"
    rows = [
        row(0, long, "to keep the water out"),
        row(1, long.replace("tar", "pitch"), "a quite different answer here"),
        row(2, "what is a lighthouse keeper paid for", "for keeping the lamp clean and lit in every weather all year"),
        row(3, "who works alone", "for keeping the lamp clean and lit in every weather all night"),
        row(4, "name a small boat that leaks a little", "The Colander"),
    ]
    assert clusters(rows) == [[0, 1], [2, 3], [4]]
    template = "Task number {} of the day, take it apart into steps and name each of them in order please"
    words = ["kettle", "ladder", "bicycle", "lantern", "compass", "anchor", "umbrella", "whistle", "saddle", "bucket"]
    apart = [row(number, template.format(word), f"the {word} {word}s") for number, word in enumerate(words)]
    assert len(clusters(apart)) == len(apart)


def test_a_question_asked_again_and_again_is_one_cluster() -> None:
    """What most rows have in common is no template where nothing else is in them."""
    question = "why do wooden ships need tar between all of their planks before they go to sea at last {}"
    rows = [row(number, question.format(word), f"{word} " * 3) for number, word in enumerate(WORDS)]
    assert len(clusters(rows)) == 1


def test_too_few_clusters_cannot_be_divided() -> None:
    """Where all rows are of one cycle, or one side would be too small, there is no division."""
    rows = [row(number, f"question {number}", f"answer {number}", "c") for number in range(10)]
    assert split(rows, held_out_share=0.2, min_held_out=2) is None


def corpus(seed: int, count: int) -> list[Row]:
    """Rows of which many are near-duplicates of others or of the same cycle."""
    rng = random.Random(seed)
    questions: list[str] = []
    rows = []
    for number in range(count):
        if questions and rng.random() < 0.4:
            words = rng.choice(questions).split()
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=12)
        questions.append(" ".join(words))
        cycle = f"cycle-{rng.randrange(count)}"
        rows.append(row(number, questions[-1], " ".join(rng.choices(WORDS, k=8)), cycle))
    return rows


@given(st.integers(0, 10_000), st.integers(8, 40))
def test_no_cluster_stands_on_both_sides(seed: int, count: int) -> None:
    """Every row is on one side, no cluster on both, the held-out side is large enough and the smaller one."""
    rows = corpus(seed, count)
    sides = split(rows, held_out_share=0.2, min_held_out=2)
    if sides is None:
        return
    assert sorted([*sides.train, *sides.held_out], key=lambda row: row.seq) == rows
    held_out = {row.seq for row in sides.held_out}
    for cluster in clusters(rows):
        assert len({rows[index].seq in held_out for index in cluster}) == 1
    assert 2 <= len(sides.held_out) < len(sides.train)


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_division_does_not_depend_on_the_order(seed: int, shuffler: random.Random) -> None:
    """The same rows in another order are divided the same way."""
    rows = corpus(seed, 24)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    one, other = (split(given, held_out_share=0.2, min_held_out=2) for given in (rows, shuffled))
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert {row.seq for row in one.held_out} == {row.seq for row in other.held_out}
