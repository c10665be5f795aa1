"""Paths, what stands at them, and how it came to be so."""

from __future__ import annotations

import pytest
from BTrees.OOBTree import OOBTree

from batos.uvm import (
    BadPath,
    Image,
    NoSuchVersion,
    PersistentDict,
    UvmObject,
    changes_of,
    install_method,
    method_history,
    own_methods,
    place_at,
    portray,
    revert_method,
)


@pytest.fixture
def world(image: Image) -> Image:
    with image.transaction(user="architect", note="a small world") as root:
        root["lobby"].traits_obj = UvmObject(voice="calm")
        install_method(root["lobby"].traits_obj, "greet", "def greet(self): return self.voice", author="genesis")
        root["lobby"].bird = UvmObject([root["lobby"].traits_obj], legs=2, notes=["a", {"b": (1, 2)}])
        root["missions"] = OOBTree({"m1": PersistentDict(state="IDLE")})
    return image


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("lobby.bird.legs", 2),
        ("lobby.bird.voice", "calm"),
        ("lobby.bird.notes[1]['b'][0]", 1),
        ("lobby.bird.notes[-1]['b']", (1, 2)),
        ("missions['m1']['state']", "IDLE"),
        ("lobby.bird.parents[0].voice", "calm"),
        ("  lobby.bird.legs ", 2),
    ],
)
def test_a_path_reads_as_the_object_would(world: Image, path: str, value: object) -> None:
    """Own and inherited slots, items of containers and trees, parents."""
    with world.snapshot() as root:
        assert place_at(root, path).value == value


def test_a_path_to_a_method_is_that_method(world: Image) -> None:
    """With its version in force and who holds it; nothing is called."""
    with world.snapshot() as root:
        place = place_at(root, "lobby.bird.greet")
        assert place.method is not None
        assert (place.method.number, place.method.author) == (1, "genesis")
        assert place.holder is root["lobby"].traits_obj
        assert portray(place).text == "def greet(self): return self.voice\n"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "write it like"),
        ("lobby.", "write it like"),
        ("lobby.bird()", "names, slots and"),
        ("lobby.bird.notes[len]", "a key is a text"),
        ("loby", "the image has no 'loby'; it has lobby, missions"),
        ("lobby.bird.wings", "lobby.bird has no slot or method 'wings', nor inherits one"),
        ("lobby.bird.legs.x", "lobby.bird.legs is no object with slots, but a int"),
        ("lobby.bird.greet.x", "is no object with slots, but a live method"),
        ("lobby.bird[0]", "lobby.bird has no items, it is an object"),
        ("lobby.bird.notes[7]", "has no item 7; it has 2"),
        ("missions['m2']", "has no item 'm2'; it has 'm1'"),
        ("lobby" + ".x" * 600, "at most 1000 characters"),
        ("lobby.bird._methods_", "no slot or method"),
        ("lobby.bird.__class__", "no slot or method"),
        ("lobby.bird._p_jar", "no slot or method"),
    ],
)
def test_a_path_that_leads_nowhere_says_how_far_it_led(world: Image, path: str, why: str) -> None:
    """And what there is instead; the machinery of objects is not reachable."""
    with world.snapshot() as root, pytest.raises(BadPath) as caught:
        place_at(root, path)
    assert why in str(caught.value)


def test_a_portrait_says_what_is_own_and_what_is_inherited_from_whom(world: Image) -> None:
    """Slots with kind and value, methods with author, ancestors by their path."""
    with world.snapshot() as root:
        found = portray(place_at(root, "lobby.bird"))
        assert found.kind == "object"
        assert found.parents == ("lobby.traits_obj",)
        assert {entry.name: (entry.kind, entry.shown) for entry in found.entries} == {
            "legs": ("int", "2"),
            "notes": ("PersistentList", "['a', {'b': (1, 2)}]"),
        }
        assert found.methods == ()
        assert {(one.name, one.holder) for one in found.inherited} == {
            ("greet", "lobby.traits_obj"),
            ("voice", "lobby.traits_obj"),
        }
        assert len(found.oid) == len(found.tid) == 16
        (method,) = portray(place_at(root, "lobby.traits_obj")).methods
        assert (method.name, method.author) == ("greet", "genesis")


def test_a_portrait_of_a_container_and_of_a_long_value(world: Image) -> None:
    """Items up to a bound with their number, texts in full, whatever else in one line."""
    with world.transaction() as root:
        root["lobby"].long = "x" * 5000
        root["lobby"].many = list(range(500))
    with world.snapshot() as root:
        assert portray(place_at(root, "lobby.long")).text == "x" * 5000
        many = portray(place_at(root, "lobby.many"))
        assert (many.items, len(many.entries), many.entries[7].shown) == (500, 100, "7")
        (entry,) = [entry for entry in portray(place_at(root, "lobby")).entries if entry.name == "long"]
        assert len(entry.shown) <= 200
        tree = portray(place_at(root, "missions"))
        assert (tree.items, tree.entries[0].name) == (1, "'m1'")


