"""Opening, transactions, sessions, the past."""

from __future__ import annotations

import datetime as dt
import gc
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from BTrees.OOBTree import OOBTree
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError, ReadConflictError

from batos.uvm import (
    CommitFateUnknown,
    Contention,
    Image,
    ImageInUse,
    ImageUnreachable,
    ImageUnusable,
    NoImageYet,
    NoSuchMoment,
    ReadOnly,
    Root,
    Session,
    SessionMisuse,
    Transient,
    UvmObject,
    changes_of,
    note_packed,
    open_image,
    place_at,
    read_blob,
    seen_tid,
    store_blob,
    tid_at,
)


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    """Retries do not wait in unit tests; their number stays the callers'."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def test_an_empty_storage_gets_an_empty_lobby(uri: str) -> None:
    """Opening twice makes it once."""
    with open_image(uri) as image, image.snapshot() as root:
        oid = root["lobby"]._p_oid
        assert isinstance(root["lobby"], UvmObject)
    with open_image(uri) as image, image.snapshot() as root:
        assert root["lobby"]._p_oid == oid


def test_an_exception_in_a_transaction_leaves_nothing_behind(image: Image) -> None:
    """Aborted on an exception, which goes on."""

    def fail(root: Root) -> None:
        root["lobby"].x = 1
        raise KeyError("x")

    with pytest.raises(KeyError), image.transaction() as root:
        fail(root)
    with image.snapshot() as root:
        assert not hasattr(root["lobby"], "x")


def test_a_snapshot_refuses_changes_and_stays_clean(image: Image) -> None:
    """The error names the object; nothing of the attempt stays in memory."""
    with image.transaction() as root:
        root["lobby"].notes = [1]
        root["lobby"].tree = OOBTree({"a": 1})
    for _ in range(2):
        with image.snapshot() as root:
            assert root["lobby"].notes == [1]
            assert dict(root["lobby"].tree) == {"a": 1}
            with pytest.raises(ReadOnly, match=r"^lobby cannot be changed here"):
                root["lobby"].x = 1
            with pytest.raises(ReadOnly, match=r"^lobby\.notes cannot"):
                root["lobby"].notes.append(2)
            with pytest.raises(ReadOnly):
                root["lobby"].tree["b"] = 2
            with pytest.raises(ReadOnly, match=r"^root cannot"):
                root["more"] = UvmObject()
    with image.transaction() as root:
        root["lobby"].x = 1
        assert root["lobby"].notes == [1]


def test_a_transaction_says_who_did_what_for_which_mission(image: Image) -> None:
    """User, note, cycle and mission stand in the storage beside what was changed."""
    with image.transaction(user="architect", note="a test", cycle="c1", mission="m1") as root:
        root["lobby"].x = 1
    latest = image._database.undoLog(0, 1)[0]
    assert (latest["user_name"], latest["description"]) == ("architect", "a test")
    assert (latest["cycle"], latest["mission"]) == ("c1", "m1")


def test_a_commit_returns_its_tid(session: Session, image: Image) -> None:
    """16 hexadecimal digits; the snapshot that follows is that tid; a commit of nothing is the snapshot's."""
    root = session.begin()
    before = session.snapshot_tid
    assert before == image.last_tid()
    assert session.commit() == before
    root = session.begin()
    root["lobby"].x = 1
    tid = session.commit()
    assert (len(tid), int(tid, 16) > int(before, 16)) == (16, True)
    assert tid == image.last_tid()
    session.begin()
    assert session.snapshot_tid == tid


def test_a_snapshot_does_not_see_what_is_committed_later(session: Session, image: Image) -> None:
    """One transaction, one state."""
    lobby = session.begin()["lobby"]
    with image.transaction() as root:
        root["lobby"].x = 1
    assert not hasattr(lobby, "x")
    session.abort()
    assert session.begin()["lobby"].x == 1


def test_a_doomed_transaction_cannot_be_committed(session: Session) -> None:
    """It leaves nothing, and the session can go on."""
    session.begin()["lobby"].x = 1
    session.doom()
    assert session.doomed
    with pytest.raises(SessionMisuse, match="doomed"):
        session.commit()
    lobby = session.begin()["lobby"]
    assert not hasattr(lobby, "x")
    assert not session.doomed


def test_two_who_write_one_object_conflict(image: Image) -> None:
    """The second one's commit fails, and its session can begin again."""
    with image.session() as first, image.session() as second:
        first.begin()["lobby"].x = 1
        second.begin()["lobby"].x = 2
        first.commit()
        with pytest.raises(ConflictError):
            second.commit()
        assert second.begin()["lobby"].x == 1


