"""The end of the image's file: what was never finished is dropped, all else that does not fit is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from image_files import ImageFiles

from batos.image.errors import StorageUnusable
from batos.image.storage import open_storage

LENGTH = 8
"""Bytes of a transaction's length, at both its ends."""
STATUS = 16
"""Where in a transaction's header its status stands."""


@pytest.fixture
def ends(files: ImageFiles) -> list[int]:
    """Where each of three transactions begins, and the last ends: after a kill, so that no index knows them."""
    open_storage(files.folder).close()
    index = files.file.with_name("live_image.fs.index")
    kept = index.read_bytes()
    found = [files.file.stat().st_size]
    for name in ("a", "b", "c"):
        files.put(name, f"the text of {name}")
        found.append(files.file.stat().st_size)
    index.write_bytes(kept)
    return found


def opened(files: ImageFiles) -> int:
    storage = open_storage(files.folder)
    try:
        return int(storage.getSize())
    finally:
        storage.close()


def code(files: ImageFiles) -> str:
    """Return why it is refused; not one byte of it changed."""
    content = files.file.read_bytes()
    with pytest.raises(StorageUnusable) as caught:
        open_storage(files.folder)
    assert files.file.read_bytes() == content
    assert not list(files.folder.glob("*.tr*"))
    return str(caught.value.code)


def put(files: ImageFiles, place: int, content: bytes) -> None:
    with files.file.open("r+b") as file:
        file.seek(place)
        file.write(content)


@pytest.mark.parametrize("kept", [1, 22, 23, 100, None])
def test_a_commit_that_was_cut_off_is_dropped(
    files: ImageFiles, ends: list[int], caplog: pytest.LogCaptureFixture, kept: int | None
) -> None:
    """Whatever there is of it, all of it too: its header says that nobody was told that it is stored. It is said."""
    put(files, ends[2] + STATUS, b"c")
    if kept is not None:
        os.truncate(files.file, ends[2] + kept)
    left = files.file.stat().st_size - ends[2]
    assert opened(files) == files.file.stat().st_size == ends[2]
    assert f"the last {left} bytes of {files.file} were a commit that was cut off" in caplog.text
    assert set(files.texts()) >= {"a", "b"}


@pytest.mark.parametrize("lacking", [1, 8, 100])
@pytest.mark.parametrize("index", [True, False])
def test_a_part_of_a_finished_transaction(files: ImageFiles, ends: list[int], lacking: int, index: bool) -> None:
    """It was acknowledged: the file is refused, with or without its index, and the command goes on without it."""
    if not index:
        files.file.with_name("live_image.fs.index").unlink()
    os.truncate(files.file, ends[3] - lacking)
    assert code(files) == "image_truncated"
    with pytest.raises(StorageUnusable) as caught:
        open_storage(files.folder)
    command = caught.value.hint.rpartition("`truncate")[2].removesuffix("`")
    subprocess.run(["truncate", *command.split()], check=True)
    assert opened(files) == ends[2]


@pytest.mark.parametrize("place", [8, 12, 15])
def test_a_flipped_bit_in_a_length(files: ImageFiles, ends: list[int], place: int) -> None:
    """What follows it is not dropped."""
    content = files.file.read_bytes()
    put(files, ends[1] + place, bytes([content[ends[1] + place] ^ 1]))
    assert code(files) in {"image_truncated", "image_damaged"}
    put(files, 0, content)
    put(files, ends[2] - LENGTH + 7, bytes([content[ends[2] - LENGTH + 7] ^ 1]))
    assert code(files) == "image_damaged"


def test_transactions_out_of_order(files: ImageFiles, ends: list[int]) -> None:
    """A bit in a transaction's number: it or the next one is older than the one before."""
    put(files, ends[1], b"\x7f")
    assert code(files) == "image_damaged"
    put(files, ends[1], b"\x00")
    assert code(files) == "image_damaged"


@pytest.mark.parametrize("status", [b"c", b"\x00", b"!"])
def test_no_transaction_in_the_middle(files: ImageFiles, ends: list[int], status: bytes) -> None:
    """Also one that says it was never finished: none can follow such a one."""
    put(files, ends[1] + STATUS, status)
    assert code(files) == "image_damaged"


def test_whole_transactions_that_the_last_backup_had(files: ImageFiles, ends: list[int]) -> None:
    """A file that was cut between two transactions looks whole; the last backup knows better, and gives it back."""
    files.back_up()
    os.truncate(files.file, ends[2])
    assert code(files) == "image_truncated"
    with pytest.raises(StorageUnusable, match=r"were there at the last backup") as caught:
        open_storage(files.folder)
    assert f"batos image restore {files.backups} --into HOME" in caught.value.hint
    os.truncate(files.file, ends[2] + 30)
    with pytest.raises(StorageUnusable) as caught:
        open_storage(files.folder)
    assert "truncate" not in caught.value.hint, "the backup has more"
    (files.folder / "last_backup.json").unlink()
    os.truncate(files.file, ends[2])
    assert opened(files) == ends[2]


@pytest.mark.parametrize("content", [None, b"", b"FS30"])
@pytest.mark.parametrize("trace", ["blobs", "last_backup.json", "live_image.fs.old", "live_image.fs.pack"])
def test_an_image_is_never_begun_where_there_was_one(files: ImageFiles, content: bytes | None, trace: str) -> None:
    """Beside what only an image leaves: nothing is made, nothing is taken away."""
    blob = files.blob()
    if trace != "blobs":
        blob.unlink()
        (files.folder / trace).write_bytes(b"{}")
    files.file.with_name("live_image.fs.index").unlink()
    files.file.unlink()
    if content is not None:
        files.file.write_bytes(content)
    with pytest.raises(StorageUnusable, match="but there was an image") as caught:
        open_storage(files.folder)
    assert caught.value.code == "image_truncated"
    assert files.file.exists() == (content is not None)
    assert (blob if trace == "blobs" else files.folder / trace).exists()


def test_gone_beside_its_index(files: ImageFiles) -> None:
    """A file that is gone while its index is there is not silently replaced by an empty image."""
    files.blob().unlink()
    files.file.unlink()
    with pytest.raises(StorageUnusable, match=r"is missing, but there was an image: .*live_image.fs.index is there"):
        open_storage(files.folder)


@pytest.mark.parametrize("content", [None, b"", b"FS30"])
def test_a_first_start_that_was_cut_off(tmp_path: Path, content: bytes | None) -> None:
    """It had stored nothing: the next one begins anew."""
    folder = tmp_path / "image"
    open_storage(folder).close()
    (folder / "live_image.fs.index").unlink()
    (folder / "live_image.fs").unlink()
    if content is not None:
        (folder / "live_image.fs").write_bytes(content)
    open_storage(folder).close()
    assert (folder / "live_image.fs").read_bytes() == b"FS30"
