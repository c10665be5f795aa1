"""Undoing one transaction by a new one."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ReadConflictError

from batos.uvm import Image, NoSuchMoment, UvmObject, install_method, note_packed, open_image, store_blob, undo


@pytest.fixture
def world(image: Image) -> Image:
    with image.transaction() as root:
        lobby = root["lobby"]
        lobby.traits = UvmObject(mood="calm")
        install_method(lobby.traits, "say", "def say(self): return self.mood", author="genesis")
        lobby.bird = UvmObject([lobby.traits], legs=2, notes=["a"])
        lobby.fish = UvmObject([lobby.traits], fins=4)
        root["tree"] = OOBTree({"a": 1})
    return image


def thought(image: Image) -> str:
    """Change a bit of everything in one transaction; return its id."""
    with image.transaction(user="kernel-1", cycle="c1", mission="m1") as root:
        lobby = root["lobby"]
        lobby.traits.mood = "wild"
        install_method(lobby.traits, "say", "def say(self): return 'roar'", author="architect")
        lobby.bird.legs = 3
        lobby.bird.notes.append("b")
        lobby.fish.parents = ()
        lobby.made = UvmObject(new=True)
        root["tree"]["b"] = 2
    return image.last_tid()


def test_everything_is_as_it_was_where_nothing_built_on_it(world: Image) -> None:
    """Slots, containers, parents and methods, also as others inherit them; the past itself stays in the history."""
    tid = thought(world)
    with world.transaction(note="undo") as root:
        assert root["lobby"].bird.say() == "roar"
        done = undo(root, tid)
        assert root["lobby"].bird.say() == "calm"
        assert set(done.restored) >= {"lobby", "lobby.bird", "lobby.bird.notes", "lobby.fish", "lobby.traits"}
        assert done.made >= 1
        assert {left.path for left in done.left} == {"tree", "lobby.traits._versions_"}
        assert all("part of a tree" in left.why for left in done.left)
    with world.snapshot() as root:
        lobby = root["lobby"]
        assert (lobby.bird.legs, list(lobby.bird.notes), lobby.fish.mood, lobby.bird.say()) == (
            2,
            ["a"],
            "calm",
            "calm",
        )
        assert not hasattr(lobby, "made")
        assert dict(root["tree"]) == {"a": 1, "b": 2}
    with world.at(tid) as root:
        assert (root["lobby"].bird.legs, root["lobby"].bird.say()) == (3, "roar")


def test_what_was_changed_again_is_left_and_named(world: Image) -> None:
    """Later work is never lost; everything else is restored."""
    tid = thought(world)
    with world.transaction() as root:
        root["lobby"].bird.legs = 4
    later = world.last_tid()
    with world.transaction() as root:
        done = undo(root, tid)
        (left,) = [left for left in done.left if left.path == "lobby.bird"]
        assert left.why == f"it was changed again by {later}"
    with world.snapshot() as root:
        assert root["lobby"].bird.legs == 4
        assert list(root["lobby"].bird.notes) == ["a"]
        assert root["lobby"].traits.mood == "calm"


def test_spared_objects_are_not_looked_at(world: Image) -> None:
    """They are in none of the lists."""
    tid = thought(world)
    with world.transaction() as root:
        done = undo(root, tid, spared={root["lobby"].bird._p_oid})
        assert "lobby.bird" not in (*done.restored, *(left.path for left in done.left))
        assert root["lobby"].bird.legs == 3


def test_an_undo_can_be_undone(world: Image) -> None:
    """It is a transaction like any other."""
    tid = thought(world)
    with world.transaction() as root:
        undo(root, tid)
    undoing = world.last_tid()
    with world.transaction() as root:
        undo(root, undoing)
    with world.snapshot() as root:
        assert (root["lobby"].bird.legs, root["lobby"].bird.say()) == (3, "roar")


@pytest.mark.parametrize("tid", ["", "xyz", "0000000000000001", "ffffffffffffffff", "7" * 15])
def test_a_transaction_that_never_was(world: Image, tid: str) -> None:
    """It is refused, and nothing is changed."""
    with world.session() as session, pytest.raises(NoSuchMoment):
        undo(session.begin(), tid)


def test_undo_aborted_changes_nothing(world: Image) -> None:
    """Who only wants to know what would be restored aborts; reads are right again afterwards."""
    tid = thought(world)
    with world.session() as session:
        root = session.begin()
        assert undo(root, tid).restored
        session.abort()
        root = session.begin()
        assert (root["lobby"].bird.legs, root["lobby"].bird.say()) == (3, "roar")


def test_what_later_work_built_on_stays_reachable(world: Image) -> None:
    """What the thought made and others changed is left, with all that leads to it; the rest is restored."""
    with world.transaction() as root:
        lobby = root["lobby"]
        lobby.bird.notes = ["x"]
        lobby.bird.nest = UvmObject(eggs=UvmObject(n=1))
        lobby.fish.fins = 5
    tid = world.last_tid()
    with world.transaction(mission="later") as root:
        root["lobby"].bird.nest.eggs.n = 2
    later = world.last_tid()
    with world.transaction() as root:
        done = undo(root, tid)
    assert (done.restored, done.made) == (("lobby.fish",), 2)
    assert {left.path: left.why for left in done.left} == {
        "lobby.bird.nest.eggs": f"it was made then, and changed again by {later}",
        "lobby.bird": "restored, it would cut off lobby.bird.nest",
    }
    with world.snapshot() as root:
        bird = root["lobby"].bird
        assert (bird.nest.eggs.n, list(bird.notes), root["lobby"].fish.fins) == (2, ["x"], 4)


def test_what_was_moved_goes_back_only_where_it_can(world: Image) -> None:
    """Where the place that it was taken from was changed again, the place that has it now is left, too."""
    with world.transaction() as root:
        root["lobby"].bird.worm = UvmObject(n=1)
    with world.transaction() as root:
        root["lobby"].fish.worm = root["lobby"].bird.worm
        del root["lobby"].bird.worm
    tid = world.last_tid()
    with world.transaction() as root:
        root["lobby"].bird.legs = 4
    with world.transaction() as root:
        done = undo(root, tid)
    assert done.restored == ()
    assert {left.path: left.why for left in done.left}["lobby.fish"] == "restored, it would cut off lobby.fish.worm"
    with world.snapshot() as root:
        assert root["lobby"].fish.worm.n == 1


def test_nobody_builds_meanwhile_on_what_an_undo_cuts_off(world: Image) -> None:
    """Whose transaction comes second meets a conflict, and looks again."""
    tid = thought(world)
    with world.session() as undoing:
        undo(undoing.begin(), tid)
        with world.transaction() as root:
            root["lobby"].made.result = "later work"
        with pytest.raises(ReadConflictError):
            undoing.commit()
    with world.snapshot() as root:
        assert root["lobby"].made.result == "later work"


def test_thoughts_are_undone_newest_first(world: Image) -> None:
    """What an undo put back stands as the thought before left it; also in one transaction, and with odd values."""
    tids = []
    for legs, odd in ((3, math.nan), (4, 1), (5, True)):
        with world.transaction() as root:
            root["lobby"].bird.legs = legs
            root["lobby"].bird.odd = (odd, "legs", frozenset({"a", "b"}))
            root["lobby"].bird.notes.append(legs)
        tids.append(world.last_tid())
    with world.transaction() as root:
        assert undo(root, tids[2]).left == ()
    with world.transaction() as root:
        for tid in (tids[1], tids[0]):
            done = undo(root, tid)
            assert (done.restored, done.left) == (("lobby.bird", "lobby.bird.notes"), ())
    with world.snapshot() as root:
        bird = root["lobby"].bird
        assert (bird.legs, hasattr(bird, "odd"), list(bird.notes)) == (2, False, ["a"])


def test_an_equal_value_of_another_kind_is_later_work(world: Image) -> None:
    """1 and True are equal, and yet two states."""
    with world.transaction() as root:
        root["lobby"].bird.legs = 1
    tid = world.last_tid()
    with world.transaction() as root:
        root["lobby"].bird.legs = True
    with world.transaction() as root:
        assert undo(root, tid).restored == ()
    with world.snapshot() as root:
        assert root["lobby"].bird.legs is True


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "packed"])
def test_what_was_packed_away_cannot_be_undone(world: Image, *, noted: bool) -> None:
    """The state before the thought is needed: it is refused, and nothing is changed."""
    with world.transaction() as root:
        root["lobby"].bird.legs = 3
    tid = world.last_tid()
    if noted:
        with world.transaction() as root:
            note_packed(root, tid)
    else:
        database: Any = world._database
        database.pack(time.time() + 1)
    before = world.last_tid()
    with pytest.raises(NoSuchMoment, match="packed away"), world.transaction() as root:
        undo(root, tid)
    assert world.last_tid() == before
    with world.transaction() as root:
        root["lobby"].bird.legs = 4
    tid = world.last_tid()
    with world.transaction() as root:
        assert undo(root, tid).restored == ("lobby.bird",)


def test_paths_are_right_where_nothing_is_in_memory(world: Image, uri: str) -> None:
    """Of what was restored and of what was left, also of a container within another."""
    with world.transaction() as root:
        root["lobby"].bird.deep = {"k": {"j": 1}}
        root["tree"]["mouse"] = UvmObject(n=1)
    with world.transaction() as root:
        root["lobby"].bird.legs = 3
        root["lobby"].bird.notes.append("b")
        root["lobby"].bird.deep["k"]["j"] = 2
        root["lobby"].fish.fins = 5
        root["tree"]["mouse"].n = 2
    tid = world.last_tid()
    with world.transaction() as root:
        root["lobby"].fish.fins = 6
    world.close()
    with open_image(uri) as cold, cold.transaction() as root:
        done = undo(root, tid)
    assert done.restored == ("lobby.bird", "lobby.bird.deep['k']", "lobby.bird.notes", "tree['mouse']")
    assert [left.path for left in done.left] == ["lobby.fish"]


def test_a_path_is_looked_for_within_bounds(world: Image, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands outside of trees is found however large they are; one of very many is named by class and id."""
    with world.transaction() as root:
        root["a tree"] = OOBTree({f"{number:06}": UvmObject(n=number) for number in range(5000)})
    with world.transaction() as root:
        one = root["a tree"]["004321"]
        one.n = root["lobby"].bird.legs = 3
        oid = int.from_bytes(one._p_oid, "big")
    tid = world.last_tid()
    world.close()
    monkeypatch.setattr("batos.uvm.paths.MAX_LOADED", 100)
    with open_image(uri) as cold, cold.transaction() as root:
        assert undo(root, tid).restored == (f"UvmObject {oid:#x}", "lobby.bird")
        jar: Any = root
        loaded, _ = jar._p_jar.getTransferCounts()
        assert loaded < 120


