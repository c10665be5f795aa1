"""The image's files: opened with every fault said in one sentence, and never begun anew where there was something."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from zc.lockfile import LockError, LockFile  # type: ignore[import-untyped]
from ZODB.FileStorage.FileStorage import CorruptedError, FileStorageError

from batos.image.errors import StorageUnusable
from batos.image.known_hashes import known_hashes
from batos.image.saved_index import index_path, is_sealed, seal
from batos.image.swap import Swap
from batos.image.wholeness import BEGIN, check_end, check_there, how_to_restore
from batos.uvm.file_storage import DurableFileStorage, sync

DATA_FILE = "live_image.fs"
BLOB_FOLDER = "blobs"
FOLDER_MODE = 0o700
_log = logging.getLogger(__name__)


class ImageStorage(DurableFileStorage):
    """The storage that is served: it looks at the end of its file before ZODB does, which would cut it there."""

    def _restore_index(self) -> Any:
        path = Path(self._file_name)
        found = super()._restore_index() if is_sealed(index_path(path)) else None
        ending = check_end(path, BEGIN if found is None else found[1])
        if ending.torn:
            self._file.truncate(ending.position)
            _log.warning(
                "the last %d bytes of %s were a commit that was cut off before it was finished, and are dropped",
                ending.torn,
                path,
            )
        return found

    def _save_index(self) -> None:
        """Save the index, which only spares the next start a look at the whole file."""
        try:
            super()._save_index()
            seal(index_path(Path(self._file_name)))
        except OSError as error:
            _log.warning("the index of %s was not saved, the next start reads that file: %s", self._file_name, error)

    def _remove_blob_files_tagged_for_removal_during_pack(self) -> None:
        sync(Path(self._file_name).parent)  # only when the packed file is in its place for good
        super()._remove_blob_files_tagged_for_removal_during_pack()


def swap_in(folder: Path) -> Swap:
    """Return what is to be known of the pack of the image in a folder."""
    return Swap(folder / DATA_FILE, folder / BLOB_FOLDER)


def open_storage(folder: Path) -> ImageStorage:
    """Open the file storage with its blobs, making an empty one where there never was one.

    What a pack that was cut off left is put right; of a commit that was cut off nothing is kept.

    Args:
        folder: of `live_image.fs` and `blobs`; made with mode 0700 where missing.

    Raises:
        StorageUnusable: it is locked, unreadable, damaged, or shorter than it once was.
    """
    path, swap = folder / DATA_FILE, swap_in(folder)
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        with contextlib.closing(LockFile(f"{path}.lock")):
            swap.put_back()
            check_there(path)
            swap.drop()
        storage = ImageStorage(str(path), blob_dir=str(folder / BLOB_FOLDER), pack_keep_old=False)
        sync(folder)
    except LockError as error:
        raise StorageUnusable(
            "image_locked",
            str(path),
            f"{path} is in use by process {_lock_owner(path)}",
            "end the fleet that uses it with `batos down`, or set BATOS_HOME to another folder",
        ) from error
    except PermissionError as error:
        raise StorageUnusable(
            "image_permission",
            str(error.filename or path),
            f"no permission for {error.filename or path}",
            "let this user own the home's image folder and all that is in it",
        ) from error
    except (FileStorageError, CorruptedError, ValueError) as error:  # what the bytes of a damaged header spell
        raise StorageUnusable(
            "image_damaged",
            str(path),
            f"{path} is damaged or no image: {error}",
            f"move it away and {how_to_restore(known_hashes(folder))}",
        ) from error
    except OSError as error:
        raise StorageUnusable(
            "image_unreadable", str(path), f"{path} cannot be opened: {error.strerror or error}", "see to that first"
        ) from error
    try:
        swap.finish(storage)
    except OSError as error:
        _log.warning("of what a packed image needs no more something is left, until the next pack: %s", error)
    return storage


def _lock_owner(path: Path) -> str:
    """Return the process id that the lock file names."""
    try:
        text = path.with_name(path.name + ".lock").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "unknown"
    return text or "unknown"


def blob_bytes(folder: Path) -> int:
    """Return the bytes of all blobs. Walks the folder: not for every scrape."""
    total = 0
    for entry in (folder / BLOB_FOLDER).rglob("*.blob"):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total
