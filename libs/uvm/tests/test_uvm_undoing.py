"""Undoing one transaction by a new one."""

from __future__ import annotations

import pytest
from BTrees.OOBTree import OOBTree

from batos.uvm import Image, NoSuchMoment, UvmObject, install_method, undo


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
        assert [left.path for left in done.left if "tree" in left.why] == [left.path for left in done.left]
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
