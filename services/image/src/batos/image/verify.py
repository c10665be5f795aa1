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
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf

from batos.image.errors import StorageUnusable
from batos.image.known_hashes import KnownHashes, known_hashes
from batos.image.manifest import CHUNK_DIGITS, stored_blob
from batos.image.records import BlobFolder, ReadIndex, RootHash, file_hash, oids, open_at
from batos.image.reporting import Tell
from batos.image.saved_index import SavedIndex, index_path, saved_index
from batos.image.storage import DATA_FILE
from batos.image.walking import walk
from batos.image.whereabouts import paths_to
from batos.image.wholeness import BEGIN, check_end, check_there, how_to_restore, tid_before
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
        self._restore = how_to_restore(self._known)
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
            size = self._whole_bytes()
            if size <= BEGIN:
                self._notes.append("there is nothing in the image yet")
                return self._report(began, root, paths)
            self._compare_file(size)
            storage = open_at(self._folder, self._tid, self._walk(size))
        except StorageUnusable as error:
            self._fault("file", error.message, hint=error.hint)
            return self._report(began, root, paths)
        except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes spell
            self._fault("file", f"{self._path} cannot be opened: {type(error).__name__}: {error}", hint=self._restore)
            return self._report(began, root, paths)
        self._tid = self._tid or bytes(storage.lastTransaction()).hex()
        database = ImageDatabase(storage, Address(uri=f"file://{self._path}", wait_s=0, open_storage=lambda _: storage))
        try:
            connection = database.open()
            root = self._records(storage, connection)
            self._contents(connection)
            self._covenants(connection)
            paths = self._paths(storage, connection)
        finally:
            database.close()
        return self._report(began, root, paths)

    def _whole_bytes(self) -> int:
        """Return the length of the file up to the end of its last whole transaction; of one that is served, about.

        Raises:
            StorageUnusable: a start would refuse it.
        """
        check_there(self._path)
        if self._is_served:  # its end is being written
            return self._path.stat().st_size
        ending = check_end(self._path)
        if ending.torn:
            self._notes.append(
                f"the last {ending.torn} bytes of {self._path} are a commit that was cut off before it was finished: "
                "the next start drops them"
            )
        return ending.position

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

    def _walk(self, size: int) -> ReadIndex | None:
        """Read every transaction, history too; return where the current records stand, for as much as was read."""
        saved = saved_index(self._path)
        index = index_path(self._path)
        if saved is None and index.exists():
            self._notes.append(
                f"{index} is not as the image vessel wrote it: it is not used, and the next start makes another"
            )
        found = walk(
            self._path,
            size,
            self._tid,
            self._suspect,
            saved,
            lambda position: self._tell("reading every transaction", position, size),
        )
        self._counts["transactions"] = found.transactions
        if found.wrong:
            message = f"{self._path} is damaged after byte {found.position} of {size}: {found.wrong}"
            self._fault("file", message, hint=self._restore)
        for chunk, named in found.named.items():
            self._tell_suspect(chunk, named)
        for oid in found.misled:
            self._fault(
                "index",
                f"{index} leads to another record of it than the newest",
                oid=oid,
                hint=f"the file itself is whole: `batos down`, `rm {index}`, `batos up`",
            )
        return self._beyond(saved) if found.wrong else found.read

    def _beyond(self, saved: SavedIndex | None) -> ReadIndex | None:
        """Return what the saved index knows of what follows the damage, unless it knows more than is looked at."""
        if saved is None:
            return None
        tid = tid_before(self._path, saved.position)
        return None if self._tid and tid.hex() > self._tid else ReadIndex(saved.position, tid, saved.index)

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
