"""The files of a pack, and what is to be done about them when it was cut off.

ZODB writes the packed copy beside the image's file (`.pack`) and a list of the blobs to take away (`.removed`), renames
the file (`.old`) and then the copy, takes the blobs away, and then `.old`. What can no longer be looked at is noted in
the image afterwards (`packed_until`, which is there before the file is renamed). At every moment the names that are
there say how far it was:

- the copy is there: nothing was changed, it is dropped; where the file is missing it is `.old`, and gets its name back;
- `packed_until` is there without the copy: the image is packed, and that is not noted in it yet; where `.old` is there
  too, that and the blobs are still to be taken away;
- `.old` alone is of no such pack: somebody else put it there, and nothing is done about it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batos.image.known_hashes import forget_file
from batos.image.manifest import replace_file, sync_folder
from batos.image.saved_index import index_path
from batos.uvm.file_storage import sync

OWED = "packed_until"
"""In the image's folder: the earliest transaction that a pack left whole, until the image knows and it is done."""
REMOVED = ".removed"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swap:
    """The packed file takes the place of the image's.

    Attributes:
        path: of the image's file.
        blobs: the folder of blobs.
    """

    path: Path
    blobs: Path

    @property
    def packed(self) -> Path:
        """The packed copy."""
        return self.path.with_name(f"{self.path.name}.pack")

    @property
    def old(self) -> Path:
        """The file as it was."""
        return self.path.with_name(f"{self.path.name}.old")

    @property
    def is_unfinished(self) -> bool:
        """Whether the packed file is in its place, and what it needs no more still there."""
        return self._owed.exists() and self.old.exists() and not self.packed.exists()

    @property
    def is_half(self) -> bool:
        """Whether the image's file has given up its name, and the packed one has not got it."""
        return not self.path.exists() and self.old.exists() and self.packed.exists()

    @property
    def _removed(self) -> Path:
        return self.blobs / REMOVED

    @property
    def _owed(self) -> Path:
        return self.path.with_name(OWED)

    def prepare(self, earliest: str) -> None:
        """Make everything ready for the packed copy, while nobody can commit.

        All of it is on the disk before the file moves, and nothing is left that describes the file as it was: its
        index would lead to other records.

        Args:
            earliest: the transaction from which on everything can still be looked at.
        """
        sync(self.packed)
        sync(self._removed)
        forget_file(self.path.parent)
        replace_file(self._owed, earliest.encode())
        index_path(self.path).unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def put_back(self) -> None:
        """Give the file its name back where the packed one has not got it."""
        if self.is_half:
            self.old.rename(self.path)
            sync_folder(self.path.parent)
            _log.warning("a pack was cut off before the packed file was in its place: %s is as it was", self.path)

    def drop(self) -> None:
        """Take away what a pack made that changed nothing; the packed copy goes last, because it says so."""
        if self.is_half or self.is_unfinished:
            return
        if self.packed.exists():
            self._owed.unlink(missing_ok=True)
        self._removed.unlink(missing_ok=True)
        self.packed.unlink(missing_ok=True)
        if self.old.exists():
            _log.warning("%s is of no pack that was cut off, and stays until the next pack takes its name", self.old)

    def finish(self, storage: Any) -> None:
        """Take away the blobs and the file that a packed image needs no more.

        Args:
            storage: the image, open.
        """
        if not self.is_unfinished:
            return
        if self._removed.exists():
            storage._remove_blob_files_tagged_for_removal_during_pack()  # noqa: SLF001 - ZODB's own, which reads the list
        self.old.unlink()
        _log.warning("a pack had been cut off after the packed file was in its place: the rest of it is done now")

    def owed(self) -> str:
        """Return the earliest transaction that the image has to be told of; empty where it knows."""
        try:
            return self._owed.read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def noted(self) -> None:
        """The image knows now what can still be looked at; what a pack left to be done is still marked."""
        if not self.is_unfinished:
            self._owed.unlink(missing_ok=True)
