"""Whether a transaction touched the organization: every part of it is known, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from BTrees.OOBTree import OOBTree

from batos.mind import compatibility, keep_organization
from batos.mind.collections import repository
from batos.mind.compatibility import Incompatible, Kernel, Span
from batos.uvm import CovenantBroken, Image, Root, UvmObject, changed_in, install_method

Change = Callable[[Root, Any], Any]
METHOD = "def greet_(self):\n    return 'hello'\n"
PARTS: dict[str, Change] = {
    "the lobby": lambda _root, lobby: setattr(lobby, "motto", "on"),
    "a persona": lambda _root, lobby: setattr(lobby.brick_prototype_obj, "mood", "glad"),
    "a persona's method": lambda _root, lobby: install_method(
        lobby.babs_prototype_obj, "greet_", METHOD, author="architect"
    ),
    "a codex": lambda _root, lobby: lobby.alfred_prototype_obj.codex.update(voice="I am he."),
    "deep in a codex": lambda _root, lobby: lobby.alfred_prototype_obj.codex["laws"][0].append("first"),
    "dna": lambda _root, lobby: lobby.robin_prototype_obj.dna.update(version=2),
    "whom a persona inherits from": lambda _root, lobby: setattr(lobby.family, "mood", "glad"),
    "a state": lambda _root, lobby: setattr(lobby.psm_prototypes_obj.IDLE, "tries", 1),
    "a new state": lambda _root, lobby: setattr(lobby.psm_prototypes_obj, "DREAMING", UvmObject()),
    "the cycles' prototype": lambda _root, lobby: setattr(lobby.orchestrator_obj.cycle_prototype, "mood", "glad"),
    "the adapters' repository": lambda root, _lobby: repository(root).update({"other": UvmObject()}),
    "deep in the repository": lambda root, _lobby: repository(root).update({"brick_050": UvmObject()}),
    "the root": lambda root, _lobby: root.update(more=OOBTree()),
}
OTHERS: dict[str, Change] = {
    "nothing": lambda _root, _lobby: None,
    "what is new": lambda _root, lobby: UvmObject([lobby.traits_obj], n=1),
    "memory": lambda _root, lobby: lobby.knowledge_catalog_obj.documents.update({"a": 1}),
    "a collection": lambda root, _lobby: root["orders"].update({"a": UvmObject()}),
    "what was cloned": lambda _root, lobby: setattr(lobby.robin_prototype_obj.ancestor, "mood", "glad"),
    "an object of its own": lambda root, _lobby: setattr(root["aside"]["one"], "mood", "glad"),
    "an adapter's record": lambda root, _lobby: setattr(repository(root)["brick_001"], "gate", 1),
}


@pytest.fixture
def grown(image: Image) -> Image:
    """An organization with laws, a family, adapters, memory, and something beside all of it."""

    def work(root: Root) -> None:
        lobby = root["lobby"]
        lobby.family = UvmObject(name="family")
        lobby.brick_prototype_obj.parents = [lobby.family]
        lobby.alfred_prototype_obj.codex["laws"] = [[]]
        lobby.orchestrator_obj.cycle_prototype = UvmObject()
        lobby.knowledge_catalog_obj.documents = OOBTree()
        lobby.robin_prototype_obj.ancestor = UvmObject()
        repository(root).update({f"brick_{number:03}": UvmObject() for number in range(400)})
        root["aside"] = OOBTree({"one": UvmObject()})

    image.run(work)
    return image


def noted(image: Image, change: Change, *, savepoint: bool) -> tuple[bool, int]:
    """Whether a change is one of the organization, and how many changes its record counts afterwards."""
    with image.session() as session:
        root = session.begin()
        change(root, root["lobby"])
        if savepoint:
            session.savepoint()
        touched = keep_organization(root, "cycle-1")
        session.commit()
        session.begin()
        count: int = session.root["organization"].changes
        return touched, count


@pytest.mark.parametrize("savepoint", [False, True], ids=["plain", "after a savepoint"])
@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS.keys())
def test_a_change_of_the_organization_is_noted(grown: Image, change: Change, *, savepoint: bool) -> None:
    """Wherever it was made, the record of the organization is written with it."""
    assert noted(grown, change, savepoint=savepoint) == (True, 1)
    with grown.snapshot() as root:
        assert root["organization"].author == "cycle-1"


@pytest.mark.parametrize("savepoint", [False, True], ids=["plain", "after a savepoint"])
@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_other_changes_are_none(grown: Image, change: Change, *, savepoint: bool) -> None:
    """So thoughts that leave the organization alone never meet each other at its record."""
    assert noted(grown, change, savepoint=savepoint) == (False, 0)


def test_what_was_rolled_back_was_not_changed(grown: Image) -> None:
    """Neither in memory nor in what the savepoint keeps."""
    with grown.session() as session:
        root = session.begin()
        root["aside"]["one"].mood = "glad"
        point = session.savepoint()
        root["lobby"].brick_prototype_obj.mood = "glad"
        session.savepoint()
        assert len(changed_in(root)) == 2
        point.rollback()
        assert changed_in(root) == {root["aside"]["one"]._p_oid}
        assert not keep_organization(root, "cycle-1")


def test_what_is_known_to_be_none_of_it_costs_nothing(grown: Image) -> None:
    """Nothing is looked at, where that is all that was changed."""
    with grown.session() as session:
        root = session.begin()
        one = root["aside"]["one"]
        one.mood = "glad"
        root._p_jar.cacheMinimize()  # type: ignore[attr-defined]
        assert not keep_organization(root, "cycle-1", besides={one._p_oid})
        assert root["lobby"]._p_changed is None


def test_an_organization_that_is_not_whole_is_refused(grown: Image) -> None:
    """Whoever broke it."""
    with grown.session() as session:
        root = session.begin()
        root["lobby"].babs_prototype_obj.codex.clear()
        with pytest.raises(CovenantBroken, match=r"babs_prototype_obj\.codex"):
            keep_organization(root, "cycle-1")


def test_a_change_that_no_kernel_serves_is_no_change(image: Image) -> None:
    """What a thought or an undo puts in force is looked at as what the Architect installs is."""
    image.run(lambda root: compatibility.register(root, Kernel("kernel-1", "k1", "0.1.0", Span(1, 2), Span(1, 2))))
    path = "lobby.traits_obj.hum_"

    def install(root: Root, version: int) -> None:
        source = f"HOST = {version}\n\n\ndef hum_(self):\n    pass\n"
        install_method(root["lobby"].traits_obj, "hum_", source, author="architect")

    def noted(root: Root) -> None:
        install(root, 1)
        compatibility.note_method(root, path)

    image.run(noted)

    def thought(root: Root) -> None:
        install(root, 9)
        keep_organization(root, "cycle-1")

    with pytest.raises(Incompatible, match=f"{path} needs host interface 9, and kernel-1"):
        image.run(thought)
    with image.snapshot() as root:
        assert compatibility.host_needs(root) == {path: 1}
