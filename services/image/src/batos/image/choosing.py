"""Which backup is restored: one that reaches the moment, and has every byte as it was written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from batos.image.backup_folder import BackupFolder
from batos.image.errors import CareError
from batos.image.manifest import BlobEntry, Manifest
from batos.image.moments import moment_refused
from batos.image.reporting import Tell
from batos.uvm import reached

_TID = re.compile(r"-([0-9a-f]{16})-")
"""In the name of a backup: how far it reaches."""


@dataclass(frozen=True)
class Choice:
    """What is restored.

    Attributes:
        links: the backup, and before it those that it continues.
        tid: up to which transaction.
        refused: why older backups that reach as far were not taken.
    """

    links: Sequence[Manifest]
    tid: str
    refused: Sequence[CareError]

    @property
    def last(self) -> Manifest:
        """The backup."""
        return self.links[-1]

    @property
    def is_whole(self) -> bool:
        """Whether all of the backup is wanted."""
        return self.tid == self.last.tid

    @property
    def blobs(self) -> list[BlobEntry]:
        """Its blobs up to that transaction."""
        return [blob for blob in self.last.blobs if blob.tid <= self.tid]


def chosen(folder: BackupFolder, moment: str, of_image: str, tell: Tell) -> Choice:
    """Choose the oldest backup that reaches a moment and is whole: the older, the less of its past was packed away.

    Args:
        folder: of backups.
        moment: a transaction, or a time with its zone; empty: all there is.
        of_image: of which image, where the folder has the backups of several.
        tell: is told how far it is: every byte that is needed is read.

    Raises:
        CareError: there is none; the sentence says why.
    """
    known = _of_one_image(folder, of_image)
    unread = _unread(folder)
    newest = max([known[-1].tid, *unread])
    with moment_refused("name an earlier one, or none"):
        wanted = min(reached(moment, newest), newest) if moment else newest
    reaching = [manifest for manifest in reversed(known) if manifest.tid >= wanted]
    refused: list[CareError] = []
    for manifest in sorted(reaching, key=lambda one: one.tid):  # of two of one state the newer: it may lack less
        try:
            choice = Choice(folder.chain(manifest), wanted, tuple(refused))
            _check(folder, choice, tell)
        except CareError as error:
            refused.append(error)
        else:
            return choice
    if refused:
        raise refused[0]
    lost = next(why for tid, why in unread.items() if tid >= wanted)
    raise CareError(
        lost.code, lost.message, f"{lost.hint}; or restore the newest that can be read: --at {known[-1].tid}"
    )


def _of_one_image(folder: BackupFolder, image: str) -> list[Manifest]:
    """Return the backups of one image, the oldest state first.

    Raises:
        CareError: there is none, or nobody said of which of several.
    """
    if not folder.known and folder.unreadable:
        raise next(iter(folder.unreadable.values()))
    if not folder.known:
        raise CareError("backup_none", f"there is no backup in {folder.path}", "make one with `batos image backup`")
    several = folder.images
    if not image and len(several) > 1:
        newest = {name: list(folder.of_image(name).values())[-1] for name in several}
        said = ", ".join(f"{name} (newest made {last.made_at})" for name, last in newest.items())
        raise CareError(
            "backup_images",
            f"{folder.path} has the backups of {len(several)} images: {said}",
            "say of which with --image",
        )
    if image and image not in several:
        raise CareError(
            "backup_none",
            f"there is no backup of the image {image} in {folder.path}",
            "`batos image backups` lists what is there",
        )
    return list((folder.of_image(image) if image else folder.known).values())


def _unread(folder: BackupFolder) -> dict[str, CareError]:
    """Return why backups cannot be read, by the transaction up to which each reaches, as its name says."""
    found = ((_TID.search(name), error) for name, error in folder.unreadable.items())
    return {match[1]: error for match, error in found if match is not None}


def _check(folder: BackupFolder, choice: Choice, tell: Tell) -> None:
    """Compare every byte that is needed with its hash, before anything is written.

    Raises:
        CareError: one is another.
    """
    blobs = {blob.sha256 for blob in choice.blobs}
    pieces = [
        piece for number, piece in enumerate(folder.pieces(choice.last))
        if number < len(choice.links) or piece.sha256 in blobs
    ]  # fmt: skip
    total = sum(piece.size for piece in pieces)
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        tell("checking the backup", done, total)

    for piece in pieces:
        if not piece.is_whole(count):
            raise CareError(
                "backup_damaged",
                piece.wrong,
                "nothing was restored; take an older backup with --at, or another copy of this folder",
            )
