"""Folders of backups in which something is damaged, belongs to another image, or cannot be continued."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
from pathlib import Path

import pytest
from image_files import ImageFiles

from batos.image.backup_folder import found_in
from batos.image.errors import CareError
from batos.image.image_id import IMAGE_ID, image_id
from batos.image.manifest import CHUNK_BYTES, DATA, MANIFEST, Manifest, read_manifest, write_manifest
from batos.image.reporting import untold
from batos.image.restore import restore


def spoil(files: ImageFiles, name: str, what: str = MANIFEST) -> None:
    """Put another byte into a file of a backup."""
    path = files.backups / name / what
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(files: ImageFiles, name: str, **changes: object) -> Manifest:
    """Write another manifest in a backup's place."""
    known = read_manifest(files.backups / name)
    fields = {field: getattr(known, field) for field in known.__struct_fields__}
    changed = Manifest(**{**fields, **changes})
    write_manifest(files.backups / name, changed)
    return changed


def test_a_damaged_manifest_is_passed_over(files: ImageFiles) -> None:
    """One that nobody needs neither keeps the newest from being restored nor the next from continuing it."""
    old = files.back_up().name
    files.put("fourth", "4")
    full = files.back_up(full=True)
    spoil(files, old)
    restored = files.restored("other")[1]
    assert (restored.name, restored.compared, len(restored.passed_over)) == (full.name, True, 1)
    assert old in restored.passed_over[0]
    files.put("fifth", "5")
    made = files.back_up()
    assert (made.kind, len(made.passed_over)) == ("incremental", 1)


def test_a_damaged_manifest_that_is_needed(files: ImageFiles) -> None:
    """What a backup continues cannot be passed over: it is named."""
    first = files.back_up().name
    files.put("fourth", "4")
    files.back_up()
    spoil(files, first)
    with pytest.raises(CareError, match=f"{first}/manifest.json is damaged") as caught:
        files.restored("other")
    assert caught.value.code == "backup_damaged"
    assert files.back_up().kind == "full"
    assert files.restored("other")[1].compared


def test_the_newest_is_never_replaced_in_silence(files: ImageFiles) -> None:
    """Where the manifest of the newest is damaged an older state is restored only if it is asked for."""
    first = files.back_up()
    files.put("fourth", "4")
    newest = files.back_up(full=True)
    spoil(files, newest.name)
    with pytest.raises(CareError, match=f"{newest.name}.*is damaged.*--at {first.tid}"):
        files.restored("other")
    with pytest.raises(CareError, match=f"{newest.name}.*is damaged"):
        files.restored("other", dt.datetime.now(dt.UTC).isoformat())
    assert files.restored("other", first.tid)[1].compared


def test_a_later_backup_has_the_moment_too(files: ImageFiles) -> None:
    """The oldest that reaches the moment is damaged, a later full one is not: that is taken, and the other named."""
    files.back_up()
    tid = files.put("fourth", "4")
    damaged = files.back_up().name
    files.put("fifth", "5")
    later = files.back_up(full=True).name
    spoil(files, damaged, DATA)
    other, restored = files.restored("other", tid)
    assert (restored.name, restored.tid, len(restored.passed_over)) == (later, tid, 1)
    assert damaged in restored.passed_over[0]
    assert set(other.texts()) == {"first", "second", "third", "fourth"}


def test_what_only_a_damaged_backup_had(files: ImageFiles) -> None:
    """A moment that was packed away later: the damage is named, not the pack."""
    files.back_up()
    tid = files.put("first", "one")
    damaged = files.back_up(full=True).name
    files.put("first", "two")
    files.pack(dt.datetime.now(dt.UTC).timestamp())
    files.back_up()
    spoil(files, damaged, DATA)
    with pytest.raises(CareError, match=f"{damaged}/data is damaged"):
        files.restored("other", tid)


def test_a_folder_that_was_renamed(files: ImageFiles) -> None:
    """Backups have the names that their manifests say; one with another is named with the right one."""
    first = files.back_up().name
    files.put("fourth", "4")
    files.back_up()
    (files.backups / first).rename(files.backups / "my first")
    with pytest.raises(CareError, match=f"my first holds the backup {first}"):
        files.restored("other")


def test_the_last_transaction_tells_of_a_pack(files: ImageFiles) -> None:
    """A file that was packed and has grown again, so that its bytes at the end are the same, is not continued."""

    def commit(name: str, number: int) -> None:
        files.put(name, "AB"[number % 2] * 300)

    def at_the_begin_of_a_piece() -> bool:
        return 0 < files.snapshot().position % CHUNK_BYTES <= 200

    for name in ("n6", "n5"):
        commit(name, 0)
    files.pack(dt.datetime.now(dt.UTC).timestamp() + 1)
    before = files.snapshot().position
    commit("n5", 1)
    length, number = files.snapshot().position - before, 2
    while not at_the_begin_of_a_piece():
        commit("n5", number)
        number += 1
    files.back_up()
    end = files.snapshot().position
    assert files.pack(dt.datetime.now(dt.UTC).timestamp() + 1).bytes_after < end
    other = 0
    while files.snapshot().position < end - length:
        commit("n6", other)
        other += 1
    commit("n5", number - 1)
    assert files.snapshot().position == end
    files.put("first", "more")
    made = files.back_up()
    assert made.kind == "full"
    assert files.restored("other")[1].compared


