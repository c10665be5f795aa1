"""The manifest of a backup: what it holds and the hash of every byte of it.

A folder of backups holds `blobs/<xx>/<sha256>`, each once however many backups need it, and a folder for every backup
with `data` (a piece of the image's file), `manifest.json` and `SHA256SUMS` (`sha256sum -c` reads it). A folder whose
name begins with a dot is no backup (yet).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from batos.image.errors import CareError

FORMAT = 1
MANIFEST = "manifest.json"
DATA = "data"
SUMS = "SHA256SUMS"
BLOBS = "blobs"
CHUNK_BYTES = 8 * 1024
"""So few that damage can be told by the names of the objects that lie there."""
CHUNK_DIGITS = 16
"""Of the SHA-256 of a chunk: these find damage, nobody has to trust them."""
FULL: Literal["full"] = "full"
INCREMENTAL: Literal["incremental"] = "incremental"


class BlobEntry(msgspec.Struct, frozen=True, array_like=True):
    """One version of one blob."""

    oid: str
    tid: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What a backup holds. Later versions only add fields."""

    format: int
    name: str
    kind: Literal["full", "incremental"]
    previous: str
    """Name of the backup that this one continues; empty for a full one."""
    made_at: str
    tid: str
    """The newest transaction in it."""
    start: int
    end: int
    """The bytes of the image's file that `data` holds."""
    sha256: str
    """Of `data`."""
    chunk_bytes: int
    chunks: tuple[str, ...]
    """The first digits of the SHA-256 of each so many bytes of `data`."""
    objects: int
    root_hash: str
    blobs: tuple[BlobEntry, ...]
    """Every version of every blob, those of the backups before included."""
    missing: tuple[str, ...] = ()
    """What was wrong with the image's own blobs, one sentence each."""
    image: str = ""
    """Which image it is of; empty in the backups of versions that did not say."""


def encoded(manifest: Manifest) -> bytes:
    """Return a manifest as it is written."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read_manifest(path: Path) -> Manifest:
    """Return a backup's manifest, compared with its sum.

    Raises:
        CareError: it is damaged, has another name, or is of a later version.
    """
    content = _read(path / MANIFEST)
    sums = dict(_sums(_read(path / SUMS).decode(errors="replace")))
    if hashlib.sha256(content).hexdigest() != sums.get(MANIFEST):
        raise _damaged(path / MANIFEST, "its SHA-256 is not the one that SHA256SUMS names")
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(path / MANIFEST, str(error)) from error
    if found.name != path.name:
        raise CareError(
            "backup_renamed", f"{path} holds the backup {found.name}", f"call it {found.name}, or take it away"
        )
    if found.format > FORMAT:
        raise CareError(
            "backup_newer",
            f"{path} was made by a later version (format {found.format}, known is {FORMAT})",
            "use that version",
        )
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a backup's manifest and its sums into its folder."""
    content = encoded(manifest)
    write_file(folder / MANIFEST, content)
    digest = hashlib.sha256(content).hexdigest()
    write_file(folder / SUMS, f"{manifest.sha256}  {DATA}\n{digest}  {MANIFEST}\n".encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file and make sure that it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another, the whole of it or nothing."""
    temporary = path.with_name(f".{path.name}")
    try:
        write_file(temporary, content)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Make sure that a folder's names are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored_blob(folder: Path, sha256: str) -> Path:
    """Return where a folder of backups keeps the bytes with this hash."""
    return folder / BLOBS / sha256[:2] / sha256


def _sums(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        yield name, digest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error


def _damaged(path: Path, why: str) -> CareError:
    return CareError(
        "backup_damaged",
        f"{path} is damaged: {why}",
        "put it right from another copy of this folder, or take this backup's folder away",
    )
