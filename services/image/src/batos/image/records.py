"""What stands in the image's files: current records, blobs, and one hash over both."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ZODB.blob import FilesystemHelper, is_blob_record
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64

from batos.image.storage import BLOB_FOLDER, DATA_FILE
from batos.uvm.file_storage import DurableFileStorage

READ_BYTES = 1 << 20
MAX_TID = 2**63 - 1
_LENGTH = struct.Struct(">8s8sQ")
_BLOB_NAME = f"0x{'[0-9a-f]' * 16}.blob"
"""Whatever else lies in a folder of blobs is none."""
_BLOB = b"blob"
_NO_BLOB = b"none"


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A blob as it lies in the file system: one version of one object's bytes."""

    oid: bytes
    tid: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Where every object's current record stands, as it was found by reading the file.

    Attributes:
        position: up to where it was read.
        tid: the transaction that ends there.
        index: the records.
    """

    position: int
    tid: bytes
    index: fsIndex


def open_at(folder: Path, tid: str = "", index: ReadIndex | None = None) -> FileStorage:
    """Open the image's files for reading alone, beside whoever serves them; up to a transaction where one is given.

    The index that lies beside them is not used: what is read is to tell whether that one is right. Nothing may be
    packed meanwhile.

    Args:
        folder: of the image's files.
        tid: the transaction; empty: all there is.
        index: of somebody who has read the file already; otherwise it is read here.
    """
    stop = p64(min(u64(bytes.fromhex(tid)) + 1, MAX_TID)) if tid else None
    blobs = folder / BLOB_FOLDER
    blob_dir = str(blobs) if blobs.is_dir() else None  # a folder that is missing is not to be made here
    return _Reader(str(folder / DATA_FILE), index, read_only=True, stop=stop, blob_dir=blob_dir)


class _Reader(DurableFileStorage):
    """Reads the file with the index that it is given, or with none."""

    def __init__(self, path: str, index: ReadIndex | None, **options: Any) -> None:
        self._given = index
        super().__init__(path, **options)

    def _restore_index(self) -> tuple[fsIndex, int, bytes] | None:
        given = self._given
        return None if given is None else (given.index, given.position, given.tid)


def oids(storage: Any) -> Iterator[bytes]:
    """Return every object that the storage has an entry for, in order; some may have been undone or deleted."""
    yield from storage._index  # noqa: SLF001 - what the storage offers instead ends at the first record it cannot read


def records(storage: Any) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Return object id, transaction id and data of every current record, in the order of their ids."""
    for oid in oids(storage):
        try:
            data, tid = storage.load(oid)
        except POSKeyError:
            continue
        yield oid, tid, data


class BlobFolder:
    """The files of an image's blobs, by object and transaction."""

    def __init__(self, folder: Path) -> None:
        """Look at the blobs of the image in this folder."""
        self._helper = FilesystemHelper(str(folder / BLOB_FOLDER))

    def __iter__(self) -> Iterator[BlobFile]:
        """Return every version of every blob, in no order."""
        for _, path in self._helper.listOIDs():
            for entry in Path(path).glob(_BLOB_NAME):
                oid, tid = self._helper.splitBlobFilename(str(entry))
                yield BlobFile(oid, tid, entry)

    def path(self, oid: bytes, tid: bytes) -> Path:
        """Return where a version of a blob lies."""
        return Path(self._helper.getBlobFilename(oid, tid))


def file_hash(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            on_bytes(len(piece))
    return digest.hexdigest()


class RootHash:
    """One hash over a state of the image: every current record in the order of the ids, and the hash of each blob.

    For each record: its id, that of its transaction, its length, its data; where it is a blob the word `blob` and the
    SHA-256 of its bytes, or `none` where the bytes are missing. Two images with one root hash hold the same.
    """

    def __init__(self, blob_hash: Callable[[bytes, bytes], str | None]) -> None:
        """Begin with nothing.

        Args:
            blob_hash: returns the SHA-256 of a blob's version; None where it is missing.
        """
        self._digest = hashlib.sha256()
        self._blob_hash = blob_hash
        self.objects = 0
        self.blobs = 0

    def add(self, oid: bytes, tid: bytes, data: bytes) -> None:
        """Take in the next record."""
        self.objects += 1
        self._digest.update(_LENGTH.pack(oid, tid, len(data)))
        self._digest.update(data)
        if is_blob_record(data):
            self.blobs += 1
            found = self._blob_hash(oid, tid)
            self._digest.update(_NO_BLOB if found is None else _BLOB + bytes.fromhex(found))

    def hexdigest(self) -> str:
        """Return the hash over what was taken in so far."""
        return self._digest.hexdigest()


def root_hash(found: Iterable[tuple[bytes, bytes, bytes]], blob_hash: Callable[[bytes, bytes], str | None]) -> RootHash:
    """Return the root hash over all records of a state."""
    digest = RootHash(blob_hash)
    for oid, tid, data in found:
        digest.add(oid, tid, data)
    return digest
