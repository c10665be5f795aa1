"""Whether the image's file ends as it should: with a whole transaction, or with one that was never finished.

FileStorage itself cuts a file at the first transaction that does not fit, whatever follows, and begins an empty one
where there is none. Only what was never acknowledged may go: a commit that a kill cut off, whose header says so. Every
transaction has its length at both ends, so that headers alone tell, and nothing else is read.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from ZODB.FileStorage.FileStorage import packed_version
from ZODB.FileStorage.format import TRANS_HDR, TRANS_HDR_LEN

from batos.image.errors import StorageUnusable
from batos.image.known_hashes import LAST_BACKUP, KnownHashes, known_hashes
from batos.image.saved_index import index_path, saved_index, unsealed_position

BEGIN = len(packed_version)
"""Where the first transaction stands."""
BLOBS = "*.blob"
_TID_BYTES = 8
_LENGTH_BYTES = 8
_STATUS = _TID_BYTES + _LENGTH_BYTES
"""Where in a header the status stands."""
_HEADER = struct.Struct(TRANS_HDR)
_UNFINISHED = b"c"
_FINISHED = b" pu"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a file ends.

    Attributes:
        position: behind the last whole transaction.
        torn: bytes behind it, of a commit that was cut off.
        missing: bytes that the transaction there lacks, which was finished.
        wrong: what is wrong with it otherwise; empty where nothing is.
    """

    position: int
    torn: int = 0
    missing: int = 0
    wrong: str = ""


def how_to_restore(known: KnownHashes | None) -> str:
    """Return the command that brings an image back, for people."""
    folder = "DIR" if known is None else known.folder
    return f"restore it from a backup (`batos image restore {folder} --into HOME`)"


def check_there(path: Path) -> None:
    """Refuse a file that is no image, and a missing or empty one where there was an image.

    Raises:
        StorageUnusable: it is; the sentence says what to do.
    """
    _check_kind(path)
    if _size(path) <= BEGIN:
        _check_never_was(path)


def check_end(path: Path, start: int = 0) -> Ending:
    """Refuse a file of which a part is missing, or that is damaged where transactions were added last.

    Args:
        path: of the file.
        start: behind a transaction, from where on headers are looked at; 0: from where the index ends.

    Returns:
        How it ends. Only a commit that was cut off may stand behind its last whole transaction.

    Raises:
        StorageUnusable: it is; the sentence says what to do.
    """
    known = known_hashes(path.parent)
    size = _size(path)
    saved = saved_index(path)
    indexed = unsealed_position(path) if saved is None else saved.position
    if indexed > max(size, BEGIN):
        raise StorageUnusable(
            "image_truncated",
            str(path),
            f"{path} has {size} bytes, its index knows {indexed}: a part of it is missing",
            f"{how_to_restore(known)}; or remove {index_path(path)} to go on with the whole transactions that are left",
        )
    ending = Ending(size)
    if size > BEGIN:
        ending = ending_of(path, start or (BEGIN if saved is None else saved.position))
    _check_ending(path, size, ending, known)
    if ending.position <= BEGIN:
        _check_never_was(path)
    return ending


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_kind(path: Path) -> None:
    """Refuse what does not begin as a file storage does."""
    if not path.exists():
        return
    if not path.is_file():
        raise StorageUnusable("image_unreadable", str(path), f"{path} is no file", "move it away")
    with path.open("rb") as file:
        magic = file.read(BEGIN)
    if not packed_version.startswith(magic):
        raise StorageUnusable(
            "image_foreign",
            str(path),
            f"{path} is no image: it begins with {magic!r}",
            f"move it away and {how_to_restore(known_hashes(path.parent))}",
        )


def _check_never_was(path: Path) -> None:
    """Refuse to begin with nothing where there was an image: beside what only an image leaves."""
    folder = path.parent
    old, packed = (path.with_name(f"{path.name}.{left}") for left in ("old", "pack"))
    if not path.exists() and old.exists() and packed.exists():
        raise StorageUnusable(
            "image_half_packed",
            str(path),
            f"{path} is missing, because a pack was cut off: {old} is there",
            "start its fleet (`batos up`), which puts it back",
        )
    traces = [folder / LAST_BACKUP, old, packed, *([] if path.exists() else [index_path(path)])]
    left = next((trace for trace in traces if trace.exists()), None) or next(folder.rglob(BLOBS), None)
    if left is not None:
        lacking = "has no transaction" if path.exists() else "is missing"
        raise StorageUnusable(
            "image_truncated",
            str(path),
            f"{path} {lacking}, but there was an image: {left} is there",
            f"{how_to_restore(known_hashes(folder))}; or move {folder} away to begin with an empty image",
        )


