"""A backup of an image that is being served: the file up to a fixed position, and every blob, each once.

The image's file only grows and blobs never change, so nothing has to stop: the vessel names a transaction and the
position behind it, and packs nothing meanwhile. This runs in a process of its own.

ZODB's own `repozo` is not used: it knows no blobs, names files by the second, reads the whole file to find out where it
stopped, and adds to its list in place, so that a backup that was cut off looks like one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from batos.image.backup_blobs import BackupBlobs
from batos.image.backup_folder import PARTIAL, BackupFolder, found_in, owned
from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.image_id import IMAGE_ID, image_id, write_image_id
from batos.image.known_hashes import remember
from batos.image.manifest import (
    CHUNK_BYTES,
    CHUNK_DIGITS,
    DATA,
    FORMAT,
    FULL,
    INCREMENTAL,
    Manifest,
    sync_folder,
    write_manifest,
)
from batos.image.records import file_hash, open_at, records, root_hash
from batos.image.reporting import Tell
from batos.image.storage import DATA_FILE, FOLDER_MODE
from batos.image.wholeness import tid_before
from batos.protocol import ImageBackedUp, new_id

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
        target.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with owned(target):
            return _Backup(snapshot, found_in(target), tell).run(full, began)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(
                str(target), error.strerror or str(error), "nothing was added; free space there or name another folder"
            ) from error
        is_image = str(error.filename).startswith(f"{snapshot.folder}{os.sep}")
        raise CareError(
            "backup_failed",
            f"the backup to {target} failed: {error.filename or ''} {error.strerror or error}",
            f"nothing was added; {'see to the image: `batos image verify`' if is_image else 'see to that folder'}",
        ) from error


class _Backup:
    def __init__(self, snapshot: Snapshot, folder: BackupFolder, tell: Tell) -> None:
        self._snapshot = snapshot
        self._folder = folder
        self._target = folder.path
        self._tell = tell
        self._source = snapshot.folder / DATA_FILE
        self._blobs = BackupBlobs(snapshot.folder, folder, tell)

    def run(self, full: bool, began: float) -> ImageBackedUp:
        before, why = self._previous()
        image = self._image_id(before)
        if full:
            before, why = None, "a full one was asked for"
        try:
            self._blobs.copy(self._snapshot.tid, before)
            if before is not None and before.end == self._snapshot.position:
                lacking = self._is_not_the_same(before)
                if not lacking:
                    self._note(before, checked_at=dt.datetime.now(dt.UTC).isoformat())
                    return self._reply(before, "unchanged", "nothing was committed since", began)
                before, why = None, lacking
            manifest = self._add(before, image)
        except BaseException:
            self._blobs.undo()
            raise
        self._folder.known[manifest.name] = manifest
        self._note(manifest)
        return self._reply(manifest, manifest.kind, why, began)

    def _is_not_the_same(self, before: Manifest) -> str:
        """Say why the last backup is not what one would be now although nothing was committed since; empty: it is."""
        if before.missing:  # for these there is no hash, so each record is to be looked at again
            self._root_hash()
        if set(self._blobs.entries.values()) - set(before.blobs):
            return f"the image has blobs now that {before.name} lacks"
        return self._folder.lacking(before)

    def _add(self, before: Manifest | None, image: str) -> Manifest:
        """Write a backup; what is not whole has a name that begins with a dot."""
        made_at = dt.datetime.now(dt.UTC)
        kind = FULL if before is None else INCREMENTAL
        name = f"{made_at:%Y%m%dT%H%M%S%f}-{self._snapshot.tid}-{kind}"
        partial = self._target / f"{PARTIAL}{name}"
        partial.mkdir(mode=FOLDER_MODE)
        try:
            piece = self._copy_data(partial / DATA, 0 if before is None else before.end)
            objects, digest = self._root_hash()
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
                blobs=tuple(sorted(self._blobs.entries.values(), key=lambda blob: (blob.oid, blob.tid))),
                missing=tuple(self._blobs.wrong),
                image=image,
            )
            write_manifest(partial, manifest)
            sync_folder(partial)
            partial.rename(self._target / name)
            sync_folder(self._target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return manifest

    def _image_id(self, before: Manifest | None) -> str:
        """Return which image this is, and write it down where that was not done yet.

        Raises:
            CareError: the folder has backups of another.
        """
        folder, there = self._snapshot.folder, self._folder.images
        written = image_id(folder)
        known = written or (before.image if before is not None else "")  # its files alone may have been copied by hand
        if there and there != [known]:
            hint = "name another folder for this one"
            if not known:
                hint += f"; if it is the same, say so: echo {there[0]} > {shlex.quote(str(folder / IMAGE_ID))}"
            raise CareError(
                "backup_foreign", f"{self._target} has the backups of another image ({', '.join(there)})", hint
            )
        known = known or new_id()
        if known != written:
            write_image_id(folder, known)
        return known

    def _note(self, manifest: Manifest, checked_at: str = "") -> None:
        """Keep beside the image what this backup knows, and when it was made or found to have everything."""
        try:
            remember(self._snapshot.folder, self._target, self._folder.chain(manifest), checked_at=checked_at)
        except OSError as error:
            raise CareError(
                "backup_unnoted",
                f"the backup {manifest.name} in {self._target} is whole, but that could not be noted in "
                f"{self._snapshot.folder}: {error.strerror or error}",
                "see to that folder, and then `batos image backup` again",
            ) from error

    def _previous(self) -> tuple[Manifest | None, str]:
        """Return the newest backup if this one can continue it, and why it can or cannot."""
        last = self._folder.newest
        if last is None:
            return None, "there was none before"
        if not self._begins_with(last):
            return None, "the image was packed since the last one, or is another"
        try:
            links = self._folder.chain(last)
        except CareError as error:
            return None, error.message
        if any(not piece.is_there for piece in self._folder.pieces(last)[: len(links)]):
            return None, "a piece of those before is missing"
        return last, f"it continues {last.name}"

    def _begins_with(self, last: Manifest) -> bool:
        """Whether the file still begins as it did at a backup.

        A pack moves every transaction that it keeps and everything behind it, so the last one tells: whether a
        transaction of this id ends there. The bytes before it tell whether the file is another that had it, too.
        """
        if last.end > self._snapshot.position or tid_before(self._source, last.end).hex() != last.tid:
            return False
        with self._source.open("rb") as file:
            place = last.start + (len(last.chunks) - 1) * last.chunk_bytes
            file.seek(place)
            return hashlib.sha256(file.read(last.end - place)).hexdigest()[:CHUNK_DIGITS] == last.chunks[-1]

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

    def _root_hash(self) -> tuple[int, str]:
        """Read every current record of the state; a backup of what cannot be read would be none."""
        storage = None
        try:
            storage = open_at(self._snapshot.folder, self._snapshot.tid)
            total = len(storage)

            def of_blob(oid: bytes, tid: bytes) -> str | None:
                entry = self._blobs.entry(oid.hex(), tid.hex())
                return None if entry is None else entry.sha256

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

    def _reply(self, manifest: Manifest, kind: str, why: str, began: float) -> ImageBackedUp:
        return ImageBackedUp(
            name=manifest.name,
            kind=kind,
            why=why,
            tid=manifest.tid,
            root_hash=manifest.root_hash,
            objects=manifest.objects,
            blobs=len(manifest.blobs),
            bytes_written=0 if kind == "unchanged" else manifest.end - manifest.start,
            blobs_written=self._blobs.written,
            blob_bytes_written=self._blobs.bytes_written,
            duration_ms=round((time.monotonic() - began) * _MS),
            missing=tuple(self._blobs.wrong),
            passed_over=self._folder.passed_over,
        )
