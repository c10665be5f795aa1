"""How far packing goes, what it gives back, what it never touches. No sockets, no server."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from image_files import ImageFiles
from persistent.TimeStamp import TimeStamp

from batos.image.errors import CareError
from batos.image.known_hashes import known_hashes
from batos.image.packing import DAY_S, Horizon, horizon, pack
from batos.image.pins import pin, pins, unpin
from batos.image.records import BlobFolder
from batos.image.reporting import EVERY_S, Reporter
from batos.image.storage import open_storage, swap_in
from batos.protocol import PinView, Progress
from batos.uvm import NoSuchMoment, note_packed, open_image

NOW = 1_800_000_000.0


def view(name: str, at: float) -> PinView:
    when = dt.datetime.fromtimestamp(at, dt.UTC)
    stamp = TimeStamp(when.year, when.month, when.day, when.hour, when.minute, when.second + when.microsecond / 1e6)
    return PinView(name=name, tid=bytes(stamp.raw()).hex(), reason="", by="", at=at)


def test_the_horizon_stays_at_the_oldest_pin() -> None:
    """So many days back; not past a pin that is older; one that is younger does not matter."""
    assert horizon(30, [], NOW).at == NOW - 30 * DAY_S
    assert horizon(30, [view("young", NOW - DAY_S)], NOW).held_by == ""
    held = horizon(1, [view("a", NOW - 5 * DAY_S), view("b", NOW - 9 * DAY_S), view("c", NOW)], NOW)
    assert held.held_by == "b"
    assert NOW - 9 * DAY_S - 0.01 < held.at < NOW - 9 * DAY_S
    assert horizon(36_500, [], NOW).at == DAY_S


def test_what_changed_before_is_given_back(files: ImageFiles) -> None:
    """Former states and objects that nothing leads to go, blobs too; all that stands there stays."""
    files.change(lambda root: root["things"].__delitem__("third"))
    for number in range(5):
        files.change(lambda root, number=number: setattr(root["things"]["first"], "text", f"{number}" * 1000))
    files.back_up()
    before = files.texts()
    packed = files.pack(time.time())
    assert packed.bytes_after == files.file.stat().st_size < packed.bytes_before - 4000
    assert (packed.blob_bytes_before, packed.blob_bytes_after) == (5000, 0)
    assert packed.objects_before - packed.objects_after == 2
    assert files.texts() == before
    assert files.verify().faults_found == 0
    assert not list(files.folder.glob("*.pack"))
    assert not list(files.folder.glob("*.old"))


def test_nothing_is_older(files: ImageFiles) -> None:
    """Where the horizon lies before everything, or all is current, nothing is given back, and that is no error."""
    size = files.file.stat().st_size
    packed = files.pack(DAY_S)
    assert (packed.bytes_before, packed.bytes_after) == (size, size)
    files.pack(time.time())
    again = files.pack(time.time())
    assert again.bytes_before == again.bytes_after


def test_a_pinned_moment_can_be_looked_at_after_a_pack(files: ImageFiles) -> None:
    """A pin keeps its moment to the transaction; without it the moment is gone."""
    texts = [f"{number}" for number in range(4)]
    tids = [files.change(lambda root, text=text: setattr(root["things"]["first"], "text", text)) for text in texts]
    with open_image(files.uri) as image:
        pin(image, "kept", tids[1], reason="a test", by="architect")
        with image.snapshot() as root:
            found = pins(root)
        assert [(one.name, one.tid, one.reason, one.by) for one in found] == [("kept", tids[1], "a test", "architect")]
    files.pack(horizon(0, found, time.time()).at)
    with open_image(files.uri) as image:
        for tid, text in zip(tids[1:], texts[1:], strict=True):
            with image.at(tid) as root:
                assert root["things"]["first"].text == text
        unpin(image, "kept")
    files.pack(time.time())
    with open_image(files.uri) as image, pytest.raises((NoSuchMoment, KeyError)), image.at(tids[1]) as root:
        assert root["things"]["first"].text == "1"


def test_pins(files: ImageFiles) -> None:
    """The same pin twice is one; a name has one moment; a moment must be there; what is unknown is said."""
    with open_image(files.uri) as image:
        pin(image, "now", "", reason="", by="a")
        first = image.last_tid()
        pin(image, "then", dt.datetime.now(dt.UTC).isoformat(), reason="", by="a")
        with image.snapshot() as root:
            found = {one.name: one.tid for one in pins(root)}
        assert found["then"] == first
        pin(image, "now", found["now"], reason="other words", by="b")
        pin(image, "now", found["now"].upper(), reason="other words", by="b")
        for name, moment, code in (
            ("now", found["then"], "pin_taken"),
            ("x", "f" * 16, "moment_unknown"),
            ("x", "soon", "moment_invalid"),
            ("x", f"0x{first[2:]}", "moment_invalid"),
            ("x", "2300-01-01T00:00:00+00:00", "moment_unknown"),
        ):
            with pytest.raises(CareError) as caught:
                pin(image, name, moment, reason="", by="")
            assert caught.value.code == code
        unpin(image, "now")
        with pytest.raises(CareError, match="there is no pin 'now'"):
            unpin(image, "now")
        with image.snapshot() as root:
            assert [one.name for one in pins(root)] == ["then"]


def test_what_can_still_be_looked_at_is_said(files: ImageFiles) -> None:
    """The newest transaction up to the horizon: its state stays whole, whoever lets the image know what it is told."""
    tids = [files.put("first", f"{number}") for number in range(3)]
    when = time.time()
    later = files.put("first", "later")
    packed = files.pack(when)
    assert packed.earliest == tids[-1]
    with open_image(files.uri) as image:
        image.run(lambda root: note_packed(root, packed.earliest))
        for tid, text in ((tids[-1], "2"), (later, "later")):
            with image.at(tid) as root:
                assert root["things"]["first"].text == text
        for tid in tids[:-1]:
            with pytest.raises(NoSuchMoment, match="packed away"), image.at(tid):
                pass
    assert files.pack(when).earliest == "", "the second pack up to there does nothing"
    assert files.pack(DAY_S).earliest == ""
    assert files.pack(time.time()).earliest == files.snapshot().tid


def test_packing_where_the_clock_was_set_back(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days are counted by the clock: it keeps more then, never less; pins hold their transaction among its neighbours.

    What was committed since the jump is packed once the clock has come to where it was.
    """
    noon = time.time()
    before = files.put("first", "before")
    clock = [noon - DAY_S]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    tids = [files.put("first", f"{number}") for number in range(6)]
    assert [before, *tids] == sorted({before, *tids})
    with open_image(files.uri) as image:
        pin(image, "kept", tids[2], reason="", by="")
        newest = image.last_tid()
        pin(image, "now", "", reason="", by="")
        with image.snapshot() as root:
            found = pins(root)
        assert [(one.name, one.tid) for one in found] == [("kept", tids[2]), ("now", newest)]
    texts = files.texts()

    files.pack(horizon(0, (), time.time()).at)
    assert readable(files, [before, *tids]) == [before, *tids]
    clock[0] = noon + 10 * DAY_S
    held = horizon(1, found, time.time())
    assert held.held_by == "kept"
    files.pack(held.at)
    assert set(tids[2:]) <= set(readable(files, tids))
    packed = files.pack(horizon(1, (), time.time()).at)
    assert packed.bytes_after < packed.bytes_before
    assert readable(files, [before, *tids]) == []
    assert files.texts() == texts
    assert files.verify().faults_found == 0


