"""ZODB's storage in a file, which waits for the disk also for blobs, and leaves nothing open that it could not open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ZODB.FileStorage import FileStorage


def sync(path: str | Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DurableFileStorage(FileStorage):  # type: ignore[misc]  # ZODB has no types
    """A file storage of which a commit is on the disk with its blobs when it is acknowledged, or not at all."""

    def __init__(self, path: str, **options: Any) -> None:
        """Open it; where it cannot be opened, its files and its lock are given back.

        Args:
            path: of the file.
            options: ZODB's own.
        """
        try:
            super().__init__(path, **options)
        except BaseException:
            for name in ("_file", "_files", "_tfile", "_lock_file"):
                left_open = self.__dict__.get(name)
                if left_open is not None:
                    left_open.close()
            raise

    def _blob_storeblob(self, oid: bytes, serial: bytes, blobfilename: str) -> None:
        super()._blob_storeblob(oid, serial, blobfilename)
        sync(self.fshelper.getBlobFilename(oid, serial))

    def tpc_vote(self, transaction: Any) -> Any:
        """ZODB's hook: vote for a commit, whose blobs are on the disk before it can be finished."""
        for folder in {folder for oid, _ in self.dirty_oids for folder in self._folders(oid)}:
            sync(folder)
        return super().tpc_vote(transaction)

    def _abort(self) -> None:
        super()._abort()
        self._blob_tpc_abort()  # ZODB itself leaves the blobs of a commit that was given up before its vote

    def _folders(self, oid: bytes) -> list[Path]:
        """Return the folder of a blob and those around it: any of them may be new."""
        base = Path(self.fshelper.base_dir)
        own = Path(self.fshelper.getPathForOID(oid))
        return [folder for folder in (own, *own.parents) if folder.is_relative_to(base)]