def another(files: ImageFiles) -> ImageFiles:
    """Return another image that has more in it."""
    found = ImageFiles(files.home.parent / "another")
    for name in ("a", "b", "c", "d"):
        found.put(name, "x" * 1000)
    return found


def test_a_folder_is_one_images(files: ImageFiles) -> None:
    """Another image's backup to the same folder is refused, whether that image has an id yet or not."""
    files.back_up()
    other = another(files)
    for _ in range(2):
        with pytest.raises(CareError, match=r"backups of another image.*name another folder") as caught:
            other.back_up(target=files.backups)
        assert caught.value.code == "backup_foreign"
        other.back_up(target=files.home.parent / "its own")
    assert len(found_in(files.backups).known) == 1


def test_what_is_restored_is_the_same_image(files: ImageFiles) -> None:
    """It goes on with the backups that it was made from; a pack does not change which image it is."""
    files.back_up()
    other, _ = files.restored("other", files.put("fourth", "4") and files.back_up().tid)
    assert image_id(other.folder) == image_id(files.folder)
    other.put("fifth", "5")
    assert other.back_up(target=files.backups).kind == "incremental"
    other.put("fifth", "6")
    other.pack(dt.datetime.now(dt.UTC).timestamp() + 1)
    assert other.back_up(target=files.backups).kind == "full"


def test_an_image_that_was_copied_by_hand(files: ImageFiles) -> None:
    """Without its id it is the same where it continues the last backup; else the refusal says how to say so."""
    files.back_up()
    known = image_id(files.folder)
    (files.folder / IMAGE_ID).unlink()
    files.put("fourth", "4")
    assert files.back_up().kind == "incremental"
    assert image_id(files.folder) == known
    (files.folder / IMAGE_ID).unlink()
    files.put("fourth", "5")
    files.pack(dt.datetime.now(dt.UTC).timestamp() + 1)
    with pytest.raises(CareError, match=f"if it is the same, say so: echo {known} > {files.folder / IMAGE_ID}"):
        files.back_up()


def test_backups_that_do_not_say_of_which_image(files: ImageFiles) -> None:
    """Those of earlier versions are restored, continued, and no others to those that say so."""
    old = files.back_up().name
    rewrite(files, old, image="")
    (files.folder / IMAGE_ID).unlink()
    assert files.restored("other")[1].name == old
    files.put("fourth", "4")
    made = files.back_up()
    assert made.kind == "incremental"
    assert files.restored("later")[1].name == made.name


def test_an_old_backup_among_newer_ones(files: ImageFiles) -> None:
    """It does not say of which image it is, they do: what is restored from it is the same and goes on there."""
    old = files.back_up()
    rewrite(files, old.name, image="")
    (files.folder / IMAGE_ID).unlink()
    files.put("fourth", "4")
    files.back_up()
    other, restored = files.restored("other", old.tid)
    assert (restored.name, image_id(other.folder)) == (old.name, image_id(files.folder))
    other.put("fifth", "5")
    other.back_up(target=files.backups)


def test_a_folder_with_two_images(files: ImageFiles) -> None:
    """What somebody put together: nothing is restored before it is said of which image."""
    mine = files.back_up()
    other = another(files)
    theirs = other.back_up(target=files.home.parent / "its own")
    shutil.copytree(files.home.parent / "its own", files.backups, dirs_exist_ok=True)
    ids = image_id(files.folder), image_id(other.folder)
    with pytest.raises(CareError, match=r"backups of 2 images.*--image") as caught:
        files.restored("new")
    assert all(name in str(caught.value) for name in ids)
    for number, (name, made) in enumerate(zip(ids, (mine, theirs), strict=True)):
        into = files.home.parent / f"new-{number}" / "image"
        assert restore(files.backups, into, "", untold, of_image=name).root_hash == made.root_hash
    with pytest.raises(CareError, match="no backup of the image"):
        restore(files.backups, files.home.parent / "new" / "image", "", untold, of_image="f" * 32)
    with pytest.raises(CareError, match="backups of another image"):
        files.back_up()


@pytest.mark.parametrize("how", ["link", "dangling", "mount"])
def test_places_that_no_folder_can_take(files: ImageFiles, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A symbolic link or a mount point where the image's folder would be: said before anything is read."""
    files.back_up()
    image = files.home.parent / "other" / "image"
    if how == "mount":
        image.mkdir(parents=True)
        monkeypatch.setattr(Path, "is_mount", lambda path: path == image)
    else:
        image.parent.mkdir()
        image.symlink_to(files.home.parent if how == "link" else "nowhere")
    with pytest.raises(CareError, match="symbolic link" if how != "mount" else "mount point") as caught:
        files.restored("other")
    assert caught.value.code == "image_place"
    assert [path.name for path in image.parent.iterdir()] == ["image"]


def test_one_restore_at_a_time(files: ImageFiles) -> None:
    """A second one into the same home is refused and leaves the first one's work alone; what a kill left goes."""
    files.back_up()
    home = files.home.parent / "other"
    (home / ".image-restore").mkdir(parents=True)
    (home / ".image-restore" / "half").write_bytes(b"half")
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(CareError, match="another restore") as caught:
            files.restored("other")
        assert caught.value.code == "restore_runs"
        assert (home / ".image-restore" / "half").exists()
    finally:
        os.close(descriptor)
    files.restored("other")
    assert [path.name for path in home.iterdir()] == ["image"]