def readable(files: ImageFiles, tids: Iterable[str]) -> list[str]:
    """Return those transactions as of which the object that all of them wrote can be read."""
    found = []
    with open_image(files.uri) as image:
        for tid in tids:
            with contextlib.suppress(NoSuchMoment), image.at(tid) as root:
                assert root["things"]["first"].text
                found.append(tid)
    return found


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_while_packing(files: ImageFiles) -> None:
    """The sentence says what is wrong and what helps; everything is as it was, and packing works once there is room."""
    for number in range(20):
        files.put(f"n{number}", f"{number}" * 500)
    files.change(lambda root: setattr(root["things"]["first"], "text", "new"))
    files.back_up()
    content, texts = files.file.read_bytes(), files.texts()
    with small_files(6000), pytest.raises(CareError, match=r"no room left.*batos image pack") as caught:
        files.pack(time.time())
    assert caught.value.code == "disk_full"
    assert files.file.read_bytes() == content
    assert not list(files.folder.glob("*.pack"))
    assert files.texts() == texts
    assert files.pack(time.time()).bytes_after < len(content)
    assert files.verify().faults_found == 0


def test_a_pack_that_gives_nothing_back_changes_nothing(files: ImageFiles) -> None:
    """Neither what is known of the file's bytes nor what the image is told; a pack that fails does not either."""
    files.back_up()
    known = known_hashes(files.folder)
    assert files.pack(DAY_S).earliest == ""
    with small_files(10), pytest.raises(CareError, match=r"no room left.*nothing was packed"):
        files.pack(time.time())
    assert known_hashes(files.folder) == known
    assert files.verify().bytes_compared == files.file.stat().st_size
    assert swap_in(files.folder).owed() == ""
    assert [path.name for path in files.folder.iterdir() if path.name.startswith(".")] == []


