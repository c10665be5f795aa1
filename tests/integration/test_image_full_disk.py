"""An image whose disk, or whose clients' disk, gets full: said at once, nothing lost, room again."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from BTrees.OOBTree import OOBTree
from integration.image_fixtures import Care, names, put
from integration.image_process import ImageProcess, image, until
from ZODB.POSException import StorageError

from batos.uvm import DiskFull, Image, Root, open_image, read_blob, store_blob

pytestmark = pytest.mark.timeout(180)

SIZE = 8 * 1024 * 1024
"""Of the disk that gets full."""


@contextlib.contextmanager
def full_disk(server: ImageProcess, used: int) -> Iterator[None]:
    """Let the files of a running vessel not grow beyond what they have, nearly."""
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (used + 50_000, hard))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond that: for clients who write to the image's own disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 8 MiB of the test's own; None where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def stored_bytes(root: Root, what: str) -> str | bytes:
    large = root["lobby"].large
    return large if what == "records" else read_blob(large)


def until_full(opened: Image, kept: list[int]) -> None:
    for number in range(1000):
        opened.run(lambda root, number=number: put(root, f"n{number}", f"thing {number} " * 300))
        kept.append(number)


@pytest.mark.parametrize("what", ["records", "blob"])
def test_a_full_disk_during_a_commit(tmp_path: Path, what: str) -> None:
    """The commit fails with a sentence that names the disk; what stood there is readable, and with room all goes on."""
    with image(tmp_path / "h") as server:
        server.await_ready()
        uri = f"zeo://{server.socket}?wait_timeout=20"
        with open_image(uri) as opened:
            opened.run(lambda root: setattr(root["lobby"], "kept", True))
            used = (server.home / "image" / "live_image.fs").stat().st_size

            def large(root: Root) -> None:
                root["lobby"].large = "x" * 500_000 if what == "records" else store_blob(b"x" * 500_000)

            with full_disk(server, used):
                for _ in range(2):
                    with pytest.raises(StorageError, match=r"disk is full .*batos image pack"):
                        opened.run(large)
                with opened.snapshot() as root:
                    assert root["lobby"].kept
                    assert not hasattr(root["lobby"], "large")
                until("the metric", lambda: "batos_image_disk_full 1.0" in server.metrics())
                assert "batos_image_commits_refused_total 2.0" in server.metrics()
                ready = server.page("readyz")
                assert ready.startswith("ready, but commits are refused, the disk is full ("), ready
                opened.run(lambda root: setattr(root["lobby"], "small", True))
                until("the metric", lambda: "batos_image_disk_full 0.0" in server.metrics())
                until("the notice to go", lambda: server.page("readyz") == "ready\n")
            opened.run(large)
            with opened.snapshot() as root:
                assert root["lobby"].small
                stored = root["lobby"].large
                assert len(stored if what == "records" else read_blob(stored)) == 500_000
        server.process.terminate()
        assert server.process.wait(20) == 0
    with image(tmp_path / "h") as server:
        server.await_ready()
        with open_image(f"zeo://{server.socket}?wait_timeout=20") as opened, opened.snapshot() as root:
            assert root["lobby"].small
            assert len(stored_bytes(root, what)) == 500_000


@pytest.mark.parametrize("shared", [True, False])
def test_a_client_finds_no_room_for_a_blob(tmp_path: Path, small_disk: Path | None, shared: bool) -> None:
    """In the folder of blobs, the image's own or the client's: an error names it, and no part of it stays there."""
    if small_disk is None:
        pytest.skip("no disk can be mounted by this user")
    home = small_disk / "h" if shared else tmp_path / "h"
    blobs = home / "image" / "blobs" if shared else small_disk / "cache"
    with image(home) as server:
        server.await_ready()
        with open_image(f"zeo://{server.socket}?wait_timeout=20&blob_dir={blobs}&shared_blob_dir={shared:d}") as opened:
            opened.run(lambda root: setattr(root["lobby"], "first", store_blob(b"1" * 1000)))
            before = {path for path in blobs.rglob("*") if path.is_file()}
            for _ in range(2):
                with pytest.raises(DiskFull, match=f"no room left in {blobs}.*nothing of this transaction is stored"):
                    opened.run(lambda root: setattr(root["lobby"], "large", store_blob(b"x" * SIZE)))
            assert {path for path in blobs.rglob("*") if path.is_file()} == before
            opened.run(lambda root: setattr(root["lobby"], "second", store_blob(b"2" * 1000)))
            with opened.snapshot() as root:
                assert not hasattr(root["lobby"], "large")
                assert (read_blob(root["lobby"].first), read_blob(root["lobby"].second)) == (b"1" * 1000, b"2" * 1000)


def test_a_client_finds_no_room_for_a_blob_that_it_reads(tmp_path: Path) -> None:
    """An error names its folder of blobs; no part is taken for the whole, now or later, and with room it is read."""
    cache = tmp_path / "cache"
    with image(tmp_path / "h") as server:
        server.await_ready()
        uri = f"zeo://{server.socket}?wait_timeout=20"
        with open_image(uri) as opened:
            opened.run(lambda root: setattr(root["lobby"], "large", store_blob(b"x" * 500_000)))
        with open_image(f"{uri}&blob_dir={cache}") as opened:
            with small_files(300_000):
                for _ in range(2):
                    with pytest.raises(DiskFull, match=rf"no room left in {cache}.*could not be brought"):
                        stored_blob(opened)
                    assert [path for path in cache.rglob("*") if path.suffix in {".blob", ".dl"}] == []
            assert stored_blob(opened) == b"x" * 500_000
        with open_image(f"{uri}&blob_dir={cache}") as opened:
            assert stored_blob(opened) == b"x" * 500_000


def stored_blob(opened: Image) -> str | bytes:
    with opened.snapshot() as root:
        return stored_bytes(root, "blob")


def test_no_room_for_the_bytes_of_a_blob(tmp_path: Path) -> None:
    """Where temporary files or the image's own file cannot grow, the error says in which folder."""
    with open_image(f"file://{tmp_path / 'live_image.fs'}") as opened:
        with small_files(300_000):
            with pytest.raises(DiskFull, match=f"no room left in {tempfile.gettempdir()}"):
                store_blob(b"x" * 500_000)
            with pytest.raises(DiskFull, match=f"no room left in {tmp_path}"):
                opened.run(lambda root: setattr(root["lobby"], "large", "x" * 500_000))
        opened.run(lambda root: setattr(root["lobby"], "large", "x" * 500_000))


