"""Backups and what is made of them: whole or not at all, and the same to the last byte. No sockets, no server."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from image_files import ImageFiles
from zc.lockfile import LockFile  # type: ignore[import-untyped]

from batos.image import backup as backup_module
from batos.image.backup import Snapshot, back_up
from batos.image.backup_folder import found_in
from batos.image.errors import CareError
from batos.image.manifest import DATA, MANIFEST, SUMS
from batos.image.records import RootHash, open_at, records, root_hash
from batos.image.reporting import untold
from batos.uvm import open_image

LENGTH_IN_RECORD = 34
"""Where in a record of a FileStorage its length stands."""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def hash_of(files: ImageFiles) -> str:
    """Read a root hash without any of the code that makes backups."""
    storage = open_at(files.folder)
    try:
        return root_hash(
            records(storage), lambda oid, tid: hashlib.sha256(Path(storage.loadBlob(oid, tid)).read_bytes()).hexdigest()
        ).hexdigest()
    finally:
        storage.close()


def test_full_then_incremental_then_nothing(files: ImageFiles) -> None:
    """The first backup is full, the next ones hold what is new alone, and none is made where nothing is."""
    first = files.back_up()
    assert (first.kind, first.blobs_written, first.blob_bytes_written) == ("full", 1, 5000)
    assert files.back_up().kind == "unchanged"
    size = files.file.stat().st_size
    files.put("fourth", "4")
    files.put_blob("fifth", b"5" * 700)
    second = files.back_up()
    assert (second.kind, second.blobs, second.blobs_written, second.blob_bytes_written) == ("incremental", 2, 1, 700)
    assert second.bytes_written == files.file.stat().st_size - size
    assert names(files.backups) == [first.name, second.name, "blobs"]
    assert (second.tid, second.root_hash) == (files.snapshot().tid, hash_of(files))


def test_restored_is_the_same(files: ImageFiles) -> None:
    """What is restored from a full backup and two that continue it has the same objects, blobs and root hash."""
    files.back_up()
    files.put_blob("fourth", b"4" * 100)
    files.back_up()
    files.change(lambda root: root["things"].__delitem__("first"))
    made = files.back_up()
    other, restored = files.restored("other")
    assert restored.compared
    assert restored.root_hash == made.root_hash == hash_of(files) == hash_of(other)
    assert restored.blobs == 2
    assert other.texts() == files.texts() == {"second": "the second one", "third": "third", "fourth": "fourth"}
    assert names(other.home) == ["image"]
    assert other.put("fifth", "5") > made.tid


@pytest.mark.parametrize("how", ["tid", "time"])
def test_restored_as_of_a_moment(files: ImageFiles, how: str) -> None:
    """An earlier transaction, or a time, between two backups: what came later is not there, its blobs neither."""
    files.back_up()
    tid = files.put("fourth", "4")
    when = dt.datetime.now(dt.UTC).isoformat()
    files.put_blob("fifth", b"5" * 100)
    files.back_up()
    other, restored = files.restored("other", tid if how == "tid" else when)
    assert set(other.texts()) == {"first", "second", "third", "fourth"}
    assert (restored.blobs, restored.compared) == (1, False)
    assert other.snapshot().tid == tid
    assert other.verify().faults_found == 0


def test_moments_that_cannot_be_had(files: ImageFiles) -> None:
    """Beyond the newest backup, before the beginning, packed away, or no moment: each is said, nothing is left."""
    first = files.put("fourth", "4")
    files.put("fourth", "five")
    when = dt.datetime.now(dt.UTC).timestamp()
    files.put("fourth", "six")
    files.pack(when)
    files.back_up()
    late = files.put("fifth", "5")
    for moment, code in {
        late: "moment_unknown",
        "0" * 15 + "1": "moment_packed",
        first: "moment_packed",
        "yesterday": "moment_invalid",
        "2026-01-31T12:00:00": "moment_invalid",
        "x" * 16: "moment_invalid",
        "0x" + late[2:]: "moment_invalid",
        "04_0" + late[4:]: "moment_invalid",
        "2999-01-01T00:00:00+00:00": "moment_unknown",
        "9999-12-31T00:00:00+00:00": "moment_unknown",
    }.items():
        with pytest.raises(CareError) as caught:
            files.restored("other", moment)
        assert caught.value.code == code, caught.value
    assert not list((files.home.parent / "other").iterdir())
    now = dt.datetime.now(dt.UTC).isoformat()
    assert set(files.restored("other", now)[0].texts()) == {
        "first",
        "second",
        "third",
        "fourth",
    }


def test_before_the_image_began(files: ImageFiles) -> None:
    """A moment before the first transaction is refused."""
    files.back_up()
    with pytest.raises(CareError, match="had not begun") as caught:
        files.restored("other", "2001-01-01T00:00:00+00:00")
    assert caught.value.code == "moment_unknown"


def test_a_home_with_an_image_is_left_alone(files: ImageFiles) -> None:
    """Restoring over an image is refused with a sentence, and the image is as it was."""
    files.back_up()
    before = files.file.read_bytes()
    with pytest.raises(CareError, match=r"has an image already.*another home") as caught:
        files.restored("home")
    assert caught.value.code == "image_exists"
    assert files.file.read_bytes() == before


def test_after_a_pack_everything_moves(files: ImageFiles) -> None:
    """A backup cannot continue one from before a pack: a full one is made and says why; blobs are not copied again."""
    files.back_up()
    files.change(lambda root: setattr(root["things"]["first"], "text", "another first"))
    before = files.back_up()
    assert files.pack(dt.datetime.now(dt.UTC).timestamp()).bytes_after < files.file.stat().st_size + 1
    after = files.back_up()
    assert after.kind == "full"
    assert "packed" in after.why
    assert after.blobs_written == 0
    assert after.root_hash == before.root_hash
    assert files.restored("other")[1].root_hash == before.root_hash


@pytest.mark.parametrize("what", [DATA, MANIFEST, "blob"])
def test_damaged_backups_are_not_restored(files: ImageFiles, what: str) -> None:
    """One byte of the data, the manifest or a blob is another: refused before anything is written."""
    name = files.back_up().name
    path = files.backups / name / what
    if what == "blob":
        (path,) = (path for path in (files.backups / "blobs").rglob("*") if path.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CareError, match="is damaged") as caught:
        files.restored("other")
    assert caught.value.code == "backup_damaged"
    assert str(path) in str(caught.value)
    assert names(files.home.parent) == ["backups", "home"]


@pytest.mark.parametrize("what", [DATA, "folder", "blob"])
def test_incomplete_backups_are_not_restored(files: ImageFiles, what: str) -> None:
    """A piece of the chain or a blob that is missing is named; the next backup does not build on it."""
    first = files.back_up().name
    files.put("fourth", "4")
    files.back_up()
    if what == "blob":
        next(path for path in (files.backups / "blobs").rglob("*") if path.is_file()).unlink()
    else:
        path = files.backups / first
        path.rename(files.home.parent / "away") if what == "folder" else (path / DATA).unlink()
    with pytest.raises(CareError, match="missing") as caught:
        files.restored("other")
    assert caught.value.code in {"backup_damaged", "backup_incomplete"}
    files.put("fifth", "5")
    assert files.back_up().kind == ("incremental" if what == "blob" else "full")
    assert files.restored("other")[1].compared


def test_sums_are_those_of_sha256sum(files: ImageFiles) -> None:
    """Every backup can be checked without this program."""
    folder = files.backups / files.back_up().name
    for line in (folder / SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_what_was_cut_off_is_no_backup(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that fails half way leaves nothing behind, one that was killed is taken away by the next."""
    first = files.back_up()
    files.put_blob("fourth", b"4" * 1000)
    (files.backups / ".partial-killed").mkdir()
    (files.backups / ".partial-killed" / DATA).write_bytes(b"half")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CareError, match=r"no room left.*nothing was added") as caught:
        files.back_up()
    assert caught.value.code == "disk_full"
    monkeypatch.undo()
    assert list(found_in(files.backups).known) == [first.name]
    assert files.back_up().kind == "incremental"
    assert not list(files.backups.glob(".partial*"))
    assert files.restored("other")[1].compared


