"""The storage in a file: what is on the disk before a commit is acknowledged. No sockets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ZODB import DB
from ZODB.blob import Blob
from ZODB.POSException import StorageError

from batos.uvm.file_storage import DurableFileStorage


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the disk was waited for, in order."""
    found: list[Path] = []
    wait = os.fsync

    def fsync(given: int) -> None:
        found.append(Path(f"/proc/self/fd/{given}").resolve())
        wait(given)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("ZODB.FileStorage.FileStorage._finish_finish", finishing(found))
    return found


def finishing(found: list[Path]) -> object:
    """Note when a commit is finished: ZODB has taken its `fsync` when it was imported."""
    finish = DurableFileStorage._finish_finish

    def noted(self: DurableFileStorage, tid: bytes) -> None:
        found.append(Path(self._file_name))
        finish(self, tid)

    return noted


def test_blobs_are_on_the_disk_before_the_commit_that_names_them(tmp_path: Path, synced: list[Path]) -> None:
    """Their bytes, and every folder on the way to them; a commit without a blob waits for none."""
    path, blobs = tmp_path / "live_image.fs", tmp_path / "blobs"
    database = DB(DurableFileStorage(str(path), blob_dir=str(blobs)))
    try:
        with database.transaction() as connection:
            connection.root()["text"] = "x"
        assert set(synced) == {path}
        synced.clear()
        with database.transaction() as connection:
            connection.root()["blob"] = Blob(b"b" * 1000)
    finally:
        database.close()
    (blob,) = blobs.rglob("*.blob")
    assert synced[0] == blob
    assert synced[-1] == path
    on_the_way = {folder for folder in blob.parents if folder.is_relative_to(blobs)}
    assert set(synced[1:-1]) == on_the_way
    assert len(on_the_way) > 2


def test_a_disk_that_does_not_take_a_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit fails, nothing of it is stored, and the next one is."""
    database = DB(DurableFileStorage(str(tmp_path / "live_image.fs"), blob_dir=str(tmp_path / "blobs")))

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", broken)
            with pytest.raises(OSError, match="Input/output"), database.transaction() as connection:
                connection.root()["blob"] = Blob(b"b" * 1000)
        assert not list((tmp_path / "blobs").rglob("*.blob"))
        with database.transaction() as connection:
            assert "blob" not in connection.root()
            connection.root()["blob"] = Blob(b"c" * 1000)
    finally:
        database.close()


def test_what_cannot_be_opened_is_left_open_by_nobody(tmp_path: Path) -> None:
    """Its lock is free, and a second attempt says the same."""
    path = tmp_path / "live_image.fs"
    path.write_bytes(b"nothing of this is an image")
    for _ in range(2):
        with pytest.raises(StorageError):
            DurableFileStorage(str(path))
