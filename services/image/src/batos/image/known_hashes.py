"""What the newest backup knows of the image's bytes, kept beside its file: with this `verify` finds a flipped bit.

Neither the image's file nor its blobs have checksums of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from batos.image.manifest import BlobEntry, Manifest, replace_file

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
    checked_at: str = ""
    """When another was asked for and nothing was new; empty where that never was."""
    tid: str
    pieces: tuple[KnownPiece, ...]
    blobs: tuple[BlobEntry, ...]


def remember(image: Path, backups: Path, links: Sequence[Manifest], *, checked_at: str = "") -> None:
    """Keep the hashes of a backup, given with those that it continues, in the image's folder.

    Args:
        image: its folder.
        backups: the folder of backups.
        links: the backup and those that it continues, which stand before it.
        checked_at: when it was found to have everything.
    """
    last = links[-1]
    known = KnownHashes(
        name=last.name,
        folder=str(backups),
        made_at=last.made_at,
        checked_at=checked_at,
        tid=last.tid,
        pieces=tuple(
            KnownPiece(start=link.start, end=link.end, chunk_bytes=link.chunk_bytes, chunks=link.chunks)
            for link in links
        ),
        blobs=last.blobs,
    )
    replace_file(image / LAST_BACKUP, msgspec.json.encode(known))


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
        replace_file(image / LAST_BACKUP, msgspec.json.encode(msgspec.structs.replace(known, pieces=())))
