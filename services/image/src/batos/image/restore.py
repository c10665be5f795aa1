"""An image made from a backup: into a home that has none, compared with the backup, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ZODB.blob import FilesystemHelper
from ZODB.FileStorage.FileStorage import FileIterator

from batos.image.backup_folder import BackupFolder, found_in
from batos.image.choosing import Choice, chosen
from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.image_id import write_image_id
from batos.image.known_hashes import remember
from batos.image.manifest import DATA, BlobEntry, stored_blob, sync_folder
from batos.image.records import READ_BYTES, BlobFolder, file_hash, open_at, records, root_hash
from batos.image.reporting import Tell
from batos.image.storage import BLOB_FOLDER, DATA_FILE, FOLDER_MODE, open_storage
from batos.protocol import ImageRestored

PARTIAL = ".image-restore"
PACKED = "p"
_MS = 1000


def restore(backups: Path, image: Path, moment: str, tell: Tell, *, of_image: str = "") -> ImageRestored:
    """Make an image from the backups of a folder.

    Args:
        backups: the folder.
        image: the image's folder, which must not be there yet, or be empty.
        moment: the transaction (16 hexadecimal digits) or the time with its zone up to which; empty: all there is.
        tell: is told how far it is.
        of_image: of which image, where the folder has the backups of several.

    Raises:
        CareError: it cannot be done; the sentence says why, and nothing is left behind.
    """
    began = time.monotonic()
    try:
        _refuse_image(image)
        folder = found_in(backups)
        choice = chosen(folder, moment, of_image, tell)
        image.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with _alone(image.parent):
            _refuse_image(image)
            made = _make(folder, choice, image, tell)
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
        root_hash=made.root_hash,
        compared=choice.is_whole,
        objects=made.objects,
        blobs=len(choice.blobs),
        bytes_written=made.size,
        duration_ms=round((time.monotonic() - began) * _MS),
        missing=tuple(made.missing),
        passed_over=(*folder.passed_over, *(error.message for error in choice.refused)),
    )


@dataclass(frozen=True)
class _Made:
    """What was read of the image that was made."""

    root_hash: str
    objects: int
    size: int
    missing: Sequence[str]


def _make(folder: BackupFolder, choice: Choice, image: Path, tell: Tell) -> _Made:
    """Write the image beside its place, read it again, and put it there."""
    partial = image.parent / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=FOLDER_MODE)
    try:
        _write_data(folder.path, choice, partial / DATA_FILE, tell)
        if not choice.is_whole:
            _cut(partial / DATA_FILE, choice)
        _write_blobs(folder.path, choice.blobs, partial, tell)
        made = _look(partial, tell)
        _compare_root(choice, made.root_hash)
        if choice.is_whole:
            remember(partial, folder.path, choice.links)
        image_id = _image_id(folder, choice)
        if image_id:
            write_image_id(partial, image_id)
        sync_folder(partial)
        os.replace(partial, image)  # noqa: PTH105 - onto an empty folder, which Path.rename promises nothing of
        sync_folder(image.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return made


def _image_id(folder: BackupFolder, choice: Choice) -> str:
    """Return which image it is; empty where no backup says so.

    One of an earlier version does not say so itself. It is of the image that all the others are of: that one's next
    backup continued it, or began beside it.
    """
    if choice.last.image or len(folder.images) != 1:
        return choice.last.image
    return folder.images[0]


def _refuse_image(image: Path) -> None:
    """Refuse a place that a folder cannot take.

    Raises:
        CareError: there is an image, a link, or another disk.
    """
    if image.is_symlink():
        raise CareError(
            "image_place",
            f"{image} is a symbolic link, in whose place a folder would be put",
            "take the link away first; the folder can be moved and linked again once it is restored",
        )
    if image.is_mount():
        raise CareError(
            "image_place",
            f"{image} is a mount point, in whose place no folder can be put",
            "mount that disk as the home, or unmount it, restore, and move the files there",
        )
    if image.exists() and (not image.is_dir() or any(image.iterdir())):
        raise CareError(
            "image_exists",
            f"{image.parent} has an image already ({image})",
            "restore into another home, or end its fleet and move that folder away",
        )


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep other restores out of a home; the lock ends with this process.

    Raises:
        CareError: another one is at work there.
    """
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CareError("restore_runs", f"another restore into {home} runs", "wait until it has ended") from None
        yield
    finally:
        os.close(descriptor)


def _write_data(backups: Path, choice: Choice, path: Path, tell: Tell) -> None:
    total = choice.last.end
    with path.open("wb") as target:
        for link in choice.links:
            with (backups / link.name / DATA).open("rb") as source:
                while piece := source.read(READ_BYTES):
                    target.write(piece)
                    tell("writing the file", target.tell(), total)
        target.flush()
        os.fsync(target.fileno())


def _cut(path: Path, choice: Choice) -> None:
    """End the file with the last transaction up to this one."""
    last = bytes.fromhex(choice.tid)
    end = 0
    transactions = FileIterator(str(path))
    try:
        for transaction in transactions:
            if transaction.tid <= last:
                end = transaction._tend + 8  # noqa: SLF001 - a transaction ends with its length, in 8 bytes
            elif transaction.status == PACKED:
                if choice.refused:  # an older backup would have it, and cannot be used
                    raise choice.refused[0]
                raise CareError(
                    "moment_packed",
                    f"what stood in the image at {choice.tid} was packed away before this backup was made",
                    "name a later moment, or look for an older backup",
                )
    finally:
        transactions.close()
    if not end:
        raise CareError("moment_unknown", f"the image had not begun at {choice.tid}", "name a later moment")
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


def _look(folder: Path, tell: Tell) -> _Made:
    """Read all that was written, as a server will."""
    open_storage(folder).close()  # leaves the index
    blobs = BlobFolder(folder)
    missing: list[str] = []

    def of_blob(oid: bytes, tid: bytes) -> str | None:
        path = blobs.path(oid, tid)
        if path.exists():
            return file_hash(path)
        missing.append(f"the bytes of blob {oid.hex()} (transaction {tid.hex()}) are not in the backup")
        return None

    storage = open_at(folder)
    try:
        total = len(storage)

        def shown() -> Iterator[tuple[bytes, bytes, bytes]]:
            for done, record in enumerate(records(storage)):
                tell("reading what was restored", done, total)
                yield record

        found = root_hash(shown(), of_blob)
        return _Made(found.hexdigest(), found.objects, int(storage.getSize()), missing)
    finally:
        storage.close()
        for name in (f"{DATA_FILE}.lock", f"{DATA_FILE}.tmp"):
            (folder / name).unlink(missing_ok=True)


def _compare_root(choice: Choice, digest: str) -> None:
    if choice.is_whole and digest != choice.last.root_hash:
        raise CareError(
            "restore_differs",
            f"what was restored has the root hash {digest[:16]}…, the backup {choice.last.root_hash[:16]}…",
            "nothing is left of it; restore an older backup with --at",
        )
