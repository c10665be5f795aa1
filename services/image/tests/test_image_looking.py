"""What can be told in a moment of an image's files, and of the disk under them."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from image_files import ImageFiles
from zc.lockfile import LockFile  # type: ignore[import-untyped]

from batos.image import care, looking
from batos.image.backup_folder import found_in
from batos.image.errors import CareError
from batos.image.known_hashes import known_hashes
from batos.image.looking import LAST_PACK, look, look_unserved, note_pack
from batos.image.room import Room
from batos.image.storage import open_storage


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


def test_a_backup_that_found_nothing_new_is_as_good_as_a_new_one(files: ImageFiles) -> None:
    """From when it was asked for; the hashes are known as before."""
    files.back_up()
    made, known = look_unserved(files.folder).backup_at, known_hashes(files.folder)
    assert files.back_up().kind == "unchanged"
    files.put("fourth", "4")
    found = look_unserved(files.folder)
    assert not found.backup_whole
    assert made < found.backup_at <= time.time()
    now = known_hashes(files.folder)
    assert now is not None
    assert msgspec.structs.replace(now, checked_at="") == known


@pytest.mark.parametrize("new", [True, False])
def test_a_backup_that_cannot_be_noted(files: ImageFiles, monkeypatch: pytest.MonkeyPatch, new: bool) -> None:
    """It is whole all the same, and that is said."""
    if not new:
        files.back_up()

    def full(*_given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("batos.image.known_hashes.replace_file", full)
    with pytest.raises(CareError, match=r"is whole, but .*No space left") as caught:
        files.back_up()
    assert caught.value.code == "backup_unnoted"
    assert len(found_in(files.backups).known) == 1


def asked_to_look(home: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    care.main(["look", "--home", str(home)])
    found: dict[str, Any] = msgspec.json.decode(capfd.readouterr().out)
    return found


def test_looking_keeps_nobody_from_serving(
    files: ImageFiles, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The image's lock is neither taken nor needed."""
    monkeypatch.setattr(os, "nice", lambda _more: 0)
    lock = LockFile(f"{files.file}.lock")
    try:
        assert asked_to_look(files.home, capfd)["file_bytes"] == files.file.stat().st_size
    finally:
        lock.close()
    Path(f"{files.file}.lock").unlink()
    before = sorted(files.folder.rglob("*"))
    assert asked_to_look(files.home, capfd)["blob_bytes"] == 5000
    assert sorted(files.folder.rglob("*")) == before


def test_looking_where_nothing_is_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An empty folder, and one where nothing was stored: that is no error."""
    monkeypatch.setattr(os, "nice", lambda _more: 0)
    (tmp_path / "image").mkdir()
    assert asked_to_look(tmp_path, capfd)["file_bytes"] == 0
    assert list((tmp_path / "image").iterdir()) == []
    open_storage(tmp_path / "image").close()
    assert asked_to_look(tmp_path, capfd)["oldest_at"] == 0.0


def test_looking_at_what_others_own(
    files: ImageFiles, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever may not is told so, with the file."""
    monkeypatch.setattr(os, "nice", lambda _more: 0)

    def forbidden(place: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    monkeypatch.setattr(looking.shutil, "disk_usage", forbidden)
    said = asked_to_look(files.home, capfd)
    assert (said["code"], said["message"]) == ("image_unreadable", f"{files.folder} cannot be read: Permission denied")
    monkeypatch.setattr(care, "LockFile", forbidden)
    care.main(["verify", "--home", str(files.home)])
    assert msgspec.json.decode(capfd.readouterr().out)["code"] == "image_unreadable"


def test_the_last_pack(files: ImageFiles) -> None:
    """Is remembered where there is room for that; a damaged note counts as none."""
    note_pack(files.folder)
    assert time.time() - 60 < look_unserved(files.folder).packed_at <= time.time()
    (files.folder / LAST_PACK).write_text("{")
    assert look_unserved(files.folder).packed_at == 0.0
    note_pack(files.folder / "away")


def test_a_pack_that_failed(files: ImageFiles) -> None:
    """Is remembered beside when one was done last, until one is done."""
    note_pack(files.folder)
    done = look_unserved(files.folder).packed_at
    note_pack(files.folder, "no room")
    found = look_unserved(files.folder)
    assert (found.packed_at, found.pack_error) == (done, "no room")
    assert look(files.folder, (), "", pack_error="").pack_error == ""
    note_pack(files.folder)
    assert look_unserved(files.folder).pack_error == ""


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
    assert len(found_in(files.backups).known) == 1