def test_what_was_declared_as_read_must_still_be_current(image: Image) -> None:
    """`read_current` also works on an object that is not loaded yet."""
    with image.transaction() as root:
        root["lobby"].mission = UvmObject(owner="a")
        root["lobby"].note = UvmObject()
    for interfere in (False, True):
        with image.session() as session:
            lobby = session.begin()["lobby"]
            lobby.mission._p_deactivate()
            session.read_current(lobby.mission)
            lobby.note.text = str(interfere)
            if interfere:
                with image.transaction() as root:
                    root["lobby"].mission.owner = "b"
                with pytest.raises(ReadConflictError):
                    session.commit()
            else:
                session.commit()


def test_two_commits_cannot_close_a_cycle_of_parents_together(image: Image) -> None:
    """Each alone is fine; the second one conflicts."""
    with image.transaction() as root:
        root["lobby"].a, root["lobby"].b = UvmObject(), UvmObject()
    with image.session() as first, image.session() as second:
        one, two = first.begin()["lobby"], second.begin()["lobby"]
        one.a.parents = [one.b]
        two.b.parents = [two.a]
        first.commit()
        with pytest.raises(ConflictError):
            second.commit()


def test_run_tries_again_until_it_is_through(image: Image) -> None:
    """Each attempt sees what the others did."""
    tries: list[int] = []

    def count(root: Root) -> int:
        tries.append(1)
        root["lobby"].n = getattr(root["lobby"], "n", 0) + 1
        if len(tries) < 3:
            with image.transaction() as other:
                other["lobby"].n = getattr(other["lobby"], "n", 0) + 10
        return int(root["lobby"].n)

    assert image.run(count, note="count") == 21
    assert len(tries) == 3


def test_run_gives_up_with_an_error_that_can_be_tried_again(image: Image) -> None:
    """Bounded in number; the error says what was tried how often."""

    def always_late(root: Root) -> None:
        root["lobby"].n = 0
        with image.transaction() as other:
            other["lobby"].n = 1

    with pytest.raises(Contention, match="a race met a conflict in each of 4 attempts") as caught:
        image.run(always_late, note="a race", attempts=4)
    assert isinstance(caught.value, Transient)
    assert caught.value.attempts == 4


def test_run_does_not_retry_other_errors(image: Image) -> None:
    """An error of the work itself goes straight through."""
    tries = []

    def broken(_root: Root) -> None:
        tries.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        image.run(broken)
    assert tries == [1]


def test_the_past_can_be_read_by_tid_and_by_time(image: Image) -> None:
    """Whatever happened since, and read only."""
    with image.session() as session:
        tids = []
        for number in range(3):
            session.begin()["lobby"].n = number
            tids.append(session.commit())
    for number, tid in enumerate(tids):
        with image.at(tid) as root:
            assert root["lobby"].n == number
            with pytest.raises(ReadOnly):
                root["lobby"].n = 7
    with image.at(dt.datetime.now(dt.UTC)) as root:
        assert root["lobby"].n == 2


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        ("7fffffffffffffff", "future"),
        ("0000000000000001", "had not begun"),
        (dt.datetime(2001, 1, 1, tzinfo=dt.UTC), "had not begun"),
        (dt.datetime(2001, 1, 1), "time zone"),  # noqa: DTZ001 - that is the point
        (dt.datetime(1000, 1, 1, tzinfo=dt.UTC), "no transaction can have that time"),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))), "no transaction can have that time"),
        (
            dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=14))),
            "no transaction can have that time",
        ),
        ("yesterday", "16 hexadecimal digits"),
        ("-000000000000001", "16 hexadecimal digits"),
        ("", "16 hexadecimal digits"),
    ],
)
def test_a_moment_that_does_not_exist_is_refused(image: Image, moment: Any, why: str) -> None:
    """The error says why."""
    with pytest.raises(NoSuchMoment, match=why), image.at(moment):
        pass


def test_what_a_view_sees_is_said(image: Image) -> None:
    """The tid that was asked for, that of a time's very moment, or the newest one; the view does not change."""
    first = image.last_tid()
    with image.transaction() as root:
        root["lobby"].n = 1
    now = dt.datetime.now(dt.UTC)
    for moment, seen in ((first, first), (now, image.last_tid())):
        with image.at(moment) as root:
            assert seen_tid(root) == seen
    with image.snapshot() as root:
        assert seen_tid(root) == image.last_tid()
    with image.transaction() as root:
        root["lobby"].n = 2
    with image.at(now) as root:
        assert seen_tid(root) == bytes(tid_at(now)).hex()


