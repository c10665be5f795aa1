"""A look at everything: does every object load, lead somewhere, have its bytes, and is the mind still itself.

It reads a fixed state beside whoever serves the image, and changes nothing. It runs in a process of its own.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ZODB.blob import is_blob_record
from ZODB.FileStorage.FileStorage import FileIterator
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf

from batos.image.errors import StorageUnusable
from batos.image.known_hashes import KnownHashes, known_hashes
from batos.image.manifest import CHUNK_DIGITS, stored_blob
from batos.image.records import BlobFolder, RootHash, file_hash, oids, open_at
from batos.image.reporting import Tell
from batos.image.storage import DATA_FILE, check_file
from batos.image.whereabouts import paths_to
from batos.mind import MindError, adapters, datasets
from batos.mind.collections import DATASETS, existing, existing_repository
from batos.protocol import ImageFault, ImageVerified
from batos.uvm import CovenantBroken, ForeignClass, IdentityGuardian
from batos.uvm.address import Address
from batos.uvm.database import ImageDatabase
from batos.uvm.objects import slots

MAX_FAULTS = 200
"""How many faults are told; all are counted."""
MAX_NAMED_IN_CHUNK = 100
KEEP_LOADED = 5_000
"""After how many objects the memory of the connection is emptied."""
_MS = 1000


def verify(folder: Path, tid: str, tell: Tell) -> ImageVerified:
    """Look at everything that stands in an image.

    Args:
        folder: of the image's files.
        tid: up to which transaction; empty: all there is.
        tell: is told how far it is.
    """
    logging.disable(logging.CRITICAL)  # ZODB logs a traceback for every object that does not load; each is told below
    try:
        return _Verification(folder, tid, tell).run()
    finally:
        logging.disable(logging.NOTSET)


class _Verification:
    def __init__(self, folder: Path, tid: str, tell: Tell) -> None:
        self._folder = folder
        self._path = folder / DATA_FILE
        self._tid = tid
        self._is_served = bool(tid)
        self._tell = tell
        self._known: KnownHashes | None = known_hashes(folder)
        self._restore = "restore it: `batos image restore DIR --into HOME`"
        if self._known is not None:
            self._restore = f"restore it: `batos image restore {self._known.folder} --into HOME`"
        self._faults: list[tuple[bytes, ImageFault]] = []
        self._found = 0
        self._notes: list[str] = []
        self._suspect: list[tuple[int, int]] = []
        self._counts = dict.fromkeys(
            ("transactions", "references", "blobs_compared", "bytes_compared", "contents_compared"), 0
        )

    def run(self) -> ImageVerified:
        began = time.monotonic()
        root = RootHash(lambda _oid, _tid: None)
        paths: dict[bytes, str] = {}
        try:
            check_file(self._path)
            storage = open_at(self._folder, self._tid)
        except StorageUnusable as error:
            self._fault("file", error.message, hint=error.hint)
            return self._report(began, root, paths)
        except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes spell
            self._fault("file", f"{self._path} cannot be opened: {type(error).__name__}: {error}", hint=self._restore)
            return self._report(began, root, paths)
        self._tid = self._tid or bytes(storage.lastTransaction()).hex()
        left = self._path.stat().st_size - storage.getSize()
        if left and not self._is_served:
            self._notes.append(
                f"the last {left} bytes of {self._path} are no whole transaction: a commit that was cut off, which the "
                "next start drops, or the file lacks a part"
            )
        database = ImageDatabase(storage, Address(uri=f"file://{self._path}", wait_s=0, open_storage=lambda _: storage))
        try:
            self._compare_file(storage.getSize())
            self._walk(storage.getSize())
            connection = database.open()
            root = self._records(storage, connection)
            self._contents(connection)
            self._covenants(connection)
            paths = self._paths(storage, connection)
        finally:
            database.close()
        return self._report(began, root, paths)

    def _fault(self, kind: str, message: str, *, oid: bytes = b"", path: str = "", hint: str = "") -> None:
        self._found += 1
        if len(self._faults) < MAX_FAULTS:
            fault = ImageFault(kind=kind, message=message, path=path, oid=oid.hex(), hint=hint)
            self._faults.append((oid, fault))

    def _compare_file(self, size: int) -> None:
        """Compare the file with what the last backup knows of it."""
        pieces = () if self._known is None else self._known.pieces
        if self._known is None:
            self._notes.append(
                "no backup was made yet: neither the file's bytes nor blobs can be compared with anything "
                "(`batos image backup DIR`)"
            )
        elif not pieces:
            self._notes.append(
                f"the image was packed since the backup {self._known.name}: the file's bytes can be compared with "
                "nothing before the next one"
            )
        total = pieces[-1].end if pieces else 0
        if total > size:
            self._fault(
                "file",
                f"{self._path} is shorter than at the last backup: it has {size} bytes of transactions, not {total}",
                hint=self._restore,
            )
        with self._path.open("rb") as file:
            for piece in pieces:
                for place, digest in zip(range(piece.start, piece.end, piece.chunk_bytes), piece.chunks, strict=False):
                    end = min(place + piece.chunk_bytes, piece.end)
                    if end > size:
                        return
                    file.seek(place)
                    if hashlib.sha256(file.read(end - place)).hexdigest()[:CHUNK_DIGITS] != digest:
                        self._suspect.append((place, end))
                    self._counts["bytes_compared"] = end
                    self._tell("comparing the file with the last backup", end, total)

    def _walk(self, size: int) -> None:
        """Read every transaction from the file's first byte to the last, its history too."""
        last = 0
        named: dict[tuple[int, int], set[bytes]] = {chunk: set() for chunk in self._suspect}
        transactions = FileIterator(str(self._path))
        try:
            for transaction in transactions:
                if transaction.tid.hex() > self._tid:
                    break
                for record in transaction:
                    for chunk in self._suspect:
                        if record.pos < chunk[1] and chunk[0] < record.pos + len(record.data or b"") + 64:
                            named[chunk].add(record.oid)
                last = transaction._tend + 8  # noqa: SLF001 - a transaction ends with its length, in 8 bytes
                self._counts["transactions"] += 1
                self._tell("reading every transaction", last, size)
            why = "" if last == size else "what follows is no transaction"
        except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes spell
            why = f"{type(error).__name__}: {error}"
        finally:
            transactions.close()
        if why:
            self._fault(
                "file",
                f"{self._path} is damaged after byte {last} of {size}: {why}",
                hint=self._restore,
            )
        for chunk, found in named.items():
            self._tell_suspect(chunk, found)

    def _tell_suspect(self, chunk: tuple[int, int], found: set[bytes]) -> None:
        known = self._known.name if self._known is not None else ""
        message = f"bytes {chunk[0]} to {chunk[1]} of {self._path.name} are not what they were in the backup {known}"
        if not found:
            self._fault("hash", message, hint=self._restore)
        for oid in sorted(found)[:MAX_NAMED_IN_CHUNK]:
            self._fault("hash", f"{message}; this object's record lies there", oid=oid, hint=self._restore)

    def _records(self, storage: Any, connection: Any) -> RootHash:
        """Load every object, follow every reference, look for the bytes of every blob."""
        hashes = self._blob_hashes()
        root = RootHash(hashes)
        total = len(storage)
        gone: set[bytes] = set()
        pointing: list[tuple[bytes, bytes]] = []
        for done, oid in enumerate(oids(storage)):
            self._tell("loading every object", done, total)
            try:
                data, tid = storage.load(oid)
            except POSKeyError:
                gone.add(oid)
                continue
            except Exception as error:  # noqa: BLE001 - as above
                self._fault("record", f"its record cannot be read: {_said(error)}", oid=oid, hint=self._restore)
                continue
            root.add(oid, tid, data)
            pointing += [(oid, reference) for reference in self._dangling(data, storage)]
            if not is_blob_record(data):
                self._load(oid, data, connection)
            if done % KEEP_LOADED == 0:
                connection.cacheMinimize()
        if gone:
            pointing += self._pointing_at(gone, storage)
        for oid, reference in pointing:
            self._fault(
                "reference", f"it refers to object {reference.hex()}, which is not there", oid=oid, hint=self._restore
            )
        return root

    def _dangling(self, data: bytes, storage: Any) -> Iterator[bytes]:
        """Return what a record refers to and the storage has no entry of."""
        try:
            found = referencesf(data)
        except Exception:  # noqa: BLE001 - it does not load either, and that is told
            return
        self._counts["references"] += len(found)
        yield from (reference for reference in found if reference not in storage._index)  # noqa: SLF001 - as in `oids`

    @staticmethod
    def _pointing_at(gone: set[bytes], storage: Any) -> Iterator[tuple[bytes, bytes]]:
        """Return who refers to objects that were deleted: rare, so it is worth a second look at every record."""
        for oid in oids(storage):
            if oid in gone:
                continue
            try:
                found = referencesf(storage.load(oid)[0])
            except Exception:  # noqa: BLE001, S112 - told before
                continue
            yield from ((oid, reference) for reference in found if reference in gone)

    def _load(self, oid: bytes, data: bytes, connection: Any) -> None:
        try:
            # Who refers to an object says of which class it is; that the record itself says so must be seen apart.
            connection._reader.getGhost(data)  # noqa: SLF001 - there is no public name for it
            connection.get(oid)._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
        except ForeignClass as error:
            self._fault("class", f"its record names {error.module}.{error.name}", oid=oid, hint=self._restore)
        except Exception as error:  # noqa: BLE001 - a damaged record raises whatever its bytes spell
            self._fault("record", f"it does not load: {_said(error)}", oid=oid, hint=self._restore)

    def _blob_hashes(self) -> Callable[[bytes, bytes], str | None]:
        """Return what reads a blob's bytes and compares them with what the last backup knows."""
        blobs = BlobFolder(self._folder)
        known = {} if self._known is None else {(blob.oid, blob.tid): blob.sha256 for blob in self._known.blobs}
        backups = None if self._known is None else Path(self._known.folder)

        def looked(oid: bytes, tid: bytes) -> str | None:
            path = blobs.path(oid, tid)
            expected = known.get((oid.hex(), tid.hex()))
            hint = self._restore
            if expected and backups is not None and stored_blob(backups, expected).exists():
                hint = f"copy its bytes back: cp {stored_blob(backups, expected)} {path}"
            try:
                found = file_hash(path)
            except OSError as error:
                self._fault("blob", f"the bytes of a blob are missing: {path}: {error.strerror}", oid=oid, hint=hint)
                return None
            if expected is not None:
                self._counts["blobs_compared"] += 1
                if found != expected:
                    self._fault("hash", f"{path} is not what it was at the last backup", oid=oid, hint=hint)
            return found

        return looked

    def _contents(self, connection: Any) -> None:
        """Compare adapters and data sets with the hashes that stand in their own records."""
        try:
            root = connection.root()
            names, sets = list(existing_repository(root)), list(existing(root, DATASETS))
        except MindError:
            self._notes.append("the image holds no adapters and no data sets yet")
            return
        except Exception as error:  # noqa: BLE001 - told before, object by object
            self._notes.append(f"adapters and data sets could not be compared: {_said(error)}")
            return
        for name in names:
            self._content(f"lobby.pLLM_obj.lora_repository[{name!r}]", adapters.content, root, name)
        for dataset in sets:
            path = f"datasets[{dataset!r}]"
            self._content(path, datasets.manifest, root, dataset)
            self._content(path, datasets.read, root, dataset, "train")
            self._content(path, datasets.read, root, dataset, "held_out")

    def _content(self, path: str, read: Callable[..., object], *arguments: object) -> None:
        self._tell("comparing adapters and data sets", None, None)
        try:
            read(*arguments)
        except MindError as error:
            self._fault("hash", error.message, path=path, hint=error.hint or self._restore)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault("blob", f"its bytes cannot be read: {_said(error)}", path=path, hint=self._restore)
        else:
            self._counts["contents_compared"] += 1

    def _covenants(self, connection: Any) -> None:
        try:
            root = connection.root()
            if not slots(root["lobby"]):
                self._notes.append("the lobby is empty: the mind has not awakened yet, so no covenant was looked at")
                return
            IdentityGuardian.check(root)
        except CovenantBroken as error:
            for said in error.errors:
                path, _, why = said.partition(": ")
                self._fault(
                    "covenant", why, path=path, hint="put it back, or restore the image as of an earlier moment"
                )
        except Exception as error:  # noqa: BLE001 - told before, object by object
            self._notes.append(f"the covenants could not be looked at: {_said(error)}")

    def _paths(self, storage: Any, connection: Any) -> dict[bytes, str]:
        wanted = {oid for oid, fault in self._faults if oid and not fault.path}
        if not wanted:
            return {}
        self._tell("looking where these objects stand", None, None)
        return paths_to(wanted, storage, connection)

    def _report(self, began: float, root: RootHash, paths: dict[bytes, str]) -> ImageVerified:
        return ImageVerified(
            tid=self._tid,
            root_hash=root.hexdigest(),
            objects=root.objects,
            blobs=root.blobs,
            faults_found=self._found,
            faults=tuple(
                ImageFault(
                    kind=fault.kind,
                    message=fault.message,
                    path=fault.path or paths.get(oid, ""),
                    oid=fault.oid,
                    hint=fault.hint,
                )
                for oid, fault in self._faults
            ),
            notes=tuple(self._notes),
            duration_ms=round((time.monotonic() - began) * _MS),
            **self._counts,
        )


def _said(error: Exception) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