def test_no_undo_makes_an_object_its_own_ancestor(world: Image) -> None:
    """It is left, and why; two that change their places again are restored together."""
    with world.transaction() as root:
        lobby = root["lobby"]
        lobby.a, lobby.b = UvmObject(y=1), UvmObject(x=1)
        lobby.a.parents = (lobby.b,)
    with world.transaction() as root:
        root["lobby"].a.parents = ()
    first = world.last_tid()
    with world.transaction() as root:
        root["lobby"].b.parents = (root["lobby"].a,)
    with world.transaction() as root:
        (left,) = undo(root, first).left
        assert (left.path, "its own ancestor" in left.why) == ("lobby.a", True)
    with world.transaction() as root:
        root["lobby"].b.parents = ()
        root["lobby"].a.parents = (root["lobby"].b,)
    turned = world.last_tid()
    with world.transaction() as root:
        assert undo(root, turned).restored == ("lobby.a", "lobby.b")
        assert root["lobby"].b.y == 1
        assert root["lobby"].a.parents == ()


def test_a_length_stays_with_the_tree_that_it_counts(world: Image) -> None:
    """Both are left; one that counts no tree of that thought is restored."""
    with world.transaction() as root:
        root["lobby"].entries, root["lobby"].count = OOBTree({"a": 1}), Length(1)
    with world.transaction() as root:
        root["lobby"].entries["b"] = 2
        root["lobby"].count.change(1)
    grown = world.last_tid()
    with world.transaction() as root:
        done = undo(root, grown)
        assert (done.restored, [left.path for left in done.left]) == ((), ["lobby.count", "lobby.entries"])
        assert len(root["lobby"].entries) == root["lobby"].count() == 2
    with world.transaction() as root:
        root["lobby"].count.change(5)
    alone = world.last_tid()
    with world.transaction() as root:
        assert undo(root, alone).restored == ("lobby.count",)
        assert root["lobby"].count() == 2


