"""The log in memory: every record exactly once, found again by cycle, persona and outcome."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batos.mind import PositionMoved, log_memory
from batos.mind.log_memory import START, Position
from batos.protocol import EventType, LogRecord
from batos.uvm import Image


def record(
    seq: int, event: EventType = EventType.STATE_TRANSITION, incarnation: str = "one", **fields: Any
) -> LogRecord:
    return LogRecord(
        timestamp="2026-01-01T00:00:00Z",
        seq=seq,
        prev_hash="0" * 64,
        event_type=event,
        incarnation=incarnation,
        **fields,
    )


def take(image: Image, records: list[LogRecord], read_from: Position, read_to: Position) -> log_memory.Ingested:
    return image.run(
        lambda root: log_memory.ingest(root, kernel="k", read_from=read_from, read_to=read_to, records=records)
    )


def everything(image: Image) -> list[LogRecord]:
    with image.snapshot() as root:
        return list(log_memory.every_record(root))


def test_records_and_position_are_one(image: Image) -> None:
    """What was ingested is read back, and the position stands where reading goes on."""
    written = [record(seq, cycle_id="c1") for seq in range(3)]
    assert take(image, written, START, Position("a", 300)) == (3, 0, 0)
    assert everything(image) == written
    with image.snapshot() as root:
        assert log_memory.position(root, "k") == Position("a", 300)
        assert log_memory.position(root, "other") == START


def test_a_doubled_reader_is_stopped(image: Image) -> None:
    """Who read from a position that has moved takes nothing in and is told where it stands."""
    take(image, [record(0)], START, Position("a", 100))
    with pytest.raises(PositionMoved) as moved:
        take(image, [record(0)], START, Position("a", 100))
    assert (moved.value.expected, moved.value.found) == (("", 0), ("a", 100))
    assert len(everything(image)) == 1


def test_a_log_read_again_from_its_beginning_brings_nothing_twice(image: Image) -> None:
    """After a restart of the reading, records are known by incarnation and seq."""
    take(image, [record(0), record(1)], START, Position("a", 200))
    image.run(lambda root: log_memory.restart(root, "k"))
    again = [record(0), record(1), record(2), record(0, incarnation="two")]
    assert take(image, again, START, Position("b", 400)) == (2, 2, 0)
    assert [(found.incarnation, found.seq) for found in everything(image)] == [
        ("one", 0),
        ("one", 1),
        ("one", 2),
        ("two", 0),
    ]


def test_a_gap_is_counted(image: Image) -> None:
    """A jump in the sequence numbers is counted as missing records; what came is kept."""
    assert take(image, [record(0), record(4)], START, Position("a", 200)) == (2, 0, 3)


def test_cycles_are_found_by_outcome_and_persona(image: Image) -> None:
    """Cycles are found by how they ended and who answered in them; all their records come, from every batch."""
    first = [
        record(0, cycle_id="c1", mission_id="m1"),
        record(1, EventType.LLM_RESPONSE, cycle_id="c1", active_persona="BRICK"),
        record(2, EventType.LLM_RESPONSE, cycle_id="c2", active_persona="ROBIN"),
        record(3, EventType.VESSEL),
    ]
    second = [
        record(4, EventType.FINAL_OUTCOME, cycle_id="c1", final_outcome="COMPLETE"),
        record(5, EventType.FINAL_OUTCOME, cycle_id="c2", final_outcome="COMPLETE"),
        record(6, EventType.LLM_RESPONSE, cycle_id="c3", active_persona="BRICK"),
        record(7, EventType.FINAL_OUTCOME, cycle_id="c3", final_outcome="FAILED"),
    ]
    take(image, first, START, Position("a", 1))
    take(image, second, Position("a", 1), Position("a", 2))
    with image.snapshot() as root:
        assert log_memory.cycles(root) == ["c1", "c2"]
        assert log_memory.cycles(root, persona="brick") == ["c1"]
        assert log_memory.cycles(root, outcome="FAILED") == ["c3"]
        assert log_memory.records(root, ["c1"]) == {"c1": [first[0], first[1], second[0]]}
        assert log_memory.records(root, ["c9"]) == {"c9": []}


def test_a_similar_cycle_is_another(image: Image) -> None:
    """A cycle whose id begins like another's is not taken for it."""
    take(image, [record(0, cycle_id="c1"), record(1, cycle_id="c10")], START, Position("a", 1))
    with image.snapshot() as root:
        assert [found.seq for found in log_memory.records(root, ["c1"])["c1"]] == [0]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30))
def test_whatever_is_read_again_every_record_is_there_once(spans: list[tuple[int, int]]) -> None:
    """Pieces of a log, overlapping in any way, leave each record at most once and in order."""
    root: dict[str, object] = {}
    position = START
    for number, (first, length) in enumerate(spans):
        piece = [record(seq) for seq in range(first, first + length)]
        following = Position("a", number + 1)
        log_memory.ingest(root, kernel="k", read_from=position, read_to=following, records=piece)
        position = following
    sequence = [found.seq for found in log_memory.every_record(root)]
    assert sequence == sorted(set(sequence))
    if spans:
        assert max(sequence, default=-1) == max((first + length - 1 for first, length in spans if length), default=-1)


def test_a_thought_that_was_undone_did_not_end_complete(image: Image) -> None:
    """Whatever its log says, before and after it was read: nothing is learned from it."""
    image.run(lambda root: log_memory.note_undone(root, "c1"))
    ended = [
        record(seq, EventType.FINAL_OUTCOME, cycle_id=cycle, final_outcome="COMPLETE")
        for seq, cycle in enumerate(("c1", "c2", "c3"))
    ]
    take(image, ended, START, Position("a", 300))
    image.run(lambda root: log_memory.note_undone(root, "c3"))
    with image.snapshot() as root:
        assert log_memory.cycles(root) == ["c2"]
        assert log_memory.cycles(root, outcome="UNDONE") == ["c1", "c3"]
