"""Going back within a transaction: to one savepoint as often as one likes, and never to half of something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree

from batos.uvm import (
    BelongsToVessel,
    CommitFateUnknown,
    Image,
    NotStorable,
    Session,
    SessionMisuse,
    UvmObject,
    open_image,
)
from batos.uvm.values import PersistentDict, PersistentList, PersistentSet

MADE: dict[str, Callable[[], Any]] = {
    "object": lambda: UvmObject(n=1),
    "list": lambda: PersistentList([1]),
    "dict": lambda: PersistentDict(a=1),
    "set": lambda: PersistentSet([1]),
    "tree": lambda: OOBTree({1: 1}),
    "counter": lambda: Length(1),
}
READ: dict[str, Callable[[Any], object]] = {
    "object": lambda made: made.n,
    "counter": lambda made: made(),
}


def test_one_savepoint_can_be_gone_back_to_again_and_again(uri: str) -> None:
    """What was made and rolled back twice can be stored afterwards, whole."""
    with open_image(uri) as image, image.session() as session:
        lobby = session.begin()["lobby"]
        lobby.notes = []
        session.commit()
        lobby = session.begin()["lobby"]
        lobby.before = 1
        point = session.savepoint()
        made = UvmObject(n=1)
        for _ in range(3):
            lobby.notes.append(made)
            session.savepoint()
            point.rollback()
            assert made._p_jar is None
            assert lobby.notes == []
        lobby.notes.append(made)
        session.commit()
    with open_image(uri) as image, image.snapshot() as root:
        assert (root["lobby"].notes[0].n, root["lobby"].before) == (1, 1)


@pytest.mark.parametrize("back", ["rollback", "abort"])
@pytest.mark.parametrize("kind", MADE)
def test_what_was_rolled_back_and_is_not_in_memory_is_gone(session: Session, kind: str, back: str) -> None:
    """Whoever still has it and reads it, changes it or stores it again is told; nothing seems to be empty."""
    session.begin()["lobby"].notes = []
    session.commit()
    root = session.begin()
    root["lobby"].before = 1
    point = session.savepoint()
    made = MADE[kind]()
    root["lobby"].notes.append(made)
    session.savepoint()
    root._p_jar.cacheMinimize()  # as ZODB does at a savepoint, where memory is short
    if back == "rollback":
        point.rollback()
    else:
        session.abort()
        session.begin()
    with pytest.raises(SessionMisuse, match="make it anew"):
        READ.get(kind, list)(made)
    session.root["lobby"].notes.append(made)
    with pytest.raises(NotStorable, match=r"^lobby\.notes\[0\]: .*make it anew"):
        session.commit()
    assert session.begin()["lobby"].notes == []


def test_what_was_rolled_back_and_is_in_memory_can_be_used_again(session: Session) -> None:
    """It keeps what it had, and is new."""
    lobby = session.begin()["lobby"]
    lobby.notes = []
    point = session.savepoint()
    made = UvmObject(n=1)
    lobby.notes.append(made)
    session.savepoint()
    assert made.n == 1
    point.rollback()
    assert made.n == 1
    lobby.notes.append(made)
    session.commit()
    assert session.begin()["lobby"].notes[0].n == 1


@pytest.mark.parametrize("kind", MADE)
def test_what_was_rolled_back_keeps_no_id(image: Image, session: Session, kind: str) -> None:
    """Another object may get it, after the storage was opened anew: that one is read, the first one is still gone."""
    session.begin()["lobby"].notes = []
    session.commit()
    root = session.begin()
    point = session.savepoint()
    made = MADE[kind]()
    root["lobby"].notes.append(made)
    session.savepoint()
    root._p_jar.cacheMinimize()
    point.rollback()
    session.abort()
    with image.transaction() as others:
        other = UvmObject(n=7)
        other._p_oid, other._p_jar = made._p_oid, others._p_jar
        others._p_jar._register(other)
        others._p_jar._added[other._p_oid] = other
        others["lobby"].notes.append(other)
    assert session.begin()["lobby"].notes[0].n == 7
    with pytest.raises(SessionMisuse, match="make it anew"):
        READ.get(kind, list)(made)


@pytest.mark.parametrize("kind", MADE)
def test_what_was_stored_though_the_answer_was_lost_is_read(session: Session, kind: str) -> None:
    """New objects that were not in memory are in the image for the same session, and can be stored elsewhere."""
    root = session.begin()
    made = MADE[kind]()
    root["lobby"].notes = [made]
    session.savepoint()
    root._p_jar.cacheMinimize()
    storage = root._p_jar._normal_storage._storage
    with pytest.MonkeyPatch.context() as patched:
        finish = storage.tpc_finish

        def finished(*args: Any) -> None:
            finish(*args)
            raise OSError("the answer was lost")

        patched.setattr(storage, "tpc_finish", finished)
        with pytest.raises(CommitFateUnknown):
            session.commit()
    lobby = session.begin()["lobby"]
    found = lobby.notes[0]
    assert READ.get(kind, list)(found) in (1, [1], ["a"])
    lobby.again = found
    session.commit()
    assert session.begin()["lobby"].again is found


def test_a_savepoint_that_failed_leaves_nothing_to_do_but_abort(image: Image, session: Session) -> None:
    """Committing, writing and taking another one say so in the image's words; the session is usable afterwards."""
    root = session.begin()
    root["lobby"].lost = 1
    root["locks"] = OOBTree({"x": threading.Lock()})
    with pytest.raises(BelongsToVessel, match=r"^locks\['x'\]"):
        session.savepoint()
    with pytest.raises(SessionMisuse, match="a savepoint of this transaction failed: it can only be aborted"):
        root["lobby"].more = 1
    with pytest.raises(SessionMisuse, match="a savepoint of this transaction failed: it can only be aborted"):
        session.savepoint()
    with pytest.raises(SessionMisuse, match="a savepoint of this transaction failed: it can only be aborted"):
        session.commit()
    session.begin()["lobby"].kept = 1
    session.commit()
    with image.snapshot() as root:
        assert not hasattr(root["lobby"], "lost")
        assert not hasattr(root["lobby"], "more")
        assert root["lobby"].kept == 1


def test_a_savepoint_that_is_gone_says_so(session: Session) -> None:
    """After an earlier one was gone back to, and after the transaction."""
    lobby = session.begin()["lobby"]
    first = session.savepoint()
    lobby.x = 1
    second = session.savepoint()
    first.rollback()
    with pytest.raises(SessionMisuse, match="this savepoint is gone"):
        second.rollback()
    session.abort()
    with pytest.raises(SessionMisuse, match="this savepoint is gone"):
        first.rollback()
