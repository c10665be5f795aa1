"""Blobs over ZEO: on the disk before they are acknowledged, and nobody else waits for that disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.image_process import until
from ZODB.POSException import StorageError

from batos.image import ImageServer, clients
from batos.uvm import Image, Root, file_storage, open_image, read_blob, store_blob, zeo_client

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def opened(server: ImageServer, socket: Path) -> Iterator[Image]:
    assert server.counts() is not None
    with open_image(f"zeo://{socket}?wait_timeout=10") as image:
        yield image


def large(root: Root) -> None:
    root["lobby"].large = store_blob(b"x" * 500_000)


class SlowDisk:
    """A disk that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.asked, self.takes = threading.Event(), threading.Event()
        self.wrong: OSError | None = None

    def sync(self, _path: str | Path) -> None:
        self.asked.set()
        assert self.takes.wait(30)
        if self.wrong is not None:
            raise self.wrong


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    found = SlowDisk()
    monkeypatch.setattr(clients, "sync", found.sync)
    return found


def committing(image: Image) -> tuple[threading.Thread, list[BaseException | None]]:
    """Commit a blob in a thread; the list holds how it ended."""
    ended: list[BaseException | None] = []

    def work() -> None:
        try:
            image.run(large)
            ended.append(None)
        except BaseException as wrong:  # noqa: BLE001 - it is looked at
            ended.append(wrong)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ended


def test_nobody_waits_for_the_disk_that_takes_a_blob(opened: Image, socket: Path, disk: SlowDisk) -> None:
    """While it is written others read and commit; it is acknowledged when it is on the disk, not before."""
    thread, ended = committing(opened)
    assert disk.asked.wait(30)
    with open_image(f"zeo://{socket}?wait_timeout=10") as other:
        for number in range(3):
            other.run(lambda root, number=number: root.__setitem__(f"other {number}", number))
        assert ended == []
        disk.takes.set()
        thread.join(30)
        assert ended == [None]
        with other.snapshot() as root:
            assert len(read_blob(root["lobby"].large)) == 500_000
            assert root["other 2"] == 2


def test_a_disk_that_does_not_take_it(server: ImageServer, opened: Image, disk: SlowDisk) -> None:
    """The commit is refused with the reason, on the same connection; a full disk counts as one."""
    disk.wrong = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    disk.takes.set()
    with pytest.raises(StorageError, match=r"disk is full .*batos image pack"):
        opened.run(large)
    assert server.room.lacking
    disk.wrong = None
    opened.run(large)
    assert not server.room.lacking


def test_a_client_that_goes_away_meanwhile(
    server: ImageServer, opened: Image, socket: Path, tmp_path: Path, disk: SlowDisk
) -> None:
    """Nothing of it is stored, and the commit lock is free."""
    thread, ended = committing(opened)
    assert disk.asked.wait(30)
    (lost,) = [zeo for zeo in server._server.zeo_storages_by_storage_id["1"] if zeo.transaction is not None]
    lost.connection.call_soon_threadsafe(lost.connection.close)
    thread.join(30)
    assert ended[0] is not None
    disk.takes.set()
    with open_image(f"zeo://{socket}?wait_timeout=10") as other:
        other.run(lambda root: root.__setitem__("other", 1))
        with other.snapshot() as root:
            assert not hasattr(root["lobby"], "large")
    until("its file to be gone", lambda: not list((tmp_path / "image" / "blobs" / "tmp").iterdir()))


def test_the_folder_of_blobs_that_a_client_shares(
    server: ImageServer, socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client writes the file itself: it waits for the disk before it tells the server, which names it."""
    assert server.counts() is not None
    waited: list[tuple[str, str]] = []
    for where in (zeo_client, file_storage):

        def sync(path: str | Path, name: str = where.__name__) -> None:
            waited.append((name.rpartition(".")[2], Path(path).suffix))

        monkeypatch.setattr(where, "sync", sync)
    blobs = tmp_path / "image" / "blobs"
    with open_image(f"zeo://{socket}?wait_timeout=10&blob_dir={blobs}&shared_blob_dir=1") as image:
        image.run(large)
    assert waited[:2] == [("zeo_client", ".tmp"), ("file_storage", ".blob")]