def test_a_history_ends_where_the_view_does(image: Image) -> None:
    """However few changes are asked for, and however many came since."""
    tids = []
    for number in range(40):
        with image.session() as session:
            session.begin()["lobby"].n = number
            tids.append(session.commit())
    for limit in (1, 3, 100):
        with image.at(tids[4]) as root:
            found = [change.tid for change in changes_of(place_at(root, "lobby"), limit)]
        assert found[:5] == tids[4::-1][:limit]
        assert len(found) <= 6


def test_the_past_before_a_pack_is_refused(image: Image) -> None:
    """Once it is noted what a pack left, no view begins before that, by transaction or by time."""
    before, time_before = image.last_tid(), dt.datetime.now(dt.UTC)
    with image.transaction() as root:
        root["lobby"].n = 1
    kept = image.last_tid()
    with image.transaction() as root:
        assert note_packed(root, kept) == kept
    with image.transaction() as root:
        assert note_packed(root, before) == kept
    for moment in (before, time_before):
        with pytest.raises(NoSuchMoment, match=f"packed away; the earliest .* is {kept}"), image.at(moment):
            pass
    with image.at(kept) as root:
        assert root["lobby"].n == 1


def test_a_view_that_lost_a_record_says_so(image: Image) -> None:
    """Where a storage was packed and nobody noted it, a read of what is gone is refused, too."""
    with image.transaction() as root:
        root["lobby"].thing = UvmObject(n=1)
        root["lobby"].other = UvmObject(n=1)
    before = image.last_tid()
    with image.transaction() as root:
        root["lobby"].thing.n = 2
    database: Any = image._database
    database.pack(time.time() + 1)
    with image.at(before) as root:
        assert root["lobby"].other.n == 1
        with pytest.raises(NoSuchMoment, match="packed away"):
            _ = root["lobby"].thing.n


