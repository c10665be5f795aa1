"""What can be told in a moment of an image's files, and of the disk under them."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
from image_files import ImageFiles

from batos.image.looking import LAST_PACK, look, look_unserved, note_pack
from batos.image.manifest import manifests
from batos.image.room import Room


def test_an_image_that_was_never_cared_for(files: ImageFiles) -> None:
    """Its sizes and how old it is; no backup, no pack."""
    found = look_unserved(files.folder)
    assert (found.file_bytes, found.blob_bytes) == (files.file.stat().st_size, 5000)
    assert found.free_bytes > 0
    assert time.time() - 60 < found.oldest_at <= time.time()
    assert (found.backup_at, found.backup_whole, found.packed_at, found.pins) == (0.0, False, 0.0, ())


def test_a_backup_has_everything_until_something_is_committed(files: ImageFiles) -> None:
    """Whether the newest backup lacks something, however old it is, is told."""
    files.back_up()
    found = look_unserved(files.folder)
    assert (found.backup_folder, found.backup_whole) == (str(files.backups), True)
    assert time.time() - 60 < found.backup_at <= time.time()
    files.put("fourth", "4")
    assert not look_unserved(files.folder).backup_whole


def test_the_last_pack(files: ImageFiles) -> None:
    """Is remembered where there is room for that; a damaged note counts as none."""
    note_pack(files.folder)
    assert time.time() - 60 < look_unserved(files.folder).packed_at <= time.time()
    (files.folder / LAST_PACK).write_text("{")
    assert look_unserved(files.folder).packed_at == 0.0
    note_pack(files.folder / "away")


@pytest.mark.parametrize("content", [None, b"", b"FS30"])
def test_an_image_without_a_transaction(tmp_path: Path, content: bytes | None) -> None:
    """Nothing is told of what is not there."""
    if content is not None:
        (tmp_path / "live_image.fs").write_bytes(content)
    found = look(tmp_path, (), "")
    assert (found.file_bytes, found.oldest_at, found.backup_whole) == (len(content or b""), 0.0, False)


def test_room_is_what_commits_found_last() -> None:
    """The last commit counts; a change is told once."""
    told: list[str] = []
    room = Room(told.append)
    room.found()
    for _ in range(2):
        room.missing("/home/image", OSError(errno.ENOSPC, "No space left on device"))
    assert (room.refused, room.lacking) == (2, "/home/image: No space left on device")
    room.found()
    room.found()
    assert (room.refused, told) == (2, ["/home/image: No space left on device", ""])


def test_what_a_file_system_keeps_for_itself_is_no_backup(files: ImageFiles) -> None:
    """A fresh volume has a folder `lost+found` that may not even be looked into."""
    files.back_up()
    (files.backups / "lost+found").mkdir()
    (files.backups / "lost+found" / "manifest.json").write_text("{")
    assert len(manifests(files.backups)) == 1
