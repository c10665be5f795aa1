"""The metacognition log's record: one JSON object a line, in this order of fields (DESIGN, section 8)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from batos.protocol.messages import Usage

_ENCODER = msgspec.json.Encoder()


class EventType(StrEnum):
    """What a record tells."""

    STATE_TRANSITION = "STATE_TRANSITION"
    LLM_PROMPT = "LLM_PROMPT"
    LLM_RESPONSE = "LLM_RESPONSE"
    ARTIFACT_GENERATED = "ARTIFACT_GENERATED"
    DELEGATION_START = "DELEGATION_START"
    DELEGATION_COMPLETE = "DELEGATION_COMPLETE"
    VALIDATION_ATTEMPT = "VALIDATION_ATTEMPT"
    VALIDATION_SUCCESS = "VALIDATION_SUCCESS"
    VALIDATION_FAILURE = "VALIDATION_FAILURE"
    PROMPT_CUT = "PROMPT_CUT"
    SANDBOX = "SANDBOX"
    """A method that a cycle wrote was stopped or refused: `detail` says whose, which, where, and by which rule."""
    FINAL_OUTCOME = "FINAL_OUTCOME"
    VESSEL = "VESSEL"


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `metacognition.jsonl`.

    `seq` counts from 0 within an incarnation and `prev_hash` is the SHA-256 of the line before (its bytes without the
    newline); the first record of an incarnation carries the hash of its predecessor's last line, or 64 zeros.
    """

    timestamp: str
    seq: int
    prev_hash: str
    event_type: EventType
    cycle_id: str = ""
    mission_id: str = ""
    transaction_id: str | None = None
    snapshot_tid: str = ""
    current_state: str = ""
    active_persona: str = ""
    adapter: str = ""
    prompt_hash: str = ""
    llm_prompt: str = ""
    """The prompt as asked: a JSON list of the prompt's `ChatMessage`s (`role`, `content`)."""
    llm_response_raw: str = ""
    usage: Usage | None = None
    duration_ms: int | None = None
    detail: dict[str, Any] = {}
    """What else belongs to it; an LLM_RESPONSE has its `finish_reason`."""
    final_outcome: str | None = None
    kernel: str = ""
    incarnation: str = ""


def encode_record(record: LogRecord) -> bytes:
    """Encode a record as one line of JSON, without the newline: the bytes that the next record's hash covers."""
    return _ENCODER.encode(record)


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one line of the log, generated from `LogRecord`."""
    return msgspec.json.schema(LogRecord)