def test_the_history_of_a_place_names_who_when_and_for_what(world: Image) -> None:
    """The newest first, with cycle and mission; a plain value's history is its object's."""
    with world.transaction(user="kernel-1", note="a thought", cycle="c1", mission="m1") as root:
        root["lobby"].bird.legs = 3
    with world.snapshot() as root:
        newest, first = changes_of(place_at(root, "lobby.bird"), 10)
        assert (newest.user, newest.note, newest.cycle, newest.mission) == ("kernel-1", "a thought", "c1", "m1")
        assert (first.user, first.note) == ("architect", "a small world")
        assert newest.tid > first.tid
        assert newest.time >= first.time
        assert newest.tid == portray(place_at(root, "lobby.bird")).tid
        assert changes_of(place_at(root, "lobby.bird.legs"), 10) == [newest, first]
        assert changes_of(place_at(root, "lobby.bird"), 1) == [newest]
    with world.at(first.tid) as root:
        assert place_at(root, "lobby.bird.legs").value == 2


def test_the_history_of_an_item_is_that_of_what_holds_it(world: Image) -> None:
    """Of a tree's item the part of the tree in which it lies; of what stands in a tuple, the container around that."""
    with world.transaction() as root:
        root["lobby"].dna = {"heat": 1, "deep": {"x": ({"y": 1}, 2)}}
        root["numbers"] = OOBTree({number: number for number in range(500)})
        root["small"] = OOBTree({None: 1, "a": 2})
    first = world.last_tid()
    with world.transaction() as root:
        root["lobby"].dna["heat"] = 2
    heated = world.last_tid()
    with world.transaction() as root:
        root["numbers"][321] = root["small"]["a"] = -1
    numbered = world.last_tid()
    with world.snapshot() as root:

        def history(path: str) -> list[str]:
            return [change.tid for change in changes_of(place_at(root, path), 10)]

        assert history("lobby.dna['heat']") == history("lobby.dna") == [heated, first]
        assert history("lobby.dna['deep']['x'][1]") == history("lobby.dna['deep']") == [first]
        assert history("lobby.dna['deep']['x'][0]['y']") == [first]
        assert history("numbers[321]") == [numbered, first]
        assert history("numbers[0]") == history("numbers[499]") == [first]
        assert history("small[None]") == history("small['a']") == [numbered, first]
        for number in range(500):
            assert number in place_at(root, f"numbers[{number}]").holder


def test_an_older_version_is_put_in_force_as_a_new_one(world: Image) -> None:
    """History is never rewritten; reverting to what is in force changes nothing; a deleted method can come back."""
    with world.transaction() as root:
        traits = root["lobby"].traits_obj
        install_method(traits, "greet", "def greet(self): return 'changed'", author="architect")
        again = revert_method(traits, "greet", 1, author="architect")
        assert (again.number, again.author) == (3, "architect")
        assert root["lobby"].bird.greet() == "calm"
        assert revert_method(traits, "greet", 1, author="architect").number == 3
        del traits.greet
        assert "greet" not in own_methods(traits)
        assert revert_method(traits, "greet", 2, author="architect").number == 4
        assert root["lobby"].bird.greet() == "changed"
        assert [version.number for version in method_history(traits, "greet")] == [1, 2, 3, 4]


def test_reverting_is_no_trust(world: Image) -> None:
    """What a cycle wrote stays that cycle's, whoever puts it in force again: it never gets into this interpreter."""
    with world.transaction() as root:
        traits = root["lobby"].traits_obj
        install_method(traits, "greet", "def greet(self):\n    return 'mine'\n", author="cycle-7")
        install_method(traits, "greet", "def greet(self): return 'ours'", author="architect")
        assert revert_method(traits, "greet", 2, author="architect").author == "cycle-7"
        assert revert_method(traits, "greet", 1, author="architect").author == "architect"


def test_a_version_that_does_not_exist(world: Image) -> None:
    """The error says which there are."""
    with world.transaction() as root:
        with pytest.raises(NoSuchVersion, match="greet has no version 7; it has 1 to 1"):
            revert_method(root["lobby"].traits_obj, "greet", 7, author="architect")
        with pytest.raises(NoSuchVersion, match="it has none"):
            revert_method(root["lobby"].traits_obj, "sing", 1, author="architect")
