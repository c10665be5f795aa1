"""Examples from log records: what a persona was asked, and what it answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from batos.mind.datasets import Row
from batos.protocol.log import EventType, LogRecord
from batos.protocol.messages import ChatMessage

_PROMPT = msgspec.json.Decoder(tuple[ChatMessage, ...])


class Found(NamedTuple):
    """Rows, and how many answers gave none, by reason."""

    rows: list[Row]
    counts: dict[str, int]


def rows_of(persona: str, cycles: Mapping[str, Sequence[LogRecord]]) -> Found:
    """Return one row for every answer of a persona that can be learned from.

    Left out are answers without their prompt, empty ones, those cut at the token limit, and those that validation
    refused (the persona was asked again).

    Args:
        persona: whose answers.
        cycles: the records of each cycle, in the log's order.
    """
    rows: list[Row] = []
    counts = {"answers": 0, "without a prompt": 0, "empty": 0, "cut at the limit": 0, "refused by validation": 0}
    for cycle_id, records in cycles.items():
        prompts = {record.prompt_hash: record for record in records if record.event_type == EventType.LLM_PROMPT}
        refused = refused_answers(records)
        for record in records:
            if record.event_type != EventType.LLM_RESPONSE or record.active_persona != persona:
                continue
            counts["answers"] += 1
            prompt = prompts.get(record.prompt_hash)
            messages = () if prompt is None else chat(prompt.llm_prompt)
            if not messages:
                counts["without a prompt"] += 1
            elif not record.llm_response_raw.strip():
                counts["empty"] += 1
            elif record.detail.get("finish_reason") == "length":
                counts["cut at the limit"] += 1
            elif (record.incarnation, record.seq) in refused:
                counts["refused by validation"] += 1
            else:
                rows.append(
                    Row(
                        messages=(*messages, ChatMessage("assistant", record.llm_response_raw)),
                        cycle_id=cycle_id,
                        mission_id=record.mission_id,
                        seq=record.seq,
                        incarnation=record.incarnation,
                    )
                )
    return Found(rows, counts)


def chat(prompt: str) -> tuple[ChatMessage, ...]:
    """Return the turns of a logged prompt: JSON of roles and contents; empty where it is anything else."""
    try:
        messages = _PROMPT.decode(prompt)
    except msgspec.DecodeError:
        return ()
    return messages if messages and messages[-1].role == "user" else ()


def refused_answers(records: Iterable[LogRecord]) -> set[tuple[str, int]]:
    """Return (incarnation, seq) of every answer that a VALIDATION_FAILURE names by the hash of its prompt."""
    refused = set()
    latest: dict[str, LogRecord] = {}
    for record in records:
        if record.event_type == EventType.LLM_RESPONSE:
            latest[record.prompt_hash] = record
        elif record.event_type == EventType.VALIDATION_FAILURE and record.prompt_hash in latest:
            answer = latest[record.prompt_hash]
            refused.add((answer.incarnation, answer.seq))
    return refused
