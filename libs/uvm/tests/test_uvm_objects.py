"""Slots, delegation and cloning."""

from __future__ import annotations

import copy
import pickle

import pytest

from batos.uvm import (
    BadSlotName,
    Image,
    MessageNotUnderstood,
    NotStorable,
    ParentCycle,
    PersistentDict,
    PersistentList,
    PersistentSet,
    Session,
    UvmObject,
    find,
    install_method,
    lineage,
    own_methods,
    slots,
    understands,
)


def test_a_slot_that_was_written_is_read_back_by_a_later_transaction(image: Image) -> None:
    """Writing marks changed by construction: no further call is needed to persist."""
    with image.transaction() as root:
        root["lobby"].greeting = "hello"
    with image.transaction() as root:
        root["lobby"].greeting += ", world"
    with image.snapshot() as root:
        assert root["lobby"].greeting == "hello, world"


def test_a_change_in_place_is_never_lost(image: Image) -> None:
    """Plain containers become twins at every depth, so that changing what stands in them is noticed."""
    with image.transaction() as root:
        root["lobby"].notes = [{"tags": {"a"}, "lines": ["x"]}]
    with image.transaction() as root:
        note = root["lobby"].notes[0]
        note["lines"].append(["y"])
        note["tags"].add("b")
        note["more"] = {"deep": []}
        note["more"]["deep"].append(1)
    with image.transaction() as root:
        root["lobby"].notes[0]["lines"][1].append("z")
    with image.snapshot() as root:
        note = root["lobby"].notes[0]
        assert note["lines"] == ["x", ["y", "z"]]
        assert note["tags"] == {"a", "b"}
        assert note["more"]["deep"] == [1]
        assert [type(item) for item in (root["lobby"].notes, note, note["tags"])] == [
            PersistentList,
            PersistentDict,
            PersistentSet,
        ]


def test_names_are_looked_up_in_own_slots_then_depth_first_through_the_parents() -> None:
    """The left parent's ancestors come before the right parent, also where both share an ancestor."""
    top = UvmObject(a="top", b="top", c="top", d="top")
    left = UvmObject([top], b="left")
    right = UvmObject([top], b="right", c="right", d="right")
    child = UvmObject([left, right], d="own")
    assert (child.a, child.b, child.c, child.d) == ("top", "left", "top", "own")
    assert list(lineage(child)) == [child, left, top, right]
    assert find(child, "b")[0] is left


@pytest.mark.parametrize("stored", [False, True])
def test_what_an_ancestor_changes_its_heirs_see_at_once(session: Session, stored: bool) -> None:
    """Shadowing, deleting, changing parents at run time: reads are never stale, new objects or stored ones."""
    lobby = session.begin()["lobby"]
    top = UvmObject(x=1)
    middle = UvmObject([top])
    leaf = UvmObject([middle])
    if stored:
        lobby.leaf = leaf
        session.commit()
        leaf = session.begin()["lobby"].leaf
        middle, top = leaf.parents[0], leaf.parents[0].parents[0]
    assert leaf.x == 1
    top.x = 2
    assert leaf.x == 2
    middle.x = 3
    assert leaf.x == 3
    leaf.x = 4
    assert (leaf.x, middle.x) == (4, 3)
    del leaf.x
    assert leaf.x == 3
    del middle.x
    assert leaf.x == 2
    middle.parents = [UvmObject(x=5)]
    assert leaf.x == 5
    middle.parents = ()
    with pytest.raises(MessageNotUnderstood):
        _ = leaf.x
    session.abort()


def test_a_new_ancestor_of_a_stored_object_may_change_before_it_is_stored(session: Session) -> None:
    """A shape is never filled from an object that its connection does not know yet."""
    lobby = session.begin()["lobby"]
    lobby.heir = UvmObject()
    session.commit()
    heir = session.begin()["lobby"].heir
    ancestor = UvmObject(x=1)
    heir.parents = [ancestor]
    assert heir.x == 1
    ancestor.x = 2
    assert heir.x == 2
    session.savepoint()
    ancestor.x = 3
    assert heir.x == 3
    session.abort()


