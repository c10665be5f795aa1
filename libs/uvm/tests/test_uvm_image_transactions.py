"""Transactions and sessions: what they see, how they conflict and are tried again, how they fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
    ImageUnreachable,
    ReadOnly,
    Root,
    Session,
    SessionMisuse,
    Transient,
    UvmObject,
)


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    """Retries do not wait in unit tests; their number stays the callers'."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


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
