"""The blobs of a backup: each of them once in the folder of backups, with the bytes that it always had."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from batos.image.backup_folder import BackupFolder, Piece
from batos.image.errors import CareError
from batos.image.known_hashes import known_hashes
from batos.image.manifest import BlobEntry, Manifest, stored_blob, sync_folder
from batos.image.records import READ_BYTES, BlobFile, BlobFolder, file_hash
from batos.image.reporting import Tell
from batos.image.storage import FOLDER_MODE

Key = tuple[str, str]
"""Object and transaction."""


class BackupBlobs:
    """Brings the blobs of an image into a folder of backups.

    Attributes:
        entries: the versions that the backup has.
        wrong: what is wrong with the image's own blobs, one sentence each.
        written: how many were written.
        bytes_written: how many bytes these have.
    """

    def __init__(self, image: Path, folder: BackupFolder, tell: Tell) -> None:
        """Begin with nothing.

        Args:
            image: the folder of the image's files.
            folder: of backups.
            tell: is told how far it is.
        """
        self._image = image
        self._folder = folder
        self._tell = tell
        noted = known_hashes(image)
        everywhere = [() if noted is None else noted.blobs, *(one.blobs for one in folder.known.values())]
        self._known: dict[Key, BlobEntry] = {(blob.oid, blob.tid): blob for blobs in everywhere for blob in blobs}
        self._reads_stored = True
        self._stored: dict[str, bool] = {}
        self._lost: set[Key] = set()
        self._added: list[Path] = []
        self.entries: dict[Key, BlobEntry] = {}
        self.wrong: list[str] = []
        self.written = 0
        self.bytes_written = 0

    def copy(self, tid: str, before: Manifest | None) -> None:
        """Take in every version up to a transaction.

        Args:
            tid: the transaction.
            before: the backup that is continued: what is known of its blobs is looked for, not read again. None: all
                is read, what the folder has as well.
        """
        self._reads_stored = before is None
        there = {
            (blob.oid.hex(), blob.tid.hex()): blob for blob in BlobFolder(self._image) if blob.tid <= bytes.fromhex(tid)
        }
        for done, (key, blob) in enumerate(there.items()):
            self._tell("copying blobs", done, len(there))
            known = self._known.get(key)
            if before is not None and known is not None and self._is_stored(known) and _has(blob.path, known.size):
                self.entries[key] = known
            else:
                self._take(key, blob, known)
        for known in () if before is None else before.blobs:  # nothing was packed since, so each still has its file
            self.entry(known.oid, known.tid)

    def entry(self, oid: str, tid: str) -> BlobEntry | None:
        """Return a version that the image knows; None where neither the image nor the folder has its bytes."""
        key = oid, tid
        if key not in self.entries and key not in self._lost:
            self._rescue(key, f"the bytes of blob {oid} (transaction {tid}) are missing in the image")
        return self.entries.get(key)

    def undo(self) -> None:
        """Take away what was added: there is no backup that needs it. What was put right stays."""
        for path in self._added:
            path.unlink(missing_ok=True)

    def _take(self, key: Key, blob: BlobFile, known: BlobEntry | None) -> None:
        if not blob.path.is_file():
            self._rescue(key, f"{blob.path} is no file")
            return
        try:
            found = BlobEntry(*key, blob.path.stat().st_size, file_hash(blob.path))
        except OSError as error:
            self._rescue(key, f"{blob.path} cannot be read: {error.strerror or error}")
            return
        if known is not None and known.sha256 != found.sha256:
            said = f"{blob.path} has another hash than in the backups before"
            if self._is_stored(known):
                self._rescue(key, said)
                return
            self.wrong.append(f"{said}, and the right bytes are not in {self._folder.path}")
        self._keep(blob.path, found)
        self.entries[key] = found

    def _rescue(self, key: Key, why: str) -> None:
        """Take what the folder has of a blob whose file in the image is not as it was."""
        known = self._known.get(key)
        if known is not None and self._is_stored(known):
            self.entries[key] = known
            self.wrong.append(f"{why}; the right bytes are {stored_blob(self._folder.path, known.sha256)}")
        else:
            self._lost.add(key)
            self.wrong.append(why)

    def _is_stored(self, entry: BlobEntry) -> bool:
        found = self._stored.get(entry.sha256)
        if found is None:
            piece = Piece(stored_blob(self._folder.path, entry.sha256), entry.size, entry.sha256)
            found = piece.is_whole() if self._reads_stored else piece.is_there
            self._stored[entry.sha256] = found
        return found

    def _keep(self, source: Path, entry: BlobEntry) -> None:
        """Put a blob's bytes where their hash says, unless they are there, and read again what was written."""
        if self._is_stored(entry):
            return
        kept = stored_blob(self._folder.path, entry.sha256)
        kept.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        temporary = kept.with_name(f".{entry.sha256}")
        is_new = not kept.exists()
        try:
            with source.open("rb") as reading, temporary.open("wb") as writing:
                shutil.copyfileobj(reading, writing, READ_BYTES)
                writing.flush()
                os.fsync(writing.fileno())
            if file_hash(temporary) != entry.sha256:
                raise CareError(
                    "backup_unreadable",
                    f"{temporary} was not read as it was written",
                    "nothing was added; try another disk",
                )
            temporary.rename(kept)
        finally:
            temporary.unlink(missing_ok=True)
        if is_new:
            self._added.append(kept)
        sync_folder(kept.parent)
        self._stored[entry.sha256] = True
        self.written += 1
        self.bytes_written += entry.size


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