def test_objects_that_lost_their_image_in_an_abort_still_see_each_others_changes(session: Session) -> None:
    """A rolled back new object keeps its state, and reads through it are not served from an old shape."""
    lobby = session.begin()["lobby"]
    ancestor = UvmObject(x=1)
    heir = UvmObject([ancestor])
    lobby.heir = heir
    session.savepoint()
    assert heir.x == 1
    session.abort()
    ancestor.x = 2
    assert heir.x == 2
    session.begin()["lobby"].heir = heir
    session.commit()
    assert session.begin()["lobby"].heir.x == 2


def test_aborts_and_rollbacks_restore_what_is_inherited(session: Session) -> None:
    """Abort and rollback reach every heir, as eviction does."""
    lobby = session.begin()["lobby"]
    lobby.top = UvmObject(x=1)
    lobby.leaf = UvmObject([UvmObject([lobby.top])])
    session.commit()
    lobby = session.begin()["lobby"]
    assert lobby.leaf.x == 1
    lobby.top.x = 2
    point = session.savepoint()
    lobby.top.x = 3
    assert lobby.leaf.x == 3
    point.rollback()
    assert lobby.leaf.x == 2
    session.abort()
    lobby = session.begin()["lobby"]
    assert lobby.leaf.x == 1
    lobby.top._p_deactivate()
    assert lobby.leaf.x == 1


def test_an_unknown_message_names_receiver_and_selector(session: Session) -> None:
    """`MessageNotUnderstood` is an AttributeError, so hasattr and getattr with a default work."""
    lobby = session.begin()["lobby"]
    with pytest.raises(MessageNotUnderstood, match="does not understand 'sing'") as caught:
        lobby.sing()
    assert (caught.value.receiver, caught.value.selector) == (lobby, "sing")
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(lobby, "sing")
    assert getattr(lobby, "sing", "silence") == "silence"
    assert not understands(lobby, "sing")
    with pytest.raises(MessageNotUnderstood):
        del lobby.sing


def test_parents_cannot_form_a_cycle(session: Session) -> None:
    """The refusal says by which way the object would be its own ancestor."""
    lobby = session.begin()["lobby"]
    lobby.top = UvmObject()
    lobby.leaf = UvmObject([UvmObject(), UvmObject([lobby.top])])
    session.savepoint()
    with pytest.raises(ParentCycle, match=r"lobby\.top: .*parents\[0\]\.parents\[1\]\.parents\[0\]"):
        lobby.top.parents = [lobby.leaf]
    with pytest.raises(ParentCycle, match=r"lobby\.leaf"):
        lobby.leaf.parents = [lobby.leaf]
    assert lobby.top.parents == ()
    session.abort()
    new = UvmObject()
    with pytest.raises(ParentCycle):
        new.parents = [UvmObject([new])]


@pytest.mark.parametrize("given", [3, [3], ["lobby"], [None], UvmObject()])
def test_parents_are_objects(given: object) -> None:
    """Anything else is refused."""
    with pytest.raises(NotStorable):
        UvmObject(given)  # type: ignore[arg-type]  # that is the point
    heir = UvmObject()
    with pytest.raises(NotStorable):
        heir.parents = given


@pytest.mark.parametrize(
    "name",
    [
        "_v_cache",
        "_p_changed_",
        "__dunder__",
        "_clone_persistent_",
        "_methods_",
        "a b",
        "",
        "class",
        "None",
        "\ufb01",
        "ª",
    ],
)
def test_names_that_are_not_the_minds_are_refused(name: str) -> None:
    """Transient and machinery names are no slots; the error says why."""
    with pytest.raises(BadSlotName):
        setattr(UvmObject(), name, 1)
    with pytest.raises(BadSlotName):
        UvmObject((), **{name: 1})