def test_a_blob_is_left(world: Image) -> None:
    """Its bytes are in a file of their own; one that was made then and written again keeps what leads to it."""
    with world.transaction() as root:
        root["lobby"].old = store_blob(b"1")
    with world.transaction() as root:
        with root["lobby"].old.open("w") as file:
            file.write(b"2")
        root["lobby"].fish.new = store_blob(b"1")
    tid = world.last_tid()
    with world.transaction() as root, root["lobby"].fish.new.open("w") as file:
        file.write(b"2")
    with world.transaction() as root:
        done = undo(root, tid)
    assert (done.restored, done.made) == ((), 0)
    assert [left.path for left in done.left] == ["lobby.fish", "lobby.fish.new", "lobby.old"]


def test_what_the_running_transaction_changed_is_asked_once(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects a thought wrote: an undo takes as long as they are many."""
    with image.session() as session:
        session.begin()["lobby"].all = tuple(UvmObject(n=n) for n in range(50))
        tid = session.commit()
        root = session.begin()
        asked: list[object] = []
        changed = type(root._p_jar).changed
        monkeypatch.setattr(type(root._p_jar), "changed", lambda jar: asked.append(jar) or changed(jar))
        assert undo(root, tid).made == 50
    assert len(asked) == 1


def test_what_the_running_transaction_changed_is_left(world: Image) -> None:
    """Before and after a savepoint, which changes nothing about an undo otherwise."""
    tid = thought(world)
    with world.session() as session:
        root = session.begin()
        root["lobby"].fish.fins = 5
        session.savepoint()
        root["lobby"].bird.legs = 7
        done = undo(root, tid)
        assert {left.path: left.why for left in done.left if "tree" not in left.why} == {
            "lobby.bird": "it was changed again in this transaction",
            "lobby.fish": "it was changed again in this transaction",
        }
        assert "lobby.traits" in done.restored
        session.commit()
    with world.snapshot() as root:
        lobby = root["lobby"]
        assert (lobby.fish.fins, lobby.bird.legs, lobby.traits.mood, list(lobby.bird.notes)) == (5, 7, "calm", ["a"])
