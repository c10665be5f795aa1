"""Blobs in backups: what the image lost stays there, and what rotted in the folder of backups is put right."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from image_files import ImageFiles

from batos.image.errors import CareError
from batos.image.known_hashes import known_hashes

RIGHT = b"b" * 5000


def stored(files: ImageFiles) -> Path:
    """Return the only blob in the folder of backups."""
    (found,) = (path for path in (files.backups / "blobs").rglob("*") if path.is_file())
    return found


def flip(path: Path) -> None:
    """Put another byte into a file."""
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def gone(path: Path) -> None:
    path.unlink()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def shortened(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, 10)


@pytest.mark.parametrize("harm", [gone, dangling, folder, shortened])
@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
def test_what_the_image_lost_stays_in_its_backups(files: ImageFiles, harm: Callable[[Path], None], full: bool) -> None:
    """The next backup names the blob, keeps the bytes that the folder has, and an image made of it has them again."""
    files.back_up()
    harm(files.blob())
    files.put("fourth", "4")
    made = files.back_up(full=full)
    assert (made.blobs, len(made.missing)) == (1, 1)
    assert f"the right bytes are {stored(files)}" in made.missing[0]
    other, restored = files.restored("other")
    assert (other.blob().read_bytes(), restored.missing, restored.compared) == (RIGHT, (), True)
    assert other.verify().faults_found == 0
    assert len(files.back_up().missing) == 1, "also where nothing new was committed"


def test_a_hash_that_was_known_stays_known(files: ImageFiles) -> None:
    """A blob that was missing at a backup and is there again with other bytes is not taken for the right one."""
    files.back_up()
    blob = files.blob()
    blob.rename(blob.with_suffix(".away"))
    files.put("fourth", "4")
    files.back_up()
    blob.with_suffix(".away").rename(blob)
    flip(blob)
    files.put("fifth", "5")
    made = files.back_up(full=True)
    assert "has another hash" in made.missing[0]
    assert files.restored("other")[0].blob().read_bytes() == RIGHT


def test_a_hash_that_another_folder_knows(files: ImageFiles, tmp_path: Path) -> None:
    """The first backup to a second folder sees that a blob is not what it was at the last one elsewhere."""
    files.back_up()
    flip(files.blob())
    (said,) = files.back_up(target=tmp_path / "second").missing
    assert "has another hash" in said
    assert "the right bytes are not in" in said


def test_what_nobody_has_is_missing_in_what_is_restored(files: ImageFiles) -> None:
    """A blob that was lost before the first backup: restored without it, and that is said."""
    files.blob().unlink()
    files.back_up()
    restored = files.restored("other")[1]
    assert restored.blobs == 0
    assert len(restored.missing) == 1
    assert "not in the backup" in restored.missing[0]
    assert files.back_up().missing, "it is missing still"


def test_a_blob_that_was_put_back(files: ImageFiles) -> None:
    """Nothing was committed since, but the image has a blob again: that is another backup, and it has it."""
    blob = files.blob()
    blob.rename(files.home / "away")
    assert files.back_up().missing
    (files.home / "away").rename(blob)
    made = files.back_up()
    assert (made.kind, made.blobs, made.missing) == ("full", 1, ())
    assert files.restored("other")[0].blob().read_bytes() == RIGHT
    assert files.back_up().kind == "unchanged"


def test_a_full_backup_reads_what_is_stored(files: ImageFiles) -> None:
    """A bit that flipped in the folder of backups is put right from the image."""
    files.back_up()
    flip(stored(files))
    with pytest.raises(CareError, match="is damaged"):
        files.restored("other")
    made = files.back_up(full=True)
    assert (made.blobs_written, made.missing) == (1, ())
    assert files.restored("other")[0].blob().read_bytes() == RIGHT


@pytest.mark.parametrize("harm", [gone, shortened])
@pytest.mark.parametrize("new", [False, True], ids=["unchanged", "incremental"])
def test_every_backup_looks_whether_all_is_there(files: ImageFiles, harm: Callable[[Path], None], new: bool) -> None:
    """A stored blob that is missing or too short is written again, also where nothing was committed."""
    files.back_up()
    harm(stored(files))
    if new:
        files.put("fourth", "4")
    made = files.back_up()
    assert (made.kind, made.blobs_written) == ("incremental" if new else "unchanged", 1)
    assert files.restored("other")[0].blob().read_bytes() == RIGHT


def test_what_nobody_has_any_more_is_not_called_unchanged(files: ImageFiles) -> None:
    """A blob that image and folder both lost: a new backup says so, instead of the last one counting as whole."""
    files.back_up()
    stored(files).unlink()
    files.blob().unlink()
    made = files.back_up()
    assert (made.kind, made.blobs, len(made.missing)) == ("full", 0, 1)
    again = files.back_up()
    assert (again.kind, len(again.missing)) == ("unchanged", 1)


def test_what_lies_among_blobs_is_none(files: ImageFiles) -> None:
    """A file that somebody copied into the folder of blobs keeps nobody from making a backup."""
    (files.blob().parent / "a copy.blob").write_bytes(b"x")
    made = files.back_up()
    assert (made.blobs, made.missing) == (1, ())


def test_parts_that_were_left_are_taken_away(files: ImageFiles) -> None:
    """What a backup that was killed had copied half is no blob."""
    files.back_up()
    part = stored(files).with_name(f".{'0' * 64}")
    part.write_bytes(b"half")
    files.back_up()
    assert not part.exists()


def test_a_full_disk_keeps_no_blobs(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was copied before the disk was full is given back: nothing was added."""

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("batos.image.backup.write_manifest", full)
    with pytest.raises(CareError, match="nothing was added"):
        files.back_up()
    monkeypatch.undo()
    assert not [path for path in files.backups.rglob("*") if path.is_file() and path.name != ".lock"]
    assert known_hashes(files.folder) is None


def test_the_image_is_to_blame(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the image's own file cannot be read, nobody is sent to the folder of backups."""

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(files.file))

    monkeypatch.setattr("batos.image.backup._Backup._copy_data", unreadable)
    with pytest.raises(CareError, match=r"Input/output error.*nothing was added.*batos image verify"):
        files.back_up()
