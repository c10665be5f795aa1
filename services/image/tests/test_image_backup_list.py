"""Folders of backups: listed, read, thinned."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest
from image_files import ImageFiles
from zc.lockfile import LockFile  # type: ignore[import-untyped]

from batos.image import backup_folder, backup_list, care
from batos.image.backup_list import listed, read_all, thinned
from batos.image.errors import CareError
from batos.image.manifest import DATA, MANIFEST, Manifest
from batos.image.reporting import untold
from batos.protocol import ImageBackups


def nights(files: ImageFiles) -> list[str]:
    """Make two chains of two backups each, with a blob that only the first one has; return their names."""
    made = [files.back_up().name]
    files.put("fourth", "4")
    made.append(files.back_up().name)
    files.change(lambda root: root["things"].__delitem__("third"))
    files.put_blob("fifth", b"5" * 700)
    files.pack(dt.datetime.now(dt.UTC).timestamp() + 1)
    made.append(files.back_up().name)
    files.put("sixth", "6")
    made.append(files.back_up().name)
    return made


def thin(
    files: ImageFiles, keep: int | None = None, *, days: float | None = None, dry_run: bool = False
) -> ImageBackups:
    return thinned(files.backups, keep=keep, days=days, dry_run=dry_run, tell=untold)


def there(files: ImageFiles) -> list[str]:
    return [one.name for one in listed(files.backups).backups]


def stored(files: ImageFiles) -> dict[int, Path]:
    """Return the blobs in the folder of backups by their lengths."""
    return {path.stat().st_size: path for path in (files.backups / "blobs").rglob("*") if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_listed(files: ImageFiles) -> None:
    """Every backup with what it is, and whether all is there that it needs."""
    made = nights(files)
    found = listed(files.backups)
    assert [one.name for one in found.backups] == made
    assert [one.kind for one in found.backups] == ["full", "incremental"] * 2
    assert all(one.restores and one.image for one in found.backups)
    assert (found.faults_found, found.bytes_read) == (0, 0)
    stored(files)[5000].unlink()
    found = listed(files.backups)
    assert [one.restores for one in found.backups] == [False, False, True, True]
    assert "is missing" in found.backups[0].why


def test_read(files: ImageFiles) -> None:
    """Every byte is read once; each backup that needs a damaged one cannot be restored, the others can."""
    made = nights(files)
    assert read_all(files.backups, untold).faults_found == 0
    flip(stored(files)[700])
    found = read_all(files.backups, untold)
    assert [one.restores for one in found.backups] == [True, True, False, False]
    assert (found.faults_found, found.faults) == (1, (f"{stored(files)[700]} is damaged",))
    assert found.bytes_read == sum(path.stat().st_size for path in files.backups.rglob(DATA)) + 5700
    flip(files.backups / made[0] / DATA)
    flip(files.backups / made[3] / MANIFEST)
    found = read_all(files.backups, untold)
    assert (found.faults_found, [one.restores for one in found.backups]) == (3, [False] * 4)
    assert found.backups[0].name == made[3], "what cannot be read comes first"


@pytest.mark.parametrize(("keep", "left"), [(1, 2), (2, 2), (3, 4), (4, 4), (9, 4)])
def test_so_many_are_kept(files: ImageFiles, keep: int, left: int) -> None:
    """Those that are kept, and what they continue; a blob goes with the last backup that needs it."""
    made = nights(files)
    would = thin(files, keep, dry_run=True)
    assert there(files) == made
    found = thin(files, keep)
    assert there(files) == made[-left:]
    assert sorted(found.removed) == sorted(would.removed) == sorted(made[:-left])
    assert (found.blobs_removed, found.bytes_removed) == (would.blobs_removed, would.bytes_removed)
    assert sorted(stored(files)) == ([700] if left == 2 else [700, 5000])
    assert files.restored("other")[1].compared
    assert read_all(files.backups, untold).faults_found == 0


def test_so_old_ones_are_kept(files: ImageFiles) -> None:
    """By the time that they say they were made; the newest stays however old it is."""
    made = nights(files)
    thin(files, days=1)
    assert there(files) == made
    thin(files, days=0)
    assert there(files) == made[2:]


def test_the_last_that_can_be_restored_is_kept(files: ImageFiles) -> None:
    """What cannot be restored does not count."""
    made = nights(files)
    (files.backups / made[3] / DATA).unlink()
    (files.backups / made[2] / DATA).unlink()
    thin(files, 1)
    assert there(files) == made
    thin(files, days=0)
    assert there(files)[:2] == made[:2]


def test_nothing_is_taken_away_while_one_cannot_be_read(files: ImageFiles) -> None:
    """Nobody knows which blobs it needs."""
    made = nights(files)
    flip(files.backups / made[1] / MANIFEST)
    with pytest.raises(CareError, match=f"nothing was taken away.*{made[1]}"):
        thin(files, 1)
    assert len(stored(files)) == 2


@pytest.mark.parametrize("unrelated", ["postgres/data/base", "notes/data", "site/manifest.json"])
def test_folders_that_are_no_backups(files: ImageFiles, unrelated: str) -> None:
    """What else lies there is no backup that cannot be read: it is left alone and keeps nobody from thinning."""
    made = nights(files)
    path = files.backups / unrelated
    path.parent.mkdir(parents=True)
    path.write_text("another's")
    thin(files, 1)
    assert there(files) == made[2:]
    assert path.exists()


def test_folders_that_may_be_backups(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lost its manifest, was renamed, or is locked under its name counts; another's locked one does not."""
    made = nights(files)
    (files.backups / made[0] / MANIFEST).unlink()
    (files.backups / made[1]).rename(files.backups / "mine")
    is_file = Path.is_file

    def locked(path: Path) -> bool:
        if path.parent.name in {made[2], "theirs"}:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    (files.backups / "theirs").mkdir()
    monkeypatch.setattr(Path, "is_file", locked)
    monkeypatch.setattr(backup_folder, "read_manifest", unread)
    assert sorted(there(files)) == sorted([made[0], "mine", *made[2:]])


