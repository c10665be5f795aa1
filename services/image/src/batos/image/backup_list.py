"""What a folder of backups has: listed, read to the last byte, and thinned."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from batos.image.backup_folder import PARTIAL, BackupFolder, Piece, found_in, owned, stored_blobs
from batos.image.errors import CareError
from batos.image.manifest import Manifest, sync_folder
from batos.image.reporting import Tell, untold
from batos.protocol import BackupView, ImageBackups

MAX_FAULTS = 200
"""How many are told; all are counted."""
_MS = 1000


class _Looked:
    """A folder of backups, and what is wrong with the files in it."""

    def __init__(self, folder: BackupFolder, *, read: bool, tell: Tell) -> None:
        self._began = time.monotonic()
        self.folder = folder
        self._why: dict[str, str] = {}
        every: dict[Path, Piece] = {}  # each once: most of them are needed by every backup
        for manifest in folder.known.values():
            try:
                every |= {piece.path: piece for piece in folder.pieces(manifest)}
            except CareError as error:
                self._why[manifest.name] = error.message
        self._bytes_read = 0
        total = sum(piece.size for piece in every.values())

        def count(size: int) -> None:
            self._bytes_read += size
            tell("reading the backups", self._bytes_read, total)

        bad = {
            path: piece.wrong
            for path, piece in every.items()
            if not (piece.is_whole(count) if read else piece.is_there)
        }
        self._faults = list(dict.fromkeys((*folder.passed_over, *self._why.values(), *bad.values())))
        if not bad:
            return
        for manifest in folder.known.values():
            if manifest.name in self._why:
                continue
            wrong = next((bad[piece.path] for piece in folder.pieces(manifest) if piece.path in bad), "")
            if wrong:
                self._why[manifest.name] = wrong

    def restores(self, manifest: Manifest) -> bool:
        """Whether all that it needs is there."""
        return manifest.name not in self._why

    def reply(self, removed: Iterable[Manifest] = (), blobs: int = 0, size: int = 0) -> ImageBackups:
        """Return what was found, and what was taken away."""
        unreadable = sorted(self.folder.unreadable.items())
        return ImageBackups(
            folder=str(self.folder.path),
            backups=(
                *(BackupView(name=name, restores=False, why=error.message) for name, error in unreadable),
                *(self._view(manifest) for manifest in self.folder.known.values()),
            ),
            faults_found=len(self._faults),
            faults=tuple(self._faults[:MAX_FAULTS]),
            bytes_read=self._bytes_read,
            removed=tuple(manifest.name for manifest in removed),
            blobs_removed=blobs,
            bytes_removed=size,
            duration_ms=round((time.monotonic() - self._began) * _MS),
        )

    def _view(self, manifest: Manifest) -> BackupView:
        return BackupView(
            name=manifest.name,
            restores=self.restores(manifest),
            why=self._why.get(manifest.name, ""),
            kind=manifest.kind,
            made_at=manifest.made_at,
            tid=manifest.tid,
            image=manifest.image,
            objects=manifest.objects,
            blobs=len(manifest.blobs),
            bytes=manifest.end - manifest.start,
            missing=manifest.missing,
        )


def listed(path: Path) -> ImageBackups:
    """Return what backups a folder has, and whether all is there that they need; nothing is read but manifests.

    Raises:
        CareError: the folder cannot be read.
    """
    return _Looked(found_in(path), read=False, tell=untold).reply()


def read_all(path: Path, tell: Tell) -> ImageBackups:
    """Read every byte of every backup in a folder, each once, and compare it with its hash.

    Raises:
        CareError: the folder cannot be read, or there is no backup in it.
    """
    folder = found_in(path)
    _refuse_none(folder)
    return _Looked(folder, read=True, tell=tell).reply()


def thinned(path: Path, *, keep: int | None, days: float | None, dry_run: bool, tell: Tell) -> ImageBackups:
    """Take away old backups, and the blobs that no other needs.

    What is kept of each image: its newest backup that can be restored in any case, all that come after the oldest one
    to be kept, and whatever these continue. Names go first, bytes later: whoever is cut off leaves what the next one
    takes away.

    Args:
        path: the folder.
        keep: so many that can be restored; None: see `days`.
        days: those that were made since; one of the two is given.
        dry_run: change nothing, only say what would be.
        tell: is told how far it is.

    Raises:
        CareError: nothing was taken away, and why; or somebody else writes there.
    """
    _refuse_none(found_in(path))
    try:
        with contextlib.nullcontext() if dry_run else owned(path):
            looked = _Looked(found_in(path), read=False, tell=tell)
            staying = _staying(looked, keep, days)
            going = [manifest for manifest in looked.folder.known.values() if manifest.name not in staying]
            wanted = {blob.sha256 for name in staying for blob in looked.folder.known[name].blobs}
            blobs = [file for file in stored_blobs(path) if file.name not in wanted]
            size = sum(one.end - one.start for one in going) + sum(file.stat().st_size for file in blobs)
            if not dry_run:
                _take_away(path, going, blobs, tell)
    except OSError as error:
        raise CareError(
            "thinning_failed",
            f"{error.filename or path}: {error.strerror or error}",
            "see to that, and ask again: what is left is whole",
        ) from error
    return looked.reply(going, len(blobs), size)


def _refuse_none(folder: BackupFolder) -> None:
    if not folder.known and not folder.unreadable:
        raise CareError("backup_none", f"there is no backup in {folder.path}", "make one with `batos image backup`")


def _staying(looked: _Looked, keep: int | None, days: float | None) -> set[str]:
    """Return the names of the backups that stay.

    Raises:
        CareError: one cannot be read, so that nobody knows what it needs.
    """
    folder = looked.folder
    error = next(iter(folder.unreadable.values()), None)
    if error is not None:
        raise CareError(
            error.code,
            f"nothing was taken away, for nobody knows which blobs are still needed: {error.message}",
            error.hint,
        )
    staying: set[str] = set()
    for image in folder.images or [""]:
        for last in _wanted(looked, list(folder.of_image(image).values()), keep, days):
            name = last.name
            while name in folder.known and name not in staying:
                staying.add(name)
                name = folder.known[name].previous
    return staying


def _wanted(looked: _Looked, backups: list[Manifest], keep: int | None, days: float | None) -> Iterator[Manifest]:
    good = [number for number, manifest in enumerate(backups) if looked.restores(manifest)]
    if not good:
        yield from backups
    elif keep is not None:
        yield from backups[good[-keep] if keep < len(good) else 0 :]
    else:
        since = dt.datetime.now(dt.UTC) - dt.timedelta(days=days or 0.0)
        yield from backups[good[-1] :]
        yield from (manifest for manifest in backups if dt.datetime.fromisoformat(manifest.made_at) >= since)


def _take_away(path: Path, going: list[Manifest], blobs: list[Path], tell: Tell) -> None:
    names = [manifest.name for manifest in reversed(going)]  # none is ever left without what it continues
    hidden = [(path / name).rename(path / f"{PARTIAL}{name}") for name in names]
    sync_folder(path)
    for done, folder in enumerate(hidden):
        tell("taking away backups", done, len(hidden))
        shutil.rmtree(folder)
    for done, file in enumerate(blobs):
        tell("taking away blobs", done, len(blobs))
        file.unlink()
