"""From the log to a bound adapter: reading, curating, ordering, promoting, rolling back."""

from __future__ import annotations

from batos.protocol.messages.message import Message


class LogRead(Message, frozen=True, kw_only=True):
    """To one kernel (service `kernel/<name>`): the log from a byte offset on, whole lines only."""

    segment: str = ""
    """File name of a segment; empty asks for the oldest."""
    offset: int = 0
    limit: int = 1_000_000
    """Bytes."""


class LogChunk(Message, frozen=True, kw_only=True):
    """Whole lines of one segment. `next_segment` is set once this one is closed and read to its end."""

    segment: str
    offset: int
    data: bytes
    next_offset: int
    next_segment: str = ""
    kernel: str = ""


class Curate(Message, frozen=True, kw_only=True):
    """To the curator: ingest what is new in the logs, then build the data set of a persona from its COMPLETE cycles."""

    persona: str
    request_id: str


class DatasetBuilt(Message, frozen=True, kw_only=True):
    """A data set stands in the image."""

    dataset_id: str
    persona: str
    sha256: str
    rows: int
    train_rows: int
    held_out_rows: int
    records_ingested: int
    path: str = ""
    """Where it was written for reading (JSON Lines), relative to the fleet's home."""


class OrderCreate(Message, frozen=True, kw_only=True):
    """To a kernel: commit a training order for this data set."""

    order_id: str
    persona: str
    dataset_id: str


class OrderGet(Message, frozen=True, kw_only=True):
    """To a kernel: how does this training order stand?"""

    order_id: str
    at: str = ""
    """A moment of the past, as `ImageShow` has it."""


class OrderStatus(Message, frozen=True, kw_only=True):
    """A training order as the image records it."""

    order_id: str
    persona: str
    dataset_id: str
    state: str
    """ORDERED, TRAINING, PASSED, REFUSED, FAILED, LOADED or BOUND."""
    adapter: str = ""
    base_loss: float | None = None
    candidate_loss: float | None = None
    margin: float = 0.0
    """Relative improvement over the base that the gate asks for, for example 0.02."""
    verdict: str = ""
    error: str = ""
    as_of: str = ""
    """Up to which tid this view sees; empty where no moment of the past was asked for."""


class AdapterPromote(Message, frozen=True, kw_only=True):
    """To a kernel: have every replica load this order's adapter, then bind it to its persona in one transaction."""

    order_id: str
    approver: str


class AdapterRollback(Message, frozen=True, kw_only=True):
    """To a kernel: bind what was bound before. The request's id makes a retry harmless."""

    persona: str
    approver: str
    request_id: str


class AdapterBound(Message, frozen=True, kw_only=True):
    """The binding as it stands after the transaction."""

    persona: str
    adapter: str
    """Empty: the base model."""
    previous: str
    dna_version: int
    tid: str
