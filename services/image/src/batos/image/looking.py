"""How the image's files are, and when they were cared for: what can be told in a moment, without reading them."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import time
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec
from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage.FileStorage import packed_version

from batos.image.known_hashes import LAST_BACKUP
from batos.image.manifest import replace_file
from batos.image.pins import pins
from batos.image.storage import DATA_FILE, blob_bytes
from batos.image.wholeness import check_end, check_there
from batos.protocol import ImageLooked, PinView
from batos.uvm import NoImageYet, open_image

LAST_PACK = "last_pack.json"
"""In the image's folder: when it was packed last, by schedule or because somebody asked for it; and why not."""
TID_BYTES = 8

S = TypeVar("S", bound=msgspec.Struct)


class _Backup(msgspec.Struct):
    """What of the last backup's description is shown."""

    folder: str
    made_at: str
    tid: str
    checked_at: str = ""


class _Pack(msgspec.Struct):
    at: float = 0.0
    error: str = ""


def look(folder: Path, pinned: tuple[PinView, ...], newest: str, *, pack_error: str | None = None) -> ImageLooked:
    """Return how the files in a folder are.

    Args:
        folder: of the image's files.
        pinned: the image's pins.
        newest: transaction of the image.
        pack_error: why the last pack by schedule failed; None: what was noted of it.
    """
    file = folder / DATA_FILE
    backup = _read(folder / LAST_BACKUP, _Backup)
    pack = _noted_pack(folder)
    return ImageLooked(
        file_bytes=file.stat().st_size if file.exists() else 0,
        blob_bytes=blob_bytes(folder),
        free_bytes=shutil.disk_usage(folder).free,
        oldest_at=_oldest(file),
        backup_at=max(map(_seconds, (backup.made_at, backup.checked_at))) if backup is not None else 0.0,
        backup_folder=backup.folder if backup is not None else "",
        backup_whole=backup is not None and backup.tid == newest,
        packed_at=pack.at,
        pack_error=pack.error if pack_error is None else pack_error,
        pins=pinned,
    )


def look_unserved(folder: Path) -> ImageLooked:
    """Return how the files of an image are that nobody serves, without keeping anybody from serving them meanwhile.

    Raises:
        StorageUnusable: a start would refuse it.
        UvmError: it cannot be opened.
        OSError: this user may not read it, or it is not there.
    """
    file = folder / DATA_FILE
    check_there(file)
    check_end(file)
    try:
        with open_image(f"file://{quote(str(file))}", read_only=True) as image, image.snapshot() as root:
            return look(folder, pins(root), image.last_tid())
    except NoImageYet:
        return look(folder, (), "")


def note_pack(folder: Path, error: str = "") -> None:
    """Remember that the image was packed now, or why not, where there is room for that: it is told to people only."""
    now = _Pack(time.time()) if not error else _Pack(_noted_pack(folder).at, error)
    with contextlib.suppress(OSError):
        replace_file(folder / LAST_PACK, msgspec.json.encode(now))


def pack_failure(folder: Path) -> str:
    """Return why the last pack failed; empty where it did not."""
    return _noted_pack(folder).error


def _noted_pack(folder: Path) -> _Pack:
    return _read(folder / LAST_PACK, _Pack) or _Pack()


def _read(path: Path, kind: type[S]) -> S | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _seconds(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp() if text else 0.0


def _oldest(file: Path) -> float:
    """Return when the oldest transaction of a file was; its id stands behind the file's first four bytes."""
    try:
        with file.open("rb") as source:
            begin = source.read(len(packed_version) + TID_BYTES)
    except FileNotFoundError:
        return 0.0
    tid = begin[len(packed_version) :]
    return float(TimeStamp(tid).timeTime()) if len(tid) == TID_BYTES else 0.0