def unread(path: Path) -> Manifest:
    raise CareError("backup_damaged", f"{path} is damaged", "see to it")


def test_cut_off_anywhere(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step is the last one, all that is there can be restored, and the next thinning does the rest."""
    made = nights(files)
    steps = 0

    def end(name: str) -> None:
        real = getattr(Path, name)

        def step(path: Path, *arguments: object) -> object:
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise KeyboardInterrupt
            return real(path, *arguments)

        monkeypatch.setattr(Path, name, step)

    for name in ("rename", "unlink"):
        end(name)
    for allowed in range(10):
        steps = allowed
        try:
            thin(files, 1)
        except KeyboardInterrupt:
            steps = 1_000
            found = read_all(files.backups, untold)
            assert all(one.restores for one in found.backups), allowed
            assert made[2:] == [one.name for one in found.backups][-2:]
        else:
            break
    assert there(files) == made[2:]
    assert list(stored(files)) == [700]
    assert not list(files.backups.glob(".partial*"))


def test_blobs_that_nobody_needs(files: ImageFiles) -> None:
    """What a backup that was killed left goes too, and nothing else that lies there."""
    files.back_up()
    left = files.backups / "blobs" / "00" / ("0" * 64)
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"left")
    notes = left.with_name("notes")
    notes.write_text("mine")
    found = thin(files, 1)
    assert (found.removed, found.blobs_removed, found.bytes_removed) == ((), 1, 4)
    assert notes.exists()
    assert not left.exists()


def test_one_who_writes_there(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken away while a backup is made; a folder without backups, or none, is said."""
    nights(files)
    lock = LockFile(str(files.backups / ".lock"))
    try:
        with pytest.raises(CareError, match="another backup"):
            thin(files, 1)
    finally:
        lock.close()
    for work in (
        lambda path: thinned(path, keep=1, days=None, dry_run=False, tell=untold),
        lambda path: read_all(path, untold),
    ):
        with pytest.raises(CareError, match="there is no backup"):
            work(files.home)
        with pytest.raises(CareError, match="cannot be read"):
            work(files.home / "nowhere")
    monkeypatch.setattr(backup_list, "sync_folder", lambda _: Path("/nowhere/at/all").stat())
    with pytest.raises(CareError, match="what is left is whole"):
        thin(files, 1)


def test_two_images(files: ImageFiles) -> None:
    """So many are kept of each."""
    made = nights(files)
    other = ImageFiles(files.home.parent / "another")
    other.put("a", "a")
    theirs = other.back_up(target=files.home.parent / "its own").name
    (files.home.parent / "its own" / theirs).rename(files.backups / theirs)
    thin(files, 1)
    assert set(there(files)) == {*made[2:], theirs}


def test_the_program(files: ImageFiles, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments, and its outcome as the last line."""
    monkeypatch.setattr(os, "nice", lambda _: 0)
    nights(files)

    def said(*arguments: str) -> dict[str, object]:
        assert care.main([*arguments]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    assert said("backups", str(files.backups))["removed"] == []
    assert said("verify", f"--backup={files.backups}")["faults_found"] == 0
    assert len(said("backups", "--keep=1", "--dry-run", str(files.backups))["removed"]) == 2  # type: ignore[arg-type]
    assert len(said("backups", "--days=0", str(files.backups))["removed"]) == 2  # type: ignore[arg-type]
