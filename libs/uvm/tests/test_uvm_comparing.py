"""An object beside the one that it was cloned from, or beside any other."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet

from batos.uvm import (
    Difference,
    NoAncestor,
    PersistentList,
    Root,
    Session,
    UvmObject,
    ancestor_of,
    compare,
    install_method,
    store_blob,
)

HUM = "def hum_(self):\n    return 'hm'\n"
SING = "def hum_(self):\n    return 'la'\n"


@pytest.fixture
def root(session: Session) -> Root:
    found = session.begin()
    traits = UvmObject(legs=0)
    found["lobby"].traits = traits
    bird = UvmObject([traits], legs=2, codex={"covenants": ["fly", "sing"]}, voice="tweet")
    install_method(bird, "hum_", HUM, author="genesis")
    install_method(bird, "rest_", "def rest_(self): pass", author="genesis")
    found["lobby"].bird = bird
    found["lobby"].owl = bird._clone_persistent_()
    session.commit()
    return session.begin()


def test_a_clone_is_the_same_as_its_ancestor(root: Root) -> None:
    """A clone has copies of all that its ancestor has, and the same parents: nothing differs."""
    found = compare(root["lobby"].owl)
    assert (found.path, found.other, found.is_ancestor) == ("lobby.owl", "lobby.bird", True)
    assert found.parents == found.other_parents == ("lobby.traits",)
    assert (found.same_parents, found.differences, found.same) == (True, (), 5)


def test_what_became_of_a_clone(root: Root) -> None:
    """Slots and methods that were added, removed and changed, each with both values; slots first, by name."""
    owl = root["lobby"].owl
    owl.legs = 3
    owl.codex["covenants"].append("hunt")
    owl.wise = True
    del owl.voice
    del owl.rest_
    install_method(owl, "hum_", SING, author="c1")
    install_method(owl, "look_", "def look_(self): pass", author="c1")
    owl.parents = [root["lobby"].bird, root["lobby"].traits]
    found = compare(owl)
    assert found.differences == (
        Difference(
            "codex", "slot", "changed", "{'covenants': ['fly', 'sing']}", "{'covenants': ['fly', 'sing', 'hunt']}"
        ),
        Difference("legs", "slot", "changed", "2", "3"),
        Difference("voice", "slot", "removed", "tweet", ""),
        Difference("wise", "slot", "added", "", "True"),
        Difference("hum_", "method", "changed", HUM, SING),
        Difference("look_", "method", "added", "", "def look_(self): pass\n"),
        Difference("rest_", "method", "removed", "def rest_(self): pass\n", ""),
    )
    assert (found.same_parents, found.same) == (False, 0)
    assert found.parents == ("lobby.bird", "lobby.traits")


def test_a_slot_that_became_a_method(root: Root) -> None:
    """It is said as both: the slot is gone, the method is new."""
    owl = root["lobby"].owl
    install_method(owl, "voice", "def voice(self): return 'hoo'", author="architect")
    changes = {(one.name, one.kind, one.change) for one in compare(owl).differences}
    assert changes == {("voice", "slot", "removed"), ("voice", "method", "added")}


def test_any_two_objects(root: Root, session: Session) -> None:
    """In the order in which they are given; the slot `ancestor` itself is no difference."""
    lobby = root["lobby"]
    lobby.cat = UvmObject(legs=4)
    session.savepoint()
    found = compare(lobby.cat, lobby.owl)
    assert (found.path, found.other, found.is_ancestor) == ("lobby.cat", "lobby.owl", False)
    assert {one.name for one in found.differences if one.change == "removed"} == {"codex", "voice", "hum_", "rest_"}
    assert {one.name for one in found.differences if one.change == "changed"} == {"legs"}
    assert compare(lobby.cat, lobby.cat).differences == ()


def test_an_ancestor_is_an_objects_own(root: Root, session: Session) -> None:
    """What was not cloned has none, although a parent of it was: comparing it needs another object."""
    lobby = root["lobby"]
    lobby.owlet = UvmObject([lobby.owl])
    session.savepoint()
    assert ancestor_of(lobby.owl) is lobby.bird
    assert ancestor_of(lobby.owlet) is None
    with pytest.raises(NoAncestor, match=r"lobby\.owlet has no ancestor"):
        compare(lobby.owlet)


def values() -> dict[str, Any]:
    """One of each kind that has to be looked into."""
    return {
        "nested": [{"a": (1, [2, {3}])}],
        "tree": OOBTree({"a": 1}),
        "names": OOTreeSet(["a"]),
        "blob": store_blob(b"bytes"),
        "frozen": frozenset({1}),
    }


def test_values_are_the_same_by_what_they_hold(root: Root) -> None:
    """Containers, trees and blobs by their contents; 1 and True are not the same; an object is only itself."""
    one, other = UvmObject(**values()), UvmObject(**values())
    root["lobby"].pair = [one, other]
    assert compare(one, other).differences == ()
    one.nested[0]["a"][1].append(4)
    one.tree["b"] = 2
    one.names.insert("b")
    one.blob = store_blob(b"others")
    one.frozen = frozenset({1, 2})
    assert [one.name for one in compare(one, other).differences] == ["blob", "frozen", "names", "nested", "tree"]
    assert compare(UvmObject(a=1), UvmObject(a=True)).differences != ()
    assert compare(UvmObject(a=one), UvmObject(a=one)).differences == ()
    assert compare(UvmObject(a=one), UvmObject(a=other)).differences != ()


def test_what_is_no_number_is_the_same_each_time(root: Root, session: Session) -> None:
    """A NaN, in whatever holds it, does not change by being stored and loaded."""
    nan = float("nan")
    held = {"n": nan, "row": (nan, [nan]), "of": {nan: 1}, "some": {nan, 1}, "zone": frozenset({(nan, 1)})}
    root["lobby"].one = UvmObject(**held, exact=Decimal("sNaN"), pair=complex(0, nan))
    root["lobby"].other = root["lobby"].one._clone_persistent_()
    session.commit()
    lobby = session.begin()["lobby"]
    lobby._p_jar.cacheMinimize()
    assert compare(lobby.other).differences == ()
    lobby.other.row[1].append(nan)
    lobby.other.some.add(2)
    assert [one.name for one in compare(lobby.other).differences] == ["row", "some"]


def test_counters_and_blobs_are_shown_by_what_they_hold() -> None:
    """Not by where they are in memory."""
    one = UvmObject(count=Length(1), bytes=store_blob(b"1"))
    other = UvmObject(count=Length(2), bytes=store_blob(b"2"))
    bytes_, count = compare(one, other).differences
    assert (count.before, count.after) == ("2", "1")
    assert bytes_.after.startswith("<a blob of 1 bytes, SHA-256 6b86b273ff34")
    assert bytes_.before.startswith("<a blob of 1 bytes, SHA-256 d4735e3a265e")


def test_values_that_are_deep_or_stand_in_many_places() -> None:
    """Comparing them ends, and soon."""
    values = []
    for last in (1, 1, 2):
        deep: Any = [last]
        wide: Any = [last]
        for _ in range(2000):
            deep = PersistentList([deep])
        for _ in range(90):
            wide = PersistentList([wide, wide])
        values.append(UvmObject(deep=deep, wide=wide))
    one, same, other = values
    assert compare(one, same).differences == ()
    assert [found.name for found in compare(one, other).differences] == ["deep", "wide"]


def test_keys_are_compared_with_their_types() -> None:
    """As values are: 1 is not True."""
    assert compare(UvmObject(a={1: 0}, b={1}), UvmObject(a={True: 0}, b={True})).same == 0


def test_values_that_contain_themselves(root: Root) -> None:
    """Comparing ends."""
    one, other = UvmObject(loop=[1]), UvmObject(loop=[1])
    for obj in (one, other):
        obj.loop.append(obj.loop)
    root["lobby"].pair = [one, other]
    assert compare(one, other).differences == ()