def test_a_restore_that_fails_leaves_nothing(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half image where there is no room; the sentence says so."""
    files.back_up()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CareError, match="no room left") as caught:
        files.restored("other")
    assert caught.value.code == "disk_full"
    assert not list((files.home.parent / "other").iterdir())


def test_a_missing_blob_is_told(files: ImageFiles) -> None:
    """The backup is made all the same: it holds all that is there, and names what is not."""
    files.blob().unlink()
    made = files.back_up()
    assert len(made.missing) == 1
    assert "are missing" in made.missing[0]
    assert set(files.restored("other")[0].texts()) == {"first", "second", "third"}


def test_a_full_backup_reads_blobs_again(files: ImageFiles) -> None:
    """A blob that rotted since the last backup is named, and the right bytes are kept."""
    files.back_up()
    blob = files.blob()
    blob.chmod(0o600)
    blob.write_bytes(b"r" * 5000)
    files.put("fourth", "4")
    made = files.back_up(full=True)
    assert made.missing
    assert "another hash" in made.missing[0]
    assert files.restored("other")[0].blob().read_bytes() == b"b" * 5000


def test_a_damaged_record_is_no_backup(files: ImageFiles) -> None:
    """What cannot be read cannot be backed up: the sentence names the command that finds out more."""
    files.back_up()
    files.put("fourth", "a place to damage")
    storage = open_at(files.folder)
    place = max(storage._index.values())
    storage.close()
    with files.file.open("r+b") as file:
        file.seek(place + LENGTH_IN_RECORD)
        file.write(b"\xff" * 8)
    snapshot = Snapshot(files.folder, "7" + "f" * 15, files.file.stat().st_size)
    with pytest.raises(CareError, match="batos image verify"):
        back_up(snapshot, files.backups, full=False, tell=untold)


def test_backups_where_the_clock_was_set_back(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups follow one another by their transactions, whatever their names say: so are they continued and chosen."""
    noon, clock = time.time(), [0.0]

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Clock:
            return cls.fromtimestamp(clock[0], tz)

    monkeypatch.setattr(time, "time", lambda: clock[0])
    monkeypatch.setattr(backup_module, "dt", SimpleNamespace(datetime=Clock, UTC=dt.UTC))
    made, texts = [], []
    for number, behind_s in enumerate((0, 86_400, 2 * 86_400, 86_400 - 60)):
        clock[0] = noon - behind_s + 1
        files.put_blob("fourth", bytes([number]) * 1000)
        files.put("first", f"text {number}")
        made.append(files.back_up())
        texts.append(files.texts())
    assert [one.kind for one in made] == ["full", *["incremental"] * 3]
    assert list(found_in(files.backups).known) == [one.name for one in made] != sorted(one.name for one in made)
    assert files.back_up().kind == "unchanged"
    other, restored = files.restored("other")
    assert (restored.name, other.texts(), hash_of(other)) == (made[-1].name, texts[-1], hash_of(files))
    for number, one in enumerate(made):
        home, restored = files.restored(f"home-{number}", one.tid)
        assert (restored.name, restored.compared) == (one.name, True)
        assert home.texts() == texts[number]
    clock[0] = noon + 3
    moment = dt.datetime.fromtimestamp(noon - 3600, dt.UTC).isoformat()
    with pytest.raises(CareError, match="had not begun"):
        files.restored("hours that were there twice", moment)
    after = dt.datetime.fromtimestamp(noon + 2, dt.UTC).isoformat()
    assert files.restored("after", after)[0].texts() == texts[-1]


def test_two_at_once(files: ImageFiles) -> None:
    """A folder takes one backup at a time."""
    files.back_up()
    lock = LockFile(str(files.backups / ".lock"))
    try:
        with pytest.raises(CareError, match="another backup") as caught:
            files.back_up()
        assert caught.value.code == "backup_runs"
    finally:
        lock.close()


def test_only_committed_bytes_are_kept(files: ImageFiles) -> None:
    """What was committed after the fixed position, and what is being written behind it, is not in the backup."""
    snapshot = files.snapshot()
    files.put_blob("later", b"l" * 10)
    with files.file.open("ab") as file:
        file.write(b"half a transaction")
    made = back_up(snapshot, files.backups, full=False, tell=untold)
    assert (made.tid, made.blobs) == (snapshot.tid, 1)
    other, _ = files.restored("other")
    assert set(other.texts()) == {"first", "second", "third"}


def test_where_there_is_no_backup(files: ImageFiles) -> None:
    """An empty folder, or none, is said."""
    files.backups.mkdir()
    with pytest.raises(CareError, match="there is no backup"):
        files.restored("other")
    files.backups.rmdir()
    with pytest.raises(CareError, match="cannot be read"):
        files.restored("other")


def test_root_hash_sees_everything(files: ImageFiles) -> None:
    """Another byte of data, another blob, a blob that is missing: each is another hash; packing changes nothing."""
    before = hash_of(files)
    same = RootHash(lambda _oid, _tid: None)
    assert same.hexdigest() != before
    files.pack(dt.datetime.now(dt.UTC).timestamp())
    assert hash_of(files) == before
    with open_image(files.uri) as image, image.transaction() as root, root["things"]["third"].blob.open("w") as blob:
        blob.write(b"c")
    assert hash_of(files) != before


def test_a_clock_that_jumps_back(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups are ordered by what they hold, not by when they say they were made."""

    class Yesterday(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) - dt.timedelta(days=1)

    first = files.back_up()
    files.put("fourth", "4")
    monkeypatch.setattr(backup_module, "dt", SimpleNamespace(datetime=Yesterday, UTC=dt.UTC))
    second = files.back_up()
    assert second.name < first.name
    assert list(found_in(files.backups).known) == [first.name, second.name]
    files.put("fifth", "5")
    assert files.back_up().kind == "incremental"
    assert set(files.restored("other")[0].texts()) == {"first", "second", "third", "fourth", "fifth"}
