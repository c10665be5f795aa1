"""The image vessel as a process, with raw ZEO clients: killed, restarted, refused, stopped."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import pytest
import ZEO
from integration.image_process import image, until
from ZODB.blob import Blob

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "h"


def test_killed_and_started_again(home: Path) -> None:
    """After kill -9 and a new start the client reconnects by itself; all that was acknowledged is there."""
    with image(home) as first:
        first.await_ready()
        database = ZEO.DB(first.socket, wait_timeout=30, server_sync=True)
        try:
            with database.transaction() as connection:
                connection.root()["answer"] = 42
            first.process.kill()
            first.process.wait()
            assert Path(first.socket).exists()
            with image(home) as second:
                second.await_ready()
                with database.transaction() as connection:
                    assert connection.root()["answer"] == 42
                    connection.root()["answer"] = 43
                with database.transaction() as connection:
                    assert connection.root()["answer"] == 43
        finally:
            database.close()


def test_killed_under_load(home: Path) -> None:
    """Killed while clients commit: every acknowledged commit is there afterwards, exactly once."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def commit(database: ZEO.DB) -> None:
        number = 0
        while not stop.is_set():
            try:
                with database.transaction() as connection:
                    connection.root()[f"n{number}"] = number
            except Exception:  # noqa: BLE001 - the server was killed: this commit was not acknowledged
                stop.wait(0.05)
                continue
            acknowledged.append(number)
            number += 1

    with image(home) as first:
        first.await_ready()
        database = ZEO.DB(first.socket, wait_timeout=2)
        worker = threading.Thread(target=commit, args=(database,))
        worker.start()
        try:
            until("some commits", lambda: len(acknowledged) > 20)
            first.process.kill()
            first.process.wait()
            before = len(acknowledged)
            with image(home) as second:
                second.await_ready()
                until("commits after the restart", lambda: len(acknowledged) > before + 5)
                stop.set()
                worker.join()
                with database.transaction() as connection:
                    root = connection.root()
                    assert all(root[f"n{number}"] == number for number in acknowledged)
        finally:
            stop.set()
            worker.join()
            database.close()


def test_blobs_and_metrics(home: Path) -> None:
    """Blobs are stored and read through a shared folder; clients, commits and sizes are counted."""
    with image(home, BATOS_IMAGE_BLOB_SCAN_S="1") as server:
        server.await_ready()
        database = ZEO.DB(server.socket, blob_dir=str(home / "image" / "blobs"), shared_blob_dir=True)
        try:
            with database.transaction() as connection:
                connection.root()["blob"] = Blob(b"b" * 5000)
            with database.transaction() as connection, connection.root()["blob"].open() as blob:
                assert blob.read() == b"b" * 5000
            until("the metrics", lambda: "batos_image_blob_size_bytes 5000.0" in server.metrics())
            page = server.metrics()
            assert "batos_image_clients 1.0" in page
            assert "batos_vessel_ready 1.0" in page
            assert "batos_image_loads_total" in page
            (commits,) = [line for line in page.splitlines() if line.startswith("batos_image_commits_total")]
            assert float(commits.split()[1]) >= 1
            (size,) = [line for line in page.splitlines() if line.startswith("batos_image_size_bytes")]
            assert float(size.split()[1]) == (home / "image" / "live_image.fs").stat().st_size
        finally:
            database.close()


def test_sigterm_closes_in_order(home: Path) -> None:
    """SIGTERM with a client connected: exit 0, index written, socket gone, and the next start finds everything."""
    with image(home) as first:
        first.await_ready()
        database = ZEO.DB(first.socket)
        try:
            with database.transaction() as connection:
                connection.root()["answer"] = 42
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(20) == 0
            assert (home / "image" / "live_image.fs.index").exists()
            assert not Path(first.socket).exists()
        finally:
            database.close()
    assert "Traceback" not in first.words()
    with image(home) as second:
        second.await_ready()
        database = ZEO.DB(second.socket)
        try:
            with database.transaction() as connection:
                assert connection.root()["answer"] == 42
        finally:
            database.close()


def refused(home: Path, *words: str, **settings: str) -> None:
    """Start an image that must not start: exit code 1 and one line with these words."""
    with image(home, **settings) as server:
        assert server.process.wait(20) == 1, server.words()
    last = server.words().strip().splitlines()[-1]
    for word in words:
        assert word in last
    assert "Traceback" not in server.words()


def test_two_on_one_image(home: Path) -> None:
    """A second server on the same files is refused and names the process that has them."""
    with image(home) as first:
        first.await_ready()
        refused(home, "in use by process", str(first.process.pid), "batos down")
        assert first.process.poll() is None


def test_two_on_one_socket(home: Path, tmp_path: Path) -> None:
    """A socket that a living server answers on is refused; the living server goes on."""
    with image(home) as first:
        first.await_ready()
        refused(tmp_path / "other", "another server listens", "BATOS_IMAGE_SOCKET", BATOS_IMAGE_SOCKET=first.socket)
        database = ZEO.DB(first.socket)
        database.close()


def test_a_dead_servers_socket_is_removed(home: Path) -> None:
    """A socket that nobody answers on is no hindrance."""
    (home / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "run" / "image.sock"))
    with image(home) as server:
        server.await_ready()


def test_a_socket_too_deep(home: Path) -> None:
    """A path that no Unix socket can have is refused before anything is opened."""
    refused(home, "107", BATOS_IMAGE_SOCKET=str(home / ("x" * 120) / "s"))


def test_the_folders_are_the_owners_alone(home: Path) -> None:
    """The folders of files and socket have mode 0700, the socket 0600."""
    with image(home) as server:
        server.await_ready()
        assert (home / "image").stat().st_mode & 0o777 == 0o700
        assert (home / "run").stat().st_mode & 0o777 == 0o700
        assert Path(server.socket).stat().st_mode & 0o777 == 0o600
