"""The image's files: opened with every fault said in one sentence, and never begun anew where there was something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import CorruptedError, FileStorageFormatError, packed_version
from ZODB.fsIndex import fsIndex

from batos.image.errors import StorageUnusable

DATA_FILE = "live_image.fs"
BLOB_FOLDER = "blobs"
FOLDER_MODE = 0o700
RESTORE = "restore it from a backup (`batos image restore DIR --into HOME`)"


def open_storage(folder: Path) -> FileStorage:
    """Open the file storage with its blobs, making an empty one where there never was one.

    Args:
        folder: of `live_image.fs` and `blobs`; made with mode 0700 where missing.

    Raises:
        StorageUnusable: it is locked, unreadable, damaged, or shorter than it once was.
    """
    path = folder / DATA_FILE
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        check_file(path)
        return FileStorage(str(path), blob_dir=str(folder / BLOB_FOLDER), pack_keep_old=False)
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
    except (FileStorageFormatError, CorruptedError) as error:
        raise StorageUnusable(
            "image_damaged", str(path), f"{path} is damaged or no image: {error}", f"move it away and {RESTORE}"
        ) from error
    except OSError as error:
        raise StorageUnusable(
            "image_unreadable", str(path), f"{path} cannot be opened: {error.strerror or error}", "see to that first"
        ) from error


def check_file(path: Path) -> None:
    """Refuse a file that is no image, or a part of one.

    Raises:
        StorageUnusable: it is; the sentence says what to do.
    """
    _check_kind(path)
    _check_length(path)


def _check_kind(path: Path) -> None:
    """Refuse what does not begin as a file storage does."""
    if not path.exists():
        return
    if not path.is_file():
        raise StorageUnusable("image_unreadable", str(path), f"{path} is no file", "move it away")
    with path.open("rb") as file:
        magic = file.read(len(packed_version))
    if not packed_version.startswith(magic):
        raise StorageUnusable(
            "image_foreign", str(path), f"{path} is no image: it begins with {magic!r}", f"move it away and {RESTORE}"
        )


def _check_length(path: Path) -> None:
    """Refuse a file that is shorter than its own index says it was.

    FileStorage itself would cut such a file at its last whole transaction, or begin an empty one, and say nothing.
    What a kill leaves behind is the other way round: more in the file than in the index.
    """
    index = path.with_name(path.name + ".index")
    if not index.exists():
        return
    known = _indexed_bytes(index)
    size = path.stat().st_size if path.exists() else 0
    if known > size:
        raise StorageUnusable(
            "image_truncated",
            str(path),
            f"{path} has {size} bytes, its index knows {known}: a part of it is missing",
            f"{RESTORE}; or remove {index.name} to go on with the whole transactions that are left",
        )


def _indexed_bytes(index: Path) -> int:
    """Return how long the data file was when its index was written; 0 where the index cannot tell."""
    try:
        content: Any = fsIndex.load(str(index))
        return int(content["pos"])
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - a damaged index raises whatever its bytes spell; FileStorage then scans the file
        return 0


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
