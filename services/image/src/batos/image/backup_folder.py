"""A folder of backups as it was found: what can be read, what cannot, what belongs together, and who writes there."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zc.lockfile import LockError, LockFile  # type: ignore[import-untyped]

from batos.image.errors import CareError
from batos.image.manifest import BLOBS, DATA, MANIFEST, SUMS, Manifest, read_manifest, stored_blob
from batos.image.records import file_hash

PARTIAL = ".partial-"
LOCK = ".lock"
NO_BACKUPS = (".", "lost+found")
"""How folders are called that are none: unfinished ones, and what a volume's file system keeps for itself."""
_NAME = re.compile(r"\d{8}T\d{12}-[0-9a-f]{16}-(full|incremental)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Piece(NamedTuple):
    """A file that backups need."""

    path: Path
    size: int
    sha256: str

    @property
    def is_there(self) -> bool:
        """Whether it is there and has its length."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    def is_whole(self, on_bytes: Callable[[int], None] = lambda _: None) -> bool:
        """Read it; whether it has the bytes that were written."""
        try:
            return self.is_there and file_hash(self.path, on_bytes) == self.sha256
        except OSError:
            return False

    @property
    def wrong(self) -> str:
        """What is wrong with it, where it is not as it was written."""
        return f"{self.path} is {'damaged' if self.is_there else 'missing or has another length'}"


@dataclass(frozen=True)
class BackupFolder:
    """What was found.

    Attributes:
        path: the folder.
        known: the backups that can be read, by name, the oldest state first, whatever the clock said.
        unreadable: why each of the others cannot, by name.
    """

    path: Path
    known: dict[str, Manifest]
    unreadable: dict[str, CareError]

    @property
    def newest(self) -> Manifest | None:
        """The backup of the newest state."""
        return next(reversed(self.known.values()), None)

    @property
    def images(self) -> list[str]:
        """Of which images there are backups, as far as they say so."""
        return sorted({manifest.image for manifest in self.known.values()} - {""})

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What is wrong with the backups that cannot be read, one sentence each."""
        return tuple(error.message for _, error in sorted(self.unreadable.items()))

    def of_image(self, image: str) -> dict[str, Manifest]:
        """Return the backups that may be of an image: also those that do not say of which they are."""
        return {name: manifest for name, manifest in self.known.items() if manifest.image in ("", image)}

    def chain(self, last: Manifest) -> list[Manifest]:
        """Return the backups that are needed for this one, the full one first.

        Raises:
            CareError: one of them is missing, or cannot be read.
        """
        links = [last]
        while links[-1].previous:
            link = links[-1]
            before = self.known.get(link.previous)
            if before is None and link.previous in self.unreadable:
                raise self.unreadable[link.previous]
            if before is None or before.end != link.start:
                raise CareError(
                    "backup_incomplete",
                    f"the backup {link.name} continues {link.previous}, which is missing or another"
                    + "".join(f"; {said}" for said in self.passed_over),
                    "restore an older one with --at, or put that folder back",
                )
            links.append(before)
        return links[::-1]

    def pieces(self, last: Manifest) -> list[Piece]:
        """Return every file that is needed for this backup, what it continues first, then blobs.

        Raises:
            CareError: one that it continues is missing, or cannot be read.
        """
        return [
            *(Piece(self.path / link.name / DATA, link.end - link.start, link.sha256) for link in self.chain(last)),
            *(Piece(stored_blob(self.path, blob.sha256), blob.size, blob.sha256) for blob in last.blobs),
        ]

    def lacking(self, last: Manifest) -> str:
        """Say what a backup lacks, without reading its bytes; empty where everything is there."""
        try:
            return next((piece.wrong for piece in self.pieces(last) if not piece.is_there), "")
        except CareError as error:
            return error.message


def found_in(path: Path) -> BackupFolder:
    """Look which backups a folder has.

    Raises:
        CareError: the folder cannot be read.
    """
    try:
        folders = [
            entry
            for entry in path.iterdir()
            if entry.is_dir() and not entry.name.startswith(NO_BACKUPS) and _may_be_backup(entry)
        ]
    except OSError as error:
        raise CareError(
            "backup_folder", f"{path} cannot be read: {error.strerror}", "name the folder of a backup"
        ) from error
    known, unreadable = [], {}
    for folder in folders:
        try:
            known.append(read_manifest(folder))
        except CareError as error:
            unreadable[folder.name] = error
    known.sort(key=lambda one: (one.tid, one.name))
    return BackupFolder(path, {manifest.name: manifest for manifest in known}, unreadable)


def _may_be_backup(folder: Path) -> bool:
    """Whether a folder has a backup's name and a file of one, or two such files under whatever name."""
    is_named = _NAME.fullmatch(folder.name) is not None
    try:
        files = sum((folder / file).is_file() for file in (MANIFEST, DATA, SUMS))
    except PermissionError:
        return is_named  # then nobody knows what it needs; another one is somebody else's
    return files > (0 if is_named else 1)


def stored_blobs(path: Path) -> Iterator[Path]:
    """Return every file of a blob in a folder of backups, and nothing else that may lie there."""
    return (file for file in (path / BLOBS).glob("??/*") if _SHA256.fullmatch(file.name))


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Make the folder this process's alone, and take away what somebody who was cut off left there.

    Raises:
        CareError: somebody else writes there.
    """
    try:
        lock = LockFile(str(path / LOCK))
    except LockError:
        raise CareError(
            "backup_runs", f"another backup to {path} runs, or old ones are taken away", "wait until that has ended"
        ) from None
    try:
        for left in path.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
        for part in (path / BLOBS).glob("??/.*"):
            part.unlink()
        yield
    finally:
        lock.close()
