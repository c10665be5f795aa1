"""The metacognition log in memory: every record exactly once, in compressed batches with a small index.

A batch holds consecutive records of one incarnation. How far a kernel's log was read stands beside it and is written in
the same transaction, so that a reader that dies or is doubled neither loses nor repeats a record.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from batos.mind.collections import (
    LOG_BATCHES,
    LOG_CYCLES,
    LOG_HEADS,
    LOG_OUTCOMES,
    LOG_PERSONAS,
    LOG_POSITIONS,
    collection,
    existing,
)
from batos.mind.errors import PositionMoved
from batos.protocol.log import EventType, LogRecord
from batos.uvm import Root, UvmObject

COMPLETE = "COMPLETE"
UNDONE = "UNDONE"

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[LogRecord])
_COMPRESSION = 1
"""zlib's fastest level: the log's field names and repeated prompts fold well even there."""


class Position(NamedTuple):
    """How far a kernel's log is in memory."""

    segment: str
    """File name of the segment; empty for the oldest there is."""
    offset: int
    """Bytes of it that are in memory."""


class Ingested(NamedTuple):
    """What one call took into memory."""

    records: int
    known: int
    """Records that were in memory already."""
    missing: int
    """Records that a jump in the sequence numbers shows to be lost."""


START = Position("", 0)


def position(root: Root, kernel: str) -> Position:
    """Return from where the log of a kernel is to be read on."""
    found = existing(root, LOG_POSITIONS).get(kernel)
    return START if found is None else Position(*found)


def restart(root: Root, kernel: str) -> None:
    """Read a kernel's log from its oldest segment again: its files are not those that were read before.

    Records that are in memory already are known by incarnation and sequence number, and are not taken twice.
    """
    collection(root, LOG_POSITIONS)[kernel] = tuple(START)


def ingest(
    root: Root,
    *,
    kernel: str,
    read_from: Position,
    read_to: Position,
    records: Sequence[LogRecord],
) -> Ingested:
    """Take records into memory and note how far the log was read, in one transaction.

    Args:
        root: the image's root.
        kernel: whose log it is.
        read_from: the position that the caller had from `position`.
        read_to: where to read on: in this segment, or at the start of the next one.
        records: what stood between, in the log's order.

    Raises:
        PositionMoved: the position in the image is no longer `read_from`.
    """
    positions = collection(root, LOG_POSITIONS)
    found = position(root, kernel)
    if found != read_from:
        raise PositionMoved(kernel, (read_from.segment, read_from.offset), (found.segment, found.offset))
    taken = known = missing = 0
    for incarnation, group in itertools.groupby(records, key=lambda record: record.incarnation):
        every = list(group)
        head = collection(root, LOG_HEADS).get(incarnation, -1)
        new = []
        for record in every:
            if record.seq <= head:
                known += 1
                continue
            missing += record.seq - head - 1
            head = record.seq
            new.append(record)
        if new:
            _store(root, kernel, incarnation, new)
            taken += len(new)
    if found != read_to:
        positions[kernel] = tuple(read_to)
    return Ingested(taken, known, missing)


def cycles(root: Root, *, persona: str = "", outcome: str = COMPLETE) -> list[str]:
    """Return the ids of the cycles that ended so, oldest first; of one persona only those in which it answered.

    A thought that was undone did not end COMPLETE, whatever its log says.
    """
    outcomes = existing(root, LOG_OUTCOMES)
    undone = set(_second(outcomes, UNDONE)) if outcome == COMPLETE else set()
    ended = [cycle for cycle in _second(outcomes, outcome) if cycle not in undone]
    if not persona:
        return ended
    answered = set(_second(existing(root, LOG_PERSONAS), persona.upper()))
    return [cycle for cycle in ended if cycle in answered]


def note_undone(root: Root, cycle_id: str) -> None:
    """Note that a cycle's thought is being undone, within that transaction: nothing is to be learned from it."""
    collection(root, LOG_OUTCOMES).add((UNDONE, cycle_id))


def records(root: Root, cycle_ids: Iterable[str]) -> dict[str, list[LogRecord]]:
    """Return every record of the given cycles, by cycle, in the log's order; each batch is decoded once."""
    wanted = dict.fromkeys(cycle_ids)
    index = existing(root, LOG_CYCLES)
    keys: dict[tuple[str, int], None] = {}
    for cycle in wanted:
        for _, incarnation, first in index.keys((cycle,), (cycle + "\0",)):
            keys[incarnation, first] = None
    batches = existing(root, LOG_BATCHES)
    found: dict[str, list[LogRecord]] = {cycle: [] for cycle in wanted}
    for key in keys:
        for record in decode(batches[key].data):
            if record.cycle_id in wanted:
                found[record.cycle_id].append(record)
    return found


def every_record(root: Root) -> Iterator[LogRecord]:
    """Yield every record in memory, an incarnation after another."""
    for batch in existing(root, LOG_BATCHES).values():
        yield from decode(batch.data)


def decode(data: bytes) -> list[LogRecord]:
    """Return the records of a batch."""
    return _DECODER.decode(zlib.decompress(data))


def _store(root: Root, kernel: str, incarnation: str, new: list[LogRecord]) -> None:
    first, last = new[0].seq, new[-1].seq
    collection(root, LOG_BATCHES)[incarnation, first] = UvmObject(
        kernel=kernel,
        incarnation=incarnation,
        first_seq=first,
        last_seq=last,
        count=len(new),
        data=zlib.compress(_ENCODER.encode(new), _COMPRESSION),
    )
    collection(root, LOG_HEADS)[incarnation] = last
    places = collection(root, LOG_CYCLES)
    outcomes = collection(root, LOG_OUTCOMES)
    personas = collection(root, LOG_PERSONAS)
    for cycle in dict.fromkeys(record.cycle_id for record in new if record.cycle_id):
        places.add((cycle, incarnation, first))
    for record in new:
        if not record.cycle_id:
            continue
        if record.event_type == EventType.FINAL_OUTCOME and record.final_outcome:
            outcomes.add((record.final_outcome, record.cycle_id))
        if record.event_type == EventType.LLM_RESPONSE and record.active_persona:
            personas.add((record.active_persona, record.cycle_id))


def _second(pairs: Any, first: str) -> Iterator[str]:
    return (second for _, second in pairs.keys((first,), (first + "\0",)))
