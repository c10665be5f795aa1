"""The image's files: what is opened, what is refused and in which words. No sockets, no server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transaction
from ZODB import DB
from ZODB.blob import Blob

from batos.image import ImageServer, ImageSettings, StorageUnusable, UnixSocket
from batos.image.listening import check_socket_path, clear_socket
from batos.image.metrics import ImageCollector
from batos.image.server import ServerCounts
from batos.image.storage import blob_bytes, open_storage
from batos.vessel import SettingsError, load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A closed image with two transactions and one blob of 1000 bytes."""
    folder = tmp_path / "image"
    database = DB(open_storage(folder))
    with database.transaction() as connection:
        connection.root()["text"] = "x" * 3000
    with database.transaction() as connection:
        connection.root()["blob"] = Blob(b"b" * 1000)
    database.close()
    yield folder
    transaction.abort()


def reopen(folder: Path) -> int:
    storage = open_storage(folder)
    try:
        return int(storage.getSize())
    finally:
        storage.close()


def test_a_new_image_is_its_owners_alone(tmp_path: Path) -> None:
    """Where there was nothing an empty image begins, in a folder with mode 0700."""
    storage = open_storage(tmp_path / "deep" / "image")
    storage.close()
    assert (tmp_path / "deep" / "image").stat().st_mode & 0o777 == 0o700


def test_what_was_there_is_opened(folder: Path) -> None:
    """A closed image opens again with all its bytes, its blobs are measured."""
    assert reopen(folder) == (folder / "live_image.fs").stat().st_size
    assert blob_bytes(folder) == 1000


def test_in_use(folder: Path) -> None:
    """An image that another process serves is refused; the sentence names the process and what to do."""
    storage = open_storage(folder)
    try:
        with pytest.raises(StorageUnusable, match=rf"in use by process {os.getpid()}.*batos down") as caught:
            open_storage(folder)
        assert caught.value.code == "image_locked"
    finally:
        storage.close()


@pytest.mark.parametrize("size", [100, 2000])
def test_shorter_than_it_was(folder: Path, size: int) -> None:
    """A file from which a part is missing is not cut further and not begun anew, but refused."""
    os.truncate(folder / "live_image.fs", size)
    with pytest.raises(StorageUnusable, match="a part of it is missing") as caught:
        open_storage(folder)
    assert caught.value.code == "image_truncated"
    assert (folder / "live_image.fs").stat().st_size == size


def test_a_forged_index_is_made_again(folder: Path) -> None:
    """It is a pickle: nothing that it names is called."""
    trap = folder / "sprung"
    (folder / "live_image.fs.index").write_bytes(f"cposix\nmkdir\n(S'{trap}'\ntR.".encode())
    assert reopen(folder) == (folder / "live_image.fs").stat().st_size
    assert not trap.exists()


@pytest.mark.parametrize("module", ["storage", "records", "server"])
def test_no_module_opens_files_without_the_images_own_rules_of_loading(module: str) -> None:
    """Whichever is imported first, in a process that has imported nothing else."""
    asked = f"import batos.image.{module}; from ZODB._compat import loads; loads(b'cposix\\nmkdir\\n.')"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert "ForeignClass" in done.stderr.splitlines()[-1]


def test_foreign_bytes(folder: Path) -> None:
    """A file that is no FileStorage is refused in one sentence."""
    (folder / "live_image.fs").write_bytes(b"x" * 9000)
    with pytest.raises(StorageUnusable, match="is no image: it begins with") as caught:
        open_storage(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_in_its_way(folder: Path) -> None:
    """Anything else that cannot be opened is named."""
    (folder / "live_image.fs.index").unlink()
    (folder / "live_image.fs").unlink()
    (folder / "live_image.fs").mkdir()
    with pytest.raises(StorageUnusable, match="is no file"):
        open_storage(folder)


def test_a_socket_path_that_is_too_long(tmp_path: Path) -> None:
    """Before anything is opened: a path that no Unix socket can have is refused with both lengths."""
    path = tmp_path / ("x" * 120) / "image.sock"
    server = ImageServer(tmp_path / "image", UnixSocket(path), print)
    with pytest.raises(StorageUnusable, match="107") as caught:
        server.open()
    assert "BATOS_IMAGE_SOCKET" in str(caught.value)
    assert not (tmp_path / "image").exists()


def test_the_sockets_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """The folder of the socket gets mode 0700."""
    folder = tmp_path / "r"
    folder.mkdir(mode=0o755)
    check_socket_path(folder / "s")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_sockets_way(tmp_path: Path) -> None:
    """A file that is no socket is never removed."""
    path = tmp_path / "image.sock"
    path.write_text("precious")
    with pytest.raises(StorageUnusable, match="is no socket"):
        clear_socket(path)
    assert path.read_text() == "precious"


def test_where_it_listens(tmp_path: Path) -> None:
    """The socket is the one set, else that of the image's URI, else run/image.sock; other URIs are refused."""
    home = tmp_path
    assert ImageSettings(home=home).socket_path() == home / "run" / "image.sock"
    assert ImageSettings(home=home, image_uri="zeo:///a%20b/s?wait_timeout=3").socket_path() == Path("/a b/s")
    assert ImageSettings(home=home, image_uri="zeo:///a", image_socket="/c").socket_path() == Path("/c")
    for uri in ("zeo://host:99", "postgresql://host/db", "file:///x.fs"):
        with pytest.raises(SettingsError, match="names no Unix socket"):
            ImageSettings(home=home, image_uri=uri).socket_path()


def test_a_port_to_listen_on(tmp_path: Path) -> None:
    """Address and port with TLS; empty means the socket; no port 0, since nobody could be told."""
    assert ImageSettings(home=tmp_path).port() == ("", 0)
    assert ImageSettings(home=tmp_path, image_listen="10.0.0.1:9991").port() == ("10.0.0.1", 9991)
    assert ImageSettings(home=tmp_path, image_listen="[::]:9991").port() == ("::", 9991)
    for wrong in ("10.0.0.1:0", "10.0.0.1:70000"):
        with pytest.raises(SettingsError, match="BATOS_IMAGE_LISTEN names port"):
            ImageSettings(home=tmp_path, image_listen=wrong).port()


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [("image_transaction_timeout_s", 0), ("image_pack_days", -1), ("image_pack_every_h", 9000)],
)
def test_settings_have_bounds(setting: str, wrong: float) -> None:
    """A commit may always take some time, and nothing is packed that is yet to come."""
    with pytest.raises(SettingsError, match=setting.upper()):
        load_settings(ImageSettings, **{setting: wrong})


def test_metrics(folder: Path) -> None:
    """The collector shows counts and sizes; blobs are measured again only after a while; closed, it shows nothing."""
    counts = ServerCounts(2, 0, 10, 5, 4, 1, 0, 7000)
    now = [0.0]
    collector = ImageCollector(lambda: counts, folder, blob_scan_s=60.0, clock=lambda: now[0])

    def shown() -> dict[str, float]:
        return {sample.name: sample.value for metric in collector.collect() for sample in metric.samples}

    assert shown()["batos_image_commits_total"] == 4
    assert shown()["batos_image_size_bytes"] == 7000
    assert shown()["batos_image_blob_size_bytes"] == 1000
    for blob in folder.rglob("*.blob"):
        blob.unlink()
    assert shown()["batos_image_blob_size_bytes"] == 1000
    now[0] = 61.0
    assert shown()["batos_image_blob_size_bytes"] == 0
    assert list(ImageCollector(lambda: None, folder, 60.0).collect()) == []
