"""The way through the image's file from the first transaction to the last, history too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ZODB.FileStorage.FileStorage import FileIterator
from ZODB.fsIndex import fsIndex

from batos.image.records import ReadIndex
from batos.image.saved_index import SavedIndex
from batos.image.wholeness import BEGIN

Chunk = tuple[int, int]
_HEADER_BYTES = 64
"""So much stands before a record's data, and more."""
_LENGTH_BYTES = 8


@dataclass
class Walk:
    """What is found on the way.

    Attributes:
        transactions: how many there are.
        position: behind the last of them.
        tid: of the last of them.
        index: where every object's newest record stands.
        wrong: why the way ended before the file did; empty where it did not.
        named: the objects that have a record in each of the chunks that were asked for.
        misled: the objects of which the saved index said something else.
    """

    transactions: int = 0
    position: int = BEGIN
    tid: bytes = bytes(8)
    index: fsIndex = field(default_factory=fsIndex)
    wrong: str = ""
    named: dict[Chunk, set[bytes]] = field(default_factory=dict)
    misled: list[bytes] = field(default_factory=list)

    @property
    def read(self) -> ReadIndex:
        """Return the index, for whoever opens the file."""
        return ReadIndex(self.position, self.tid, self.index)


def walk(
    path: Path, end: int, until: str, chunks: Sequence[Chunk], saved: SavedIndex | None, tell: Callable[[int], None]
) -> Walk:
    """Read every transaction of a file.

    Args:
        path: of the file.
        end: up to where there are whole transactions; of a file that is served, about.
        until: the last transaction that is wanted; empty: all there are.
        chunks: pieces of the file of which it is to be known whose records stand there.
        saved: the index that lies beside the file, to be compared.
        tell: is told up to where it has read.
    """
    found = Walk(named={chunk: set() for chunk in chunks})
    transactions = FileIterator(str(path))
    try:
        for transaction in transactions:
            if until and transaction.tid.hex() > until:
                break
            _take(found, transaction)
            if saved is not None and saved.position == found.position:
                found.misled = _misled(saved.index, found.index)
            tell(found.position)
            if found.position >= end or found.tid.hex() == until:
                break  # behind it somebody may be writing
        else:
            found.wrong = "what follows is no transaction"
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes spell
        found.wrong = f"{type(error).__name__}: {error}"
    finally:
        transactions.close()
    return found


def _take(found: Walk, transaction: Any) -> None:
    records = {}
    for record in transaction:
        records[record.oid] = record.pos
        for chunk, there in found.named.items():
            if record.pos < chunk[1] and chunk[0] < record.pos + len(record.data or b"") + _HEADER_BYTES:
                there.add(record.oid)
    found.index.update(records)
    found.tid = transaction.tid
    found.position = transaction._tend + _LENGTH_BYTES  # noqa: SLF001 - a transaction ends with its length
    found.transactions += 1


def _misled(saved: fsIndex, read: fsIndex) -> list[bytes]:
    """Return the objects of which two indexes say different things."""
    if saved.__getstate__() == read.__getstate__():
        return []
    return sorted({oid for oid in (*saved, *read) if saved.get(oid) != read.get(oid)})
