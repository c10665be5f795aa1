"""An image made from a backup: into a home that has none, compared with the backup, whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ZODB.blob import FilesystemHelper
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import FileIterator

from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.known_hashes import remember
from batos.image.manifest import DATA, BlobEntry, Manifest, chain, manifests, stored_blob, sync_folder
from batos.image.moments import tid_of
from batos.image.records import READ_BYTES, BlobFolder, file_hash, open_at, records, root_hash
from batos.image.reporting import Tell
from batos.image.storage import BLOB_FOLDER, DATA_FILE, FOLDER_MODE
from batos.protocol import ImageRestored

PARTIAL = ".image-restore"
PACKED = "p"
_MS = 1000


@dataclass(frozen=True)
class _Choice:
    links: Sequence[Manifest]
    tid: str
    """Up to which transaction."""

    @property
    def last(self) -> Manifest:
        return self.links[-1]

    @property
    def is_whole(self) -> bool:
        return self.tid == self.last.tid


def restore(backups: Path, image: Path, moment: str, tell: Tell) -> ImageRestored:
    """Make an image from the backups of a folder.

    Args:
        backups: the folder.
        image: the image's folder, which must not be there yet, or be empty.
        moment: the transaction (16 hexadecimal digits) or the time with its zone up to which; empty: all there is.
        tell: is told how far it is.

    Raises:
        CareError: it cannot be done; the sentence says why, and nothing is left behind.
    """
    began = time.monotonic()
    _refuse_image(image)
    choice = _choose(manifests(backups), backups, moment)
    partial = image.parent / PARTIAL
    try:
        blobs = _check(backups, choice, tell)
        image.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=FOLDER_MODE)
        try:
            _write_data(backups, choice, partial / DATA_FILE, tell)
            if not choice.is_whole:
                _cut(partial / DATA_FILE, choice.tid)
            _write_blobs(backups, blobs, partial, tell)
            objects, digest, size = _look(partial, tell)
            _compare_root(choice, digest)
            if choice.is_whole:
                remember(partial, backups, choice.links)
            sync_folder(partial)
            os.replace(partial, image)  # noqa: PTH105 - onto an empty folder, which Path.rename promises nothing of
            sync_folder(image.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(
                str(image), error.strerror or str(error), "nothing is left there; free space or name another home"
            ) from error
        raise CareError(
            "restore_failed", f"{error.filename or image}: {error.strerror or error}", "nothing was restored"
        ) from error
    return ImageRestored(
        name=choice.last.name,
        folder=str(image),
        tid=choice.tid,
        root_hash=digest,
        compared=choice.is_whole,
        objects=objects,
        blobs=len(blobs),
        bytes_written=size,
        duration_ms=round((time.monotonic() - began) * _MS),
    )


def _refuse_image(image: Path) -> None:
    if not image.exists():
        return
    if not image.is_dir() or any(image.iterdir()):
        raise CareError(
            "image_exists",
            f"{image.parent} has an image already ({image})",
            "restore into another home, or end its fleet and move that folder away",
        )


def _choose(known: dict[str, Manifest], backups: Path, moment: str) -> _Choice:
    """Choose the oldest backup that reaches the moment: the older, the less of its past was packed away."""
    if not known:
        raise CareError("backup_none", f"there is no backup in {backups}", "make one with `batos image backup`")
    ordered = list(known.values())
    newest = ordered[-1]
    if not moment:
        return _Choice(chain(known, newest), newest.tid)
    is_tid, tid = tid_of(moment)
    if tid > newest.tid:
        if is_tid:
            raise CareError(
                "moment_unknown",
                f"the newest backup in {backups} ends with transaction {newest.tid}, before {tid}",
                "name an earlier one, or none",
            )
        return _Choice(chain(known, newest), newest.tid)
    found = next(manifest for manifest in ordered if manifest.tid >= tid)
    return _Choice(chain(known, found), tid)


def _check(backups: Path, choice: _Choice, tell: Tell) -> list[BlobEntry]:
    """Compare every byte that is needed with its hash, before anything is written; return the blobs."""
    blobs = [blob for blob in choice.last.blobs if blob.tid <= choice.tid]
    total = sum(link.end - link.start for link in choice.links) + sum(blob.size for blob in blobs)
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        tell("checking the backup", done, total)

    for link in choice.links:
        _compare(backups / link.name / DATA, link.sha256, count)
    for blob in blobs:
        _compare(stored_blob(backups, blob.sha256), blob.sha256, count)
    return blobs


def _compare(path: Path, sha256: str, count: Callable[[int], None]) -> None:
    try:
        found = file_hash(path, count)
    except FileNotFoundError:
        found = ""
    if found != sha256:
        raise CareError(
            "backup_damaged",
            f"{path} is {'missing' if not found else 'damaged: its SHA-256 is not the one in the manifest'}",
            "nothing was restored; take an older backup with --at, or another copy of this folder",
        )


def _write_data(backups: Path, choice: _Choice, path: Path, tell: Tell) -> None:
    total = choice.last.end
    with path.open("wb") as target:
        for link in choice.links:
            with (backups / link.name / DATA).open("rb") as source:
                while piece := source.read(READ_BYTES):
                    target.write(piece)
                    tell("writing the file", target.tell(), total)
        target.flush()
        os.fsync(target.fileno())


def _cut(path: Path, tid: str) -> None:
    """End the file with the last transaction up to this one."""
    last = bytes.fromhex(tid)
    end = 0
    transactions = FileIterator(str(path))
    try:
        for transaction in transactions:
            if transaction.tid <= last:
                end = transaction._tend + 8  # noqa: SLF001 - a transaction ends with its length, in 8 bytes
            elif transaction.status == PACKED:
                raise CareError(
                    "moment_packed",
                    f"what stood in the image at {tid} was packed away before this backup was made",
                    "name a later moment, or look for an older backup",
                )
    finally:
        transactions.close()
    if not end:
        raise CareError("moment_unknown", f"the image had not begun at {tid}", "name a later moment")
    os.truncate(path, end)


def _write_blobs(backups: Path, blobs: Sequence[BlobEntry], folder: Path, tell: Tell) -> None:
    helper = FilesystemHelper(str(folder / BLOB_FOLDER), "bushy")
    helper.create()
    for done, blob in enumerate(blobs):
        tell("writing blobs", done, len(blobs))
        oid = bytes.fromhex(blob.oid)
        helper.getPathForOID(oid, create=True)
        with (
            stored_blob(backups, blob.sha256).open("rb") as source,
            Path(helper.getBlobFilename(oid, bytes.fromhex(blob.tid))).open("wb") as target,
        ):
            shutil.copyfileobj(source, target, READ_BYTES)
            target.flush()
            os.fsync(target.fileno())


def _look(folder: Path, tell: Tell) -> tuple[int, str, int]:
    """Read all that was written, as a server will; return the number of objects, the root hash, the file's size."""
    FileStorage(str(folder / DATA_FILE), blob_dir=str(folder / BLOB_FOLDER)).close()  # leaves the index
    blobs = BlobFolder(folder)

    def of_blob(oid: bytes, tid: bytes) -> str | None:
        path = blobs.path(oid, tid)
        return file_hash(path) if path.exists() else None

    storage = open_at(folder)
    try:
        total = len(storage)
        digest = root_hash(
            (record for done, record in enumerate(records(storage)) if _told(tell, done, total)), of_blob
        )
        return digest.objects, digest.hexdigest(), int(storage.getSize())
    finally:
        storage.close()
        for name in (f"{DATA_FILE}.lock", f"{DATA_FILE}.tmp"):
            (folder / name).unlink(missing_ok=True)


def _compare_root(choice: _Choice, digest: str) -> None:
    if choice.is_whole and digest != choice.last.root_hash:
        raise CareError(
            "restore_differs",
            f"what was restored has the root hash {digest[:16]}…, the backup {choice.last.root_hash[:16]}…",
            "nothing is left of it; restore an older backup with --at",
        )


def _told(tell: Tell, done: int, total: int) -> bool:
    tell("reading what was restored", done, total)
    return True
