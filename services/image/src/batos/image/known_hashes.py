"""What the newest backup knows of the image's bytes, kept beside its file: with this `verify` finds a flipped bit.

Neither the image's file nor its blobs have checksums of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from batos.image.manifest import BlobEntry, Manifest, write_file

LAST_BACKUP = "last_backup.json"


class KnownPiece(msgspec.Struct, frozen=True, kw_only=True):
    """The first digits of the SHA-256 of each `chunk_bytes` bytes of the file from `start` to `end`."""

    start: int
    end: int
    chunk_bytes: int
    chunks: tuple[str, ...]


class KnownHashes(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup found."""

    name: str
    folder: str
    made_at: str
    tid: str
    pieces: tuple[KnownPiece, ...]
    blobs: tuple[BlobEntry, ...]


def remember(image: Path, backups: Path, links: Sequence[Manifest]) -> None:
    """Keep the hashes of a backup, given with those that it continues, in the image's folder."""
    last = links[-1]
    known = KnownHashes(
        name=last.name,
        folder=str(backups),
        made_at=last.made_at,
        tid=last.tid,
        pieces=tuple(
            KnownPiece(start=link.start, end=link.end, chunk_bytes=link.chunk_bytes, chunks=link.chunks)
            for link in links
        ),
        blobs=last.blobs,
    )
    temporary = image / f".{LAST_BACKUP}"
    write_file(temporary, msgspec.json.encode(known))
    temporary.rename(image / LAST_BACKUP)


def known_hashes(image: Path) -> KnownHashes | None:
    """Return what the last backup knows; None where there was none, or it cannot be read."""
    try:
        return msgspec.json.decode((image / LAST_BACKUP).read_bytes(), type=KnownHashes)
    except (OSError, msgspec.MsgspecError):
        return None


def forget_file(image: Path) -> None:
    """Keep only what is known of blobs: the file is about to be packed, and every byte of it may move."""
    known = known_hashes(image)
    if known is not None:
        temporary = image / f".{LAST_BACKUP}"
        write_file(temporary, msgspec.json.encode(msgspec.structs.replace(known, pieces=())))
        temporary.rename(image / LAST_BACKUP)
