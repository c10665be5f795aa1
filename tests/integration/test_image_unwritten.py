"""What an image or its client cannot write: the commit says so, the connection stays, nothing is left lying about."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ZEO.StorageServer
from ZEO.Exceptions import ClientDisconnected, ServerException
from ZODB.POSException import StorageError

from batos.image import ImageServer, clients
from batos.uvm import Image, ImageUnreachable, Root, open_image, read_blob, store_blob
from batos.uvm.zeo_client import ImageClient

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """The client's folder of blobs."""
    return tmp_path / "cache"


@pytest.fixture
def opened(server: ImageServer, socket: Path, blobs: Path) -> Iterator[Image]:
    assert server.counts() is not None
    with open_image(f"zeo://{socket}?wait_timeout=10&blob_dir={blobs}") as image:
        yield image


def failing(code: int) -> Callable[..., Any]:
    def fail(*_given: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def no_more_files(patched: pytest.MonkeyPatch, folder: Path, code: int) -> None:
    """Let no temporary file be made in a folder."""
    make, fail = tempfile.mkstemp, failing(code)

    def made(*given: Any, **named: Any) -> Any:
        return (fail if str(named.get("dir", "")).startswith(str(folder)) else make)(*given, **named)

    patched.setattr(tempfile, "mkstemp", made)


def large(root: Root) -> None:
    root["lobby"].large = store_blob(b"x" * 500_000)


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("what", ["record", "start of a blob", "piece of a blob"])
def test_a_commit_that_the_image_cannot_write(
    server: ImageServer, opened: Image, tmp_path: Path, what: str, code: int
) -> None:
    """It is refused on the same connection, with what was wrong; only a full disk is called one, and counted as one."""
    opened.run(lambda root: setattr(root["lobby"], "kept", True))
    is_full = code != errno.EIO
    said = "disk is full .*batos image pack" if is_full else r"cannot write \(.*Input/output error\): nothing of this"
    with pytest.MonkeyPatch.context() as patched:
        if what == "record":
            patched.setattr(ZEO.StorageServer.CommitLog, "store", failing(code))
        elif what == "start of a blob":
            no_more_files(patched, tmp_path / "image" / "blobs", code)
        else:
            patched.setattr(clients, "os", SimpleNamespace(write=failing(code)))
        for attempt in range(1, 3):
            with pytest.raises(StorageError, match=said):
                opened.run(large)
            assert (server.room.refused, bool(server.room.lacking)) == (attempt * is_full, is_full)
    opened.run(large)
    assert not server.room.lacking
    with opened.snapshot() as root:
        assert root["lobby"].kept
        assert len(read_blob(root["lobby"].large)) == 500_000
    assert files(tmp_path / "image" / "blobs" / "tmp") == []


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_connection_that_is_lost_at_a_blob(
    opened: Image, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Before its file was brought to the client's folder, or after that: it is left nowhere."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    opened.run(lambda root: setattr(root["lobby"], "first", store_blob(b"1")))
    before = files(blobs, temporary)
    check = ImageClient._check_trans

    def lost(self: ImageClient, transaction: Any, doing: str) -> Any:
        is_near = any(".tmp" in path.suffix for path in files(blobs))
        if doing == ("store" if is_near else "storeBlob" if where == "before" else ""):
            raise ClientDisconnected(doing)
        return check(self, transaction, doing)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ImageClient, "_check_trans", lost)
        with pytest.raises(ImageUnreachable):
            opened.run(large)
    left = set(files(blobs, temporary)) - set(before)
    assert {path for path in left if path.name != ".lock"} == set()
    opened.run(large)


def test_a_commit_that_is_given_up(opened: Image, blobs: Path) -> None:
    """It leaves no blob in the client's folder."""
    opened.run(lambda root: setattr(root["lobby"], "first", store_blob(b"1")))
    before = files(blobs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clients.ClientHandler, "vote", failing(errno.EIO))
        with pytest.raises(ServerException, match="Input/output"):
            opened.run(large)
    assert files(blobs) == before


def test_a_blob_that_came_in_part(opened: Image, socket: Path, tmp_path: Path) -> None:
    """What a connection that was lost left of it is not in the way of the next attempt, nor in the blob."""
    opened.run(large)
    with open_image(f"zeo://{socket}?wait_timeout=10&blob_dir={tmp_path / 'other'}") as other:
        with other.snapshot() as root:
            assert len(read_blob(root["lobby"].large)) == 500_000
        (whole,) = (tmp_path / "other").rglob("*.blob")
        part = Path(f"{whole}.dl")
        whole.rename(part)
        part.chmod(0o600)
        with other.snapshot() as root:
            assert read_blob(root["lobby"].large) == b"x" * 500_000
        assert not part.exists()
