"""Data sets: rows to train on and rows held out, with the manifest that says where each comes from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from batos.mind.collections import DATASETS, collection, existing
from batos.mind.errors import Corrupt, NotFound
from batos.protocol.messages import ChatMessage
from batos.uvm import Root, UvmObject, read_blob, store_blob

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One example: a prompt and its answer, and the log line where the answer stands."""

    messages: tuple[ChatMessage, ...]
    cycle_id: str
    mission_id: str
    seq: int
    incarnation: str


class RowOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """A row's entry in the manifest."""

    split: Split
    cycle_id: str
    mission_id: str
    incarnation: str
    seq: int
    sha256: str
    """Of the row's line."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a data set is the answer to, and where each row comes from."""

    dataset_id: str
    persona: str
    query: str
    counts: dict[str, int]
    """How many answers were found, left out (and why), put on each side."""
    rows: tuple[RowOrigin, ...]
    train_sha256: str
    held_out_sha256: str
    version: int = 1


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A data set's record, without its rows."""

    dataset_id: str
    persona: str
    sha256: str
    """Of the manifest, which holds the hashes of both files."""
    train_rows: int
    held_out_rows: int
    records_ingested: int
    """Log records that were taken into memory for it."""
    created_at: float

    @property
    def rows(self) -> int:
        """Rows on both sides together."""
        return self.train_rows + self.held_out_rows


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def decode_rows(lines: bytes) -> list[Row]:
    """Return the rows of JSON Lines."""
    decoder = msgspec.json.Decoder(Row)
    return [decoder.decode(line) for line in lines.splitlines() if line]


def add(
    root: Root,
    *,
    dataset_id: str,
    persona: str,
    query: str,
    train: Sequence[Row],
    held_out: Sequence[Row],
    counts: dict[str, int],
    records_ingested: int = 0,
) -> Dataset:
    """Store a data set and its manifest. The same id twice is one data set, the first.

    Args:
        root: the image's root.
        dataset_id: its id.
        persona: whose answers the rows are.
        query: what it is the answer to, in words.
        train: rows to train on.
        held_out: rows to measure on.
        counts: how many answers were found and left out, by reason.
        records_ingested: log records that were taken into memory for it.
    """
    known = existing(root, DATASETS)
    if dataset_id in known:
        return get(root, dataset_id)
    files = {"train": encode_rows(train), "held_out": encode_rows(held_out)}
    manifest = Manifest(
        dataset_id=dataset_id,
        persona=persona.upper(),
        query=query,
        counts={**counts, "train": len(train), "held_out": len(held_out)},
        rows=tuple(_origin("train", row) for row in train) + tuple(_origin("held_out", row) for row in held_out),
        train_sha256=hashlib.sha256(files["train"]).hexdigest(),
        held_out_sha256=hashlib.sha256(files["held_out"]).hexdigest(),
    )
    encoded = encode_manifest(manifest)
    collection(root, DATASETS)[dataset_id] = UvmObject(
        dataset_id=dataset_id,
        persona=persona.upper(),
        sha256=hashlib.sha256(encoded).hexdigest(),
        train_rows=len(train),
        held_out_rows=len(held_out),
        records_ingested=records_ingested,
        created_at=time.time(),
        manifest=store_blob(encoded),
        train=store_blob(files["train"]),
        held_out=store_blob(files["held_out"]),
    )
    return get(root, dataset_id)


def known(root: Root, dataset_id: str) -> bool:
    """Say whether the image holds this data set."""
    return dataset_id in existing(root, DATASETS)


def get(root: Root, dataset_id: str) -> Dataset:
    """Return a data set's record.

    Raises:
        NotFound: the image holds no such data set.
    """
    record = _record(root, dataset_id)
    return Dataset(**{field: getattr(record, field) for field in Dataset.__struct_fields__})


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest as the bytes that a data set's hash covers."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"


def manifest(root: Root, dataset_id: str) -> Manifest:
    """Return a data set's manifest, verified against its hash.

    Raises:
        NotFound: the image holds no such data set.
        Corrupt: the stored bytes are not those that were hashed.
    """
    record = _record(root, dataset_id)
    data = _verified(dataset_id, "manifest", record.manifest, record.sha256)
    return msgspec.json.decode(data, type=Manifest)


def read(root: Root, dataset_id: str, split: Split) -> bytes:
    """Return one side of a data set as JSON Lines, verified against its manifest.

    Raises:
        NotFound: the image holds no such data set.
        Corrupt: the stored bytes are not those that were hashed.
    """
    found = manifest(root, dataset_id)
    record = _record(root, dataset_id)
    if split == "train":
        return _verified(dataset_id, split, record.train, found.train_sha256)
    return _verified(dataset_id, split, record.held_out, found.held_out_sha256)


def _origin(split: Split, row: Row) -> RowOrigin:
    return RowOrigin(
        split=split,
        cycle_id=row.cycle_id,
        mission_id=row.mission_id,
        incarnation=row.incarnation,
        seq=row.seq,
        sha256=hashlib.sha256(msgspec.json.encode(row)).hexdigest(),
    )


def _record(root: Root, dataset_id: str) -> Any:
    found = existing(root, DATASETS).get(dataset_id)
    if found is None:
        raise NotFound("dataset", dataset_id, "`batos forge run <persona>` curates one")
    return found


def _verified(dataset_id: str, part: str, blob: Any, sha256: str) -> bytes:
    data = read_blob(blob)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Corrupt("dataset_corrupt", f"the {part} of data set {dataset_id} is not what was stored")
    return data