def test_the_refusal_of_a_transient_name_says_whose_it_is() -> None:
    """`_v_` names would be lost silently; so they are refused aloud."""
    with pytest.raises(BadSlotName, match="_v_ are the vessel's and are never stored"):
        UvmObject()._v_socket = 1


def test_names_with_underscores_that_are_no_machinery_are_slots(image: Image) -> None:
    """The founding text's names work."""
    with image.transaction() as root:
        root["lobby"]._tmp_synthesis_data = {"mission": "x"}
    with image.snapshot() as root:
        assert root["lobby"]._tmp_synthesis_data["mission"] == "x"


def test_names_beyond_ascii_are_slots() -> None:
    """Where a source that reads them means the same name."""
    obj = UvmObject(größe=1, 名=2)
    assert (obj.größe, obj.名) == (1, 2)


def test_a_clone_names_its_ancestor_although_that_has_such_a_method() -> None:
    """A name means one thing; the rest of the clone's methods stand."""
    original = UvmObject()
    for name in ("ancestor", "say"):
        install_method(original, name, f"def {name}(self): return 1", author="genesis")
    clone = original._clone_persistent_()
    assert clone.ancestor is original
    assert (list(own_methods(clone)), slots(clone)) == (["say"], {"ancestor": original})
    del clone.ancestor
    assert not hasattr(clone, "ancestor")


def test_what_is_too_deep_is_not_cloned() -> None:
    """The refusal says where it stands."""
    deep = PersistentList()
    for _ in range(3000):
        deep = PersistentList([deep])
    with pytest.raises(NotStorable, match=r"UvmObject\.deep: it is nested too deeply"):
        UvmObject(deep=deep)._clone_persistent_()


def test_a_clone_has_its_own_slots_and_the_same_parents(image: Image) -> None:
    """Values are copied deeply, objects are referred to, the ancestor is recorded."""
    with image.transaction() as root:
        traits, friend = UvmObject(t=1), UvmObject(name="friend")
        original = UvmObject([traits], dna={"temperature": 0.5, "layers": [1, [2]]}, friend=friend, pair=(friend, [3]))
        root["lobby"].original = original
        clone = original._clone_persistent_(name="second")
        root["lobby"].clone = clone
        clone.dna["layers"][1].append(3)
        clone.pair[1].append(4)
    with image.snapshot() as root:
        original, clone = root["lobby"].original, root["lobby"].clone
        assert original.dna == {"temperature": 0.5, "layers": [1, [2]]}
        assert clone.dna == {"temperature": 0.5, "layers": [1, [2, 3]]}
        assert original.pair[1] == [3]
        assert clone.friend is original.friend
        assert clone.ancestor is original
        assert clone.parents == original.parents
        assert clone.t == 1
        assert clone.name == "second"
        assert "name" not in slots(original)


def test_slots_tells_own_data_slots_only() -> None:
    """Parents and inherited names are not among them."""
    heir = UvmObject([UvmObject(x=1)], y=2)
    assert slots(heir) == {"y": 2}
    assert {"x", "y", "parents"} <= set(dir(heir))


def test_there_are_no_domain_classes() -> None:
    """The image has one class."""
    with pytest.raises(TypeError, match="one class"):
        type("Persona", (UvmObject,), {})


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_objects_leave_the_image_neither_pickled_nor_copied(how: object) -> None:
    """Both would tear an object out of its image."""
    with pytest.raises(NotStorable, match="_clone_persistent_"):
        how(UvmObject(x=1))  # type: ignore[operator]  # three functions of one argument


def test_objects_are_themselves(session: Session) -> None:
    """Identity is equality; a text about an object never fails."""
    first, second = UvmObject(), UvmObject()
    assert first != second
    assert len({first, second, first}) == 2
    assert "not stored" in repr(first)
    assert repr(session.begin()["lobby"]).startswith("<UvmObject 0x")
