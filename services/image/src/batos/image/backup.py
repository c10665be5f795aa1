"""A backup of an image that is being served: the file up to a fixed position, and every blob, each once.

The image's file only grows and blobs never change, so nothing has to stop: the vessel names a transaction and the
position behind it, and packs nothing meanwhile. This runs in a process of its own.

ZODB's own `repozo` is not used: it knows no blobs, names files by the second, reads the whole file to find out where it
stopped, and adds to its list in place, so that a backup that was cut off looks like one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zc.lockfile import LockError, LockFile  # type: ignore[import-untyped]

from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.known_hashes import remember
from batos.image.manifest import (
    CHUNK_BYTES,
    CHUNK_DIGITS,
    DATA,
    FORMAT,
    FULL,
    INCREMENTAL,
    BlobEntry,
    Manifest,
    chain,
    manifests,
    stored_blob,
    sync_folder,
    write_manifest,
)
from batos.image.records import READ_BYTES, BlobFile, BlobFolder, file_hash, open_at, records, root_hash
from batos.image.reporting import Tell
from batos.image.storage import DATA_FILE, FOLDER_MODE
from batos.protocol import ImageBackedUp

PARTIAL = ".partial-"
LOCK = ".lock"
_MS = 1000


@dataclass(frozen=True)
class Snapshot:
    """The state that is backed up.

    Attributes:
        folder: of the image's files.
        tid: its newest transaction.
        position: the length of the file up to that transaction's end.
    """

    folder: Path
    tid: str
    position: int


@dataclass
class _Piece:
    """A piece of the file as it was copied."""

    start: int
    end: int
    sha256: str = ""
    chunks: list[str] = field(default_factory=list)


@dataclass
class _Blobs:
    """The blobs of a backup."""

    entries: dict[tuple[str, str], BlobEntry] = field(default_factory=dict)
    written: int = 0
    bytes_written: int = 0
    wrong: list[str] = field(default_factory=list)


def back_up(snapshot: Snapshot, target: Path, *, full: bool, tell: Tell) -> ImageBackedUp:
    """Add a backup to a folder: whole, or not at all.

    Args:
        snapshot: what is to be kept.
        target: the folder of backups; made where it is missing.
        full: make a whole one in any case.
        tell: is told how far it is.

    Raises:
        CareError: it could not be made; the sentence says why, and what was there before still is.
    """
    began = time.monotonic()
    try:
        with _owned(target):
            return _Backup(snapshot, target, tell).run(full, began)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(
                str(target), error.strerror or str(error), "nothing was added; free space there or name another folder"
            ) from error
        raise CareError(
            "backup_failed",
            f"the backup to {target} failed: {error.filename or ''} {error.strerror or error}",
            "nothing was added; name a folder that this user may write",
        ) from error


@contextlib.contextmanager
def _owned(target: Path) -> Iterator[None]:
    """Make the folder this process's alone, and take away what a backup that was cut off left there."""
    target.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    try:
        lock = LockFile(str(target / LOCK))
    except LockError:
        raise CareError("backup_runs", f"another backup to {target} runs", "wait until it has ended") from None
    try:
        for left in target.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
        yield
    finally:
        lock.close()