def test_no_room_for_what_is_written_before_the_file_moves(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was packed, nobody is kept from committing, and the next pack does it."""
    content = files.file.read_bytes()
    storage = open_storage(files.folder)
    try:
        with monkeypatch.context() as patched:
            patched.setattr("batos.image.swap.forget_file", no_room)
            with pytest.raises(CareError, match="nothing was packed") as caught:
                pack(storage, files.folder, Horizon(time.time()))
        assert caught.value.code == "disk_full"
        assert files.file.read_bytes() == content
        assert storage._commit_lock.acquire(blocking=False)
        storage._commit_lock.release()
        assert pack(storage, files.folder, Horizon(time.time())).bytes_after < len(content)
    finally:
        storage.close()
    assert files.verify().faults_found == 0


def no_room(_folder: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_blob_that_cannot_be_taken_away(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is packed, and that is said; the next pack, or the next start, takes the rest away."""
    files.change(lambda root: root["things"].__delitem__("third"))
    before = files.file.stat().st_size
    for finishes in ("pack", "start"):
        storage = open_storage(files.folder)
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules["ZODB.FileStorage.FileStorage"], "remove_committed_dir", refused)
            with pytest.raises(CareError, match="was packed, but") as caught:
                pack(storage, files.folder, Horizon(time.time()))
        assert caught.value.code == "pack_unfinished"
        assert files.file.stat().st_size < before
        assert (swap_in(files.folder).owed() != "", files.blob().exists()) == (True, True)
        if finishes == "pack":
            pack(storage, files.folder, Horizon(time.time()))
        storage.close()
        open_storage(files.folder).close()
        assert not list(files.folder.rglob("*.blob"))
        assert not swap_in(files.folder).old.exists()
        assert files.verify().faults_found == 0
        files.put_blob("third", b"b" * 5000)
        files.change(lambda root: root["things"].__delitem__("third"))


def refused(_path: str) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted", "it")


def test_an_old_file_that_no_pack_left(files: ImageFiles, caplog: pytest.LogCaptureFixture) -> None:
    """A start leaves it alone and says so, and takes away no blob that is on the list of a pack that failed."""
    swap = swap_in(files.folder)
    content = files.file.read_bytes()
    swap.old.write_bytes(content)
    (blob,) = BlobFolder(files.folder)
    listed = files.folder / "blobs" / ".removed"
    listed.write_text(f"{(blob.oid + blob.tid).hex()}\n")
    open_storage(files.folder).close()
    assert (swap.old.read_bytes(), blob.path.exists(), listed.exists()) == (content, True, False)
    assert f"{swap.old} is of no pack that was cut off" in caplog.text
    assert files.verify().faults_found == 0


def test_a_pack_is_marked_until_it_is_done(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the image knows of it before its blobs could be taken away: a later start still does that."""
    files.change(lambda root: root["things"].__delitem__("third"))
    swap = swap_in(files.folder)
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["ZODB.FileStorage.FileStorage"], "remove_committed_dir", refused)
        with pytest.raises(CareError, match="was packed, but"):
            files.pack(time.time())
    swap.noted()
    assert swap.is_unfinished
    open_storage(files.folder).close()
    assert not swap.old.exists()
    assert not list(files.folder.rglob("*.blob"))
    swap.noted()
    assert swap.owed() == ""


def test_a_file_that_cannot_be_moved(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two fails: it is said how it stands, nothing is lost, and the next start has everything."""
    texts, size, rename = files.texts(), files.file.stat().st_size, os.rename
    for failing, said in ((files.file, "nothing was packed"), (swap_in(files.folder).packed, "batos up")):
        storage = open_storage(files.folder)

        def move(source: str, target: str, failing: Path = failing) -> None:
            if str(source) == str(failing):
                raise OSError(errno.EIO, "Input/output error")
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", move)
            with pytest.raises(CareError, match=said):
                pack(storage, files.folder, Horizon(time.time()))
        with contextlib.suppress(ValueError):  # its file is closed
            storage.close()
        open_storage(files.folder).close()
        assert files.file.stat().st_size == size
        assert swap_in(files.folder).owed() == ""
        assert files.texts() == texts


def test_progress_is_told_now_and_then() -> None:
    """At every new stage at once, within one some times a second, with the share where the end is known."""
    said: list[Progress] = []
    now = [0.0]
    tell = Reporter("verify", "r1", said.append, clock=lambda: now[0])
    tell("reading", 1, 4)
    tell("reading", 2, 4)
    now[0] += EVERY_S
    tell("reading", 3, 4)
    tell("comparing", None, None)
    assert [(one.stage, one.fraction) for one in said] == [("reading", 0.25), ("reading", 0.75), ("comparing", None)]
    assert (said[0].what, said[0].id, said[0].detail) == ("verify", "r1", "1 of 4")