def test_a_time_where_the_clock_was_set_back(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time means the order of transactions: what was committed after the jump follows the last one before it.

    The hours that the clock goes through twice show what was committed when it went through them first; what the
    newest transaction calls its time is never the future.
    """
    began = time.time()
    noon = began + 86_400.0
    clock = [began]
    monkeypatch.setattr(time, "time", lambda: clock[0])

    def commit(at: float, number: int) -> str:
        clock[0] = at
        with image.session() as session:
            session.begin()["lobby"].n = number
            return session.commit()

    def seen(at: float) -> int:
        with image.at(dt.datetime.fromtimestamp(at, dt.UTC)) as root:
            return int(root["lobby"].n)

    tids = [commit(noon - 3600, 1), commit(noon, 2), commit(noon - 3600 * 2, 3), commit(noon - 1800, 4)]
    assert tids == sorted(tids)
    with image.snapshot() as root:
        changes = changes_of(place_at(root, "lobby"), 4)
    assert [change.tid for change in changes] == tids[::-1]
    assert [round(change.time - noon, 3) for change in changes] == [0, 0, 0, -3600]
    assert seen(noon - 1801) == 1
    for number, tid in enumerate(tids, 1):
        with image.at(tid) as root:
            assert root["lobby"].n == number
    assert seen(noon - 0.001) == 1, "later than the clock, and yet no future"
    with pytest.raises(NoSuchMoment, match="future"):
        seen(noon + 1)
    assert commit(noon + 10, 5) > tids[-1]
    clock[0] = noon + 11
    assert (seen(noon + 0.001), seen(noon + 9), seen(noon + 10.5)) == (4, 4, 5)


def test_blobs_are_stored_with_their_object(image: Image, uri: str) -> None:
    """And are there after reopening."""
    data = bytes(range(256)) * 100
    with image.transaction() as root:
        root["lobby"].weights = store_blob(data)
    image.close()
    with open_image(uri) as again, again.snapshot() as root:
        assert read_blob(root["lobby"].weights) == data


def test_a_session_used_out_of_order_says_so(image: Image) -> None:
    """Each misuse has its own words."""
    session = image.session()
    with pytest.raises(SessionMisuse, match="no transaction runs"):
        _ = session.root
    with pytest.raises(SessionMisuse, match="no transaction runs"):
        session.commit()
    session.abort()
    session.begin()
    with pytest.raises(SessionMisuse, match="runs already"):
        session.begin()
    session.close()
    session.close()
    with pytest.raises(SessionMisuse, match="closed"):
        session.begin()


def test_a_transaction_belongs_to_the_thread_that_began_it(session: Session) -> None:
    """Another thread is refused; after the end another thread may begin."""
    session.begin()
    refused: list[str] = []
    begun: list[Any] = []

    def elsewhere() -> None:
        for attempt in (session.commit, session.abort, lambda: session.root, session.close):
            with pytest.raises(SessionMisuse, match="belongs to the thread"):
                attempt()
            refused.append("refused")

    def later() -> None:
        begun.append(session.begin())
        session.abort()

    for work in (elsewhere, later):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        session.abort()
    assert (len(refused), len(begun)) == (4, 1)


def test_closing_an_image_ends_what_still_runs(uri: str) -> None:
    """An open session does not keep the file."""
    image = open_image(uri)
    session = image.session()
    session.begin()["lobby"].x = 1
    image.close()
    image.close()
    session.close()
    with open_image(uri) as again, again.snapshot() as root:
        assert not hasattr(root["lobby"], "x")


@pytest.mark.usefixtures("image")
def test_a_file_that_another_holds_is_reported(uri: str) -> None:
    """With what to do instead."""
    with pytest.raises(ImageInUse, match="zeo://"):
        open_image(uri)
    with open_image(uri, read_only=True) as reader, reader.snapshot() as root:
        assert isinstance(root["lobby"], UvmObject)


@pytest.mark.parametrize("damage", [b"no image at all, but long enough to look at", b"FS30" + b"\xff" * 200])
def test_a_damaged_file_is_reported(uri: str, tmp_path: Path, damage: bytes) -> None:
    """In one error that names the file and what helps."""
    (tmp_path / "live_image.fs").write_bytes(damage)
    with pytest.raises(ImageUnusable, match=r"live_image\.fs cannot be opened: .*restore the latest backup"):
        open_image(uri)


def test_reading_only_makes_nothing(uri: str, tmp_path: Path) -> None:
    """What is not there is an error, and stays away."""
    with pytest.raises(NoImageYet, match="batos up"):
        open_image(uri, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_an_image_opened_for_reading_only_refuses_to_write(uri: str) -> None:
    """In every kind of transaction."""
    with open_image(uri):
        pass
    with open_image(uri, read_only=True) as image:
        with pytest.raises(ReadOnly), image.transaction() as root:
            root["lobby"].x = 1
        with pytest.raises(ReadOnly):
            image.run(lambda root: setattr(root["lobby"], "x", 1))


def test_many_sessions_at_a_time_raise_no_alarm(image: Image, caplog: pytest.LogCaptureFixture) -> None:
    """The pool is large enough for a kernel's cycles."""
    sessions = [image.session() for _ in range(40)]
    for session in sessions:
        session.begin()
    for session in sessions:
        session.close()
    assert caplog.records == []


def test_a_storage_that_goes_away_is_a_transient_error(
    session: Session, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the vote nothing was stored; the error names address and wait, and may be tried again."""
    storage = session._connection._storage

    def gone(*_args: Any, **_options: Any) -> None:
        raise ClientDisconnected

    with monkeypatch.context() as patched:
        patched.setattr(storage, "sync", gone)
        with pytest.raises(ImageUnreachable, match=r"beginning a transaction") as caught:
            session.begin()
        assert (caught.value.uri, caught.value.waited_s) == (image.uri, 30)
    with monkeypatch.context() as patched:
        lobby = session.begin()["lobby"]
        lobby._p_deactivate()
        patched.setattr(storage, "load", gone)
        with pytest.raises(ImageUnreachable, match="reading an object"):
            _ = lobby.x
        session.abort()
    with monkeypatch.context() as patched:
        session.begin()["lobby"].x = 1
        patched.setattr(storage, "store", gone)
        with pytest.raises(ImageUnreachable, match="committing"):
            session.commit()
    assert not hasattr(session.begin()["lobby"], "x")


def test_a_commit_cut_off_at_its_end_has_an_unknown_fate(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not transient: whether it is in must be looked up before anything is tried again."""
    connection = session._connection
    session.begin()["lobby"].x = 1
    finish = connection._storage._storage.tpc_finish

    def cut_off(*args: Any) -> None:
        finish(*args)
        raise ClientDisconnected

    with monkeypatch.context() as patched:
        patched.setattr(connection._storage._storage, "tpc_finish", cut_off)
        with pytest.raises(CommitFateUnknown, match="may or may not be stored") as caught:
            session.commit()
    assert not isinstance(caught.value, Transient)


def test_nothing_is_left_open(uri: str) -> None:
    """Opening and closing makes no ResourceWarning (they are errors in this suite)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = open_image(uri)
        with image.transaction() as root:
            root["lobby"].x = store_blob(b"x")
        image.close()
        del image, root
        gc.collect()