class _Backup:
    def __init__(self, snapshot: Snapshot, target: Path, tell: Tell) -> None:
        self._snapshot = snapshot
        self._target = target
        self._tell = tell
        self._source = snapshot.folder / DATA_FILE
        self._known: dict[str, Manifest] = {}

    def run(self, full: bool, began: float) -> ImageBackedUp:
        self._known = manifests(self._target, damaged_too=not full)
        before, why = (None, "a full one was asked for") if full else self._previous()
        if before is not None and before.end == self._snapshot.position:
            self._note(before, checked_at=dt.datetime.now(dt.UTC).isoformat())
            return self._reply(before, "unchanged", "nothing was committed since", began)
        start = 0 if before is None else before.end
        made_at = dt.datetime.now(dt.UTC)
        kind = FULL if before is None else INCREMENTAL
        name = f"{made_at:%Y%m%dT%H%M%S%f}-{self._snapshot.tid}-{kind}"
        partial = self._target / f"{PARTIAL}{name}"
        partial.mkdir(mode=FOLDER_MODE)
        try:
            piece = self._copy_data(partial / DATA, start)
            blobs = self._copy_blobs(before)
            objects, digest = self._root_hash(blobs)
            self._read_again(partial / DATA, piece)
            manifest = Manifest(
                format=FORMAT,
                name=name,
                kind=kind,
                previous="" if before is None else before.name,
                made_at=made_at.isoformat(),
                tid=self._snapshot.tid,
                start=piece.start,
                end=piece.end,
                sha256=piece.sha256,
                chunk_bytes=CHUNK_BYTES,
                chunks=tuple(piece.chunks),
                objects=objects,
                root_hash=digest,
                blobs=tuple(sorted(blobs.entries.values(), key=lambda blob: (blob.oid, blob.tid))),
                missing=tuple(blobs.wrong),
            )
            write_manifest(partial, manifest)
            sync_folder(partial)
            partial.rename(self._target / name)
            sync_folder(self._target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._known[name] = manifest
        self._note(manifest)
        return self._reply(manifest, kind, why, began, blobs)

    def _note(self, manifest: Manifest, checked_at: str = "") -> None:
        """Keep beside the image what this backup knows, and when it was made or found to have everything."""
        try:
            links = chain(self._known, manifest)
            remember(self._snapshot.folder, self._target, links, checked_at=checked_at)
        except OSError as error:
            raise CareError(
                "backup_unnoted",
                f"the backup {manifest.name} in {self._target} is whole, but that could not be noted in "
                f"{self._snapshot.folder}: {error.strerror or error}",
                "see to that folder, and then `batos image backup` again",
            ) from error

    def _previous(self) -> tuple[Manifest | None, str]:
        """Return the newest backup if this one can continue it, and why it can or cannot."""
        last = self._newest()
        if last is None:
            return None, "there was none before"
        if last.end > self._snapshot.position or last.tid > self._snapshot.tid:
            return None, "the image was packed since the last one, or is another"
        try:
            links = chain(self._known, last)
        except CareError as error:
            return None, error.message
        if any(not _has_data(self._target / link.name, link) for link in links):
            return None, "a piece of those before is missing"
        with self._source.open("rb") as file:
            place = last.start + (len(last.chunks) - 1) * last.chunk_bytes
            file.seek(place)
            found = hashlib.sha256(file.read(last.end - place)).hexdigest()[:CHUNK_DIGITS]
        if not last.chunks or found != last.chunks[-1]:
            return None, "the image was packed since the last one, or is another"
        return last, f"it continues {last.name}"

    def _newest(self) -> Manifest | None:
        return list(self._known.values())[-1] if self._known else None

    def _copy_data(self, path: Path, start: int) -> _Piece:
        piece = _Piece(start, self._snapshot.position)
        whole = hashlib.sha256()
        with self._source.open("rb") as source, path.open("wb") as target:
            source.seek(start)
            while (left := piece.end - source.tell()) > 0:
                chunk = source.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise CareError(
                        "image_truncated",
                        f"{self._source} ends at {source.tell()}, {piece.end} bytes were committed",
                        "look at it with `batos image verify`",
                    )
                target.write(chunk)
                whole.update(chunk)
                piece.chunks.append(hashlib.sha256(chunk).hexdigest()[:CHUNK_DIGITS])
                self._tell("copying the file", source.tell() - start, piece.end - start)
            target.flush()
            os.fsync(target.fileno())
        piece.sha256 = whole.hexdigest()
        return piece

    def _copy_blobs(self, before: Manifest | None) -> _Blobs:
        """Keep every version that the state knows; an incremental backup does not read again what is known."""
        newest = bytes.fromhex(self._snapshot.tid)
        there = [blob for blob in BlobFolder(self._snapshot.folder) if blob.tid <= newest]
        last = self._newest()
        known = {(blob.oid, blob.tid): blob for blob in last.blobs} if last is not None else {}
        blobs = _Blobs()
        for done, blob in enumerate(there):
            self._tell("copying blobs", done, len(there))
            key = (blob.oid.hex(), blob.tid.hex())
            entry = known.get(key)
            is_kept = entry is not None and stored_blob(self._target, entry.sha256).exists()
            if entry is not None and is_kept and before is not None:
                blobs.entries[key] = entry
                continue
            digest = file_hash(blob.path)
            if entry is not None and is_kept and entry.sha256 != digest:
                blobs.wrong.append(f"{blob.path} has another hash than in {self._target}, where the right bytes are")
                blobs.entries[key] = entry
                continue
            blobs.entries[key] = self._keep(blob, digest, blobs)
        return blobs

    def _keep(self, blob: BlobFile, digest: str, blobs: _Blobs) -> BlobEntry:
        """Put a blob's bytes where their hash says, unless they are there, and read again what was written."""
        size = blob.path.stat().st_size
        kept = stored_blob(self._target, digest)
        if not kept.exists() or kept.stat().st_size != size:
            kept.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            temporary = kept.with_name(f".{digest}")
            try:
                with blob.path.open("rb") as source, temporary.open("wb") as target:
                    shutil.copyfileobj(source, target, READ_BYTES)
                    target.flush()
                    os.fsync(target.fileno())
                if file_hash(temporary) != digest:
                    raise CareError(
                        "backup_unreadable",
                        f"{temporary} was not read as it was written",
                        "nothing was added; try another disk",
                    )
                temporary.rename(kept)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(kept.parent)
            blobs.written += 1
            blobs.bytes_written += size
        return BlobEntry(blob.oid.hex(), blob.tid.hex(), size, digest)

    def _root_hash(self, blobs: _Blobs) -> tuple[int, str]:
        """Read every current record of the state; a backup of what cannot be read would be none."""
        storage = None
        try:
            storage = open_at(self._snapshot.folder, self._snapshot.tid)
            total = len(storage)

            def of_blob(oid: bytes, tid: bytes) -> str | None:
                entry = blobs.entries.get((oid.hex(), tid.hex()))
                if entry is None:
                    blobs.wrong.append(f"the bytes of blob {oid.hex()} (transaction {tid.hex()}) are missing")
                    return None
                return entry.sha256

            def shown() -> Iterator[tuple[bytes, bytes, bytes]]:
                for done, record in enumerate(records(storage)):
                    self._tell("reading every object", done, total)
                    yield record

            found = root_hash(shown(), of_blob)
        except CareError:
            raise
        except Exception as error:
            raise CareError(
                "image_damaged",
                f"a record of the image cannot be read: {error}",
                "see which with `batos image verify`; the backups made before are as they were",
            ) from error
        finally:
            if storage is not None:
                storage.close()
        return found.objects, found.hexdigest()

    def _read_again(self, path: Path, piece: _Piece) -> None:
        self._tell("reading again what was written", None, None)
        if file_hash(path) != piece.sha256:
            raise CareError(
                "backup_unreadable", f"{path} was not read as it was written", "nothing was added; try another disk"
            )

    def _reply(
        self, manifest: Manifest, kind: str, why: str, began: float, blobs: _Blobs | None = None
    ) -> ImageBackedUp:
        blobs = blobs or _Blobs()
        return ImageBackedUp(
            name=manifest.name,
            kind=kind,
            why=why,
            tid=manifest.tid,
            root_hash=manifest.root_hash,
            objects=manifest.objects,
            blobs=len(manifest.blobs),
            bytes_written=0 if kind == "unchanged" else manifest.end - manifest.start,
            blobs_written=blobs.written,
            blob_bytes_written=blobs.bytes_written,
            duration_ms=round((time.monotonic() - began) * _MS),
            missing=manifest.missing,
        )


def _has_data(folder: Path, manifest: Manifest) -> bool:
    path = folder / DATA
    return path.exists() and path.stat().st_size == manifest.end - manifest.start