def test_a_disk_that_is_really_full(small_disk: Path | None, tmp_path: Path) -> None:
    """Commits until it is full, a pack that finds no room, then room again: nothing that was acknowledged is lost."""
    if small_disk is None:
        pytest.skip("no disk can be mounted by this user: the tests with a limit on the vessel's files say the same")
    home = small_disk
    care = Care(home)
    care.up()
    try:
        filler = home / "filler"
        filler.write_bytes(b"f" * (SIZE // 4))
        kept: list[int] = []
        with open_image(care.uri) as opened:
            opened.run(lambda root: root.__setitem__("things", OOBTree()))
            with pytest.raises(StorageError, match="disk is full"):
                until_full(opened, kept)
            with opened.snapshot() as root:
                assert set(root["things"]) == {f"n{number}" for number in kept}
        doctor = care.run("doctor", "--free-gb", "0")
        assert doctor.returncode == 1
        assert "image is ready, but commits are refused, the disk is full (" in doctor.stdout
        (notice,) = [vessel["notice"] for vessel in care.json("status")["vessels"] if vessel["name"] == "image"]
        assert notice.startswith("commits are refused, the disk is full (")
        packed = care.run("image", "pack", "--days", "0")
        assert packed.returncode == 1
        assert "no room left" in packed.stderr
        assert "batos image pack" in packed.stderr
        backup = care.run("image", "backup", str(home / "backups"))
        assert backup.returncode == 1
        assert "no room left" in backup.stderr
        assert not list((home / "backups").glob("*-full"))
        assert names(care.uri) == {f"n{number}" for number in kept}
        filler.unlink()
        with open_image(care.uri) as opened:
            opened.run(lambda root: put(root, "after", "after"))
        until("the notice to go", lambda: care.run("doctor", "--free-gb", "0").returncode == 0)
        assert care.json("image", "backup", str(tmp_path / "elsewhere"))["objects"] > len(kept)
        assert names(care.uri) == {"after", *(f"n{number}" for number in kept)}
    finally:
        assert care.run("down").returncode == 0