def _check_ending(path: Path, size: int, ending: Ending, known: KnownHashes | None) -> None:
    """Refuse a file of which something is missing or damaged that was committed."""
    restore = how_to_restore(known)
    backed_up = known.pieces[-1].end if known is not None and known.pieces else 0
    rest = size - ending.position
    give_up = ""
    if ending.position >= backed_up:  # otherwise the backup has more than what would be left
        give_up = f"; or, to go on without the {rest} bytes from there on, `truncate -s {ending.position} {path}`"
    if ending.missing:
        raise StorageUnusable(
            "image_truncated",
            str(path),
            f"{path} ends within a transaction that was finished: at byte {ending.position} there are {rest} bytes of "
            f"{rest + ending.missing}, so a part of it is missing, or that header is damaged",
            restore + give_up,
        )
    if ending.wrong:
        raise StorageUnusable(
            "image_damaged",
            str(path),
            f"{path} is damaged at byte {ending.position} of {size}: {ending.wrong}",
            restore + give_up,
        )
    if ending.position < backed_up:
        raise StorageUnusable(
            "image_truncated",
            str(path),
            f"{path} has {ending.position} bytes of whole transactions, {backed_up} were there at the last backup: a "
            "part of it is missing",
            f"{restore}; or remove {path.parent / LAST_BACKUP} to go on with what is left",
        )


def ending_of(path: Path, start: int) -> Ending:
    """Look from header to header at where whole transactions end.

    Args:
        path: of the file.
        start: where a transaction begins.
    """
    with path.open("rb") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        position, newest = start, _tid_before(descriptor, start)
        header = os.pread(descriptor, TRANS_HDR_LEN, start)
        while header:
            end = position + int.from_bytes(header[_TID_BYTES:_STATUS]) + _LENGTH_BYTES
            is_unfinished = header[_STATUS : _STATUS + 1] == _UNFINISHED and end >= size
            if len(header) < TRANS_HDR_LEN or is_unfinished:
                return Ending(position, torn=size - position)
            wrong = _wrong_with(header, newest)
            if wrong:
                return Ending(position, wrong=wrong)
            if end > size:
                size = os.fstat(descriptor).st_size  # whoever serves it may have finished that one meanwhile
            if end > size:
                return Ending(position, missing=end - size)
            following = os.pread(descriptor, _LENGTH_BYTES + TRANS_HDR_LEN, end - _LENGTH_BYTES)
            if following[:_LENGTH_BYTES] != header[_TID_BYTES:_STATUS]:
                return Ending(position, wrong="that transaction has another length at its end than at its beginning")
            position, newest, header = end, header[:_TID_BYTES], following[_LENGTH_BYTES:]
    return Ending(position)


def _wrong_with(header: bytes, newest: bytes) -> str:
    """Say what is wrong with a transaction's header, after the one before it; empty where nothing is."""
    tid, length, status, *texts = _HEADER.unpack(header)
    if status not in _FINISHED or length < TRANS_HDR_LEN + sum(texts):
        return "what stands there is no transaction"
    return "that transaction is older than the one before it" if tid <= newest else ""


def tid_before(path: Path, position: int) -> bytes:
    """Return the transaction of a file that ends at a position."""
    with path.open("rb") as file:
        return _tid_before(file.fileno(), position)


def _tid_before(descriptor: int, position: int) -> bytes:
    """Return the transaction that ends at a position, before which there is none at the file's begin."""
    if position <= BEGIN:
        return b""
    length = int.from_bytes(os.pread(descriptor, _LENGTH_BYTES, position - _LENGTH_BYTES))
    return os.pread(descriptor, _TID_BYTES, max(BEGIN, position - _LENGTH_BYTES - length))
