"""What a kernel makes sure of when it awakens."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from batos.kernel import genesis, interface, missions
from batos.kernel.awakening import awaken
from batos.kernel.genesis import GENESIS_MISSION_ID
from batos.kernel.registration import Registration
from batos.mind import compatibility
from batos.mind.compatibility import Incompatible, Kernel, Span
from batos.uvm import CovenantBroken, Image, install_method, revert_method, understands


def plank(name: str, *, host: Span = interface.HOST, image: Span = interface.IMAGE) -> Kernel:
    """A kernel of this release, unless it is told to be of another."""
    return Kernel(name, f"{name}-once", "0.1.0", host, image)


def test_empty_image_becomes_a_mind(empty_image: Image) -> None:
    """An empty image is filled, and genesis waits in it as a mission of its own."""
    awaken(empty_image, plank("kernel-1"))
    with empty_image.snapshot() as root:
        (genesis,) = missions.open_missions(root)
    assert (genesis.mission_id, genesis.author, genesis.state) == (GENESIS_MISSION_ID, "genesis", "ACCEPTED")


def test_awakening_again_changes_nothing(empty_image: Image) -> None:
    """A second awakening of a whole mind commits nothing, whatever became of genesis and of its text."""
    awaken(empty_image, plank("kernel-1"))
    before = empty_image.last_tid()
    awaken(empty_image, plank("kernel-1"))
    assert empty_image.last_tid() == before

    def reword(root: Any) -> None:
        missions.find(root, GENESIS_MISSION_ID).text = "An older text."

    empty_image.run(reword)
    awaken(empty_image, plank("kernel-2"))
    with empty_image.snapshot() as root:
        assert len(missions.newest(root, 10)) == 1


def test_broken_organization_is_no_awakening(empty_image: Image) -> None:
    """A mind whose organization is broken beyond what genesis can add does not awaken, and says what is wrong."""
    awaken(empty_image, plank("kernel-1"))

    def bind_what_is_not_there(root: Any) -> None:
        brick = root["lobby"].brick_prototype_obj
        brick.dna = {**dict(brick.dna), "adapters": {"m": "brick-gone"}}

    empty_image.run(bind_what_is_not_there)
    with pytest.raises(CovenantBroken, match="brick-gone"):
        awaken(empty_image, plank("kernel-1"))


def test_kernels_are_listed_in_the_image(empty_image: Image) -> None:
    """Every kernel that awakened stands in the image with what it serves, its former starts beside it until they go."""
    awaken(empty_image, plank("kernel-1"))
    awaken(empty_image, plank("kernel-2"))
    with empty_image.snapshot() as root:
        assert compatibility.registered(root) == [plank("kernel-1"), plank("kernel-2")]
    registration = Registration(empty_image, plank("kernel-2"))
    registration.keep(lambda incarnation: incarnation == "kernel-1-once")
    with empty_image.snapshot() as root:
        assert compatibility.registered(root) == [plank("kernel-2")]
    registration.leave()
    with empty_image.snapshot() as root:
        assert compatibility.registered(root) == []


def test_a_kernel_that_stands_there_is_not_asked_again(empty_image: Image) -> None:
    """What came to be in force without it does not end a kernel at work where another one is lost."""
    awaken(empty_image, plank("kernel-1"))
    awaken(empty_image, plank("kernel-2"))

    def outgrown(root: Any) -> None:  # by whatever way: nobody noted it
        source = "HOST = 9\n\n\ndef _process_synthesis_(self, cycle, host):\n    return 'FAILED'\n"
        install_method(idle(root), "_process_synthesis_", source, author="architect")

    empty_image.run(outgrown)
    Registration(empty_image, plank("kernel-2")).keep(lambda incarnation: incarnation == "kernel-1-once")
    with empty_image.snapshot() as root:
        assert compatibility.registered(root) == [plank("kernel-2")]


def test_who_has_left_does_not_come_back(empty_image: Image) -> None:
    """An awakening or a look that is still under way when the kernel ends leaves nothing in the list."""
    registration = Registration(empty_image, plank("kernel-1"))
    registration.enter()
    registration.leave()
    before = empty_image.last_tid()
    registration.enter()
    registration.keep(lambda _: False)
    with empty_image.snapshot() as root:
        assert compatibility.registered(root) == []
    assert empty_image.last_tid() == before


def test_awakening_notes_what_it_changed_of_the_organization(empty_image: Image) -> None:
    """What genesis adds to an image that lives is a change of the organization, like any other."""
    awaken(empty_image, plank("kernel-1"))

    def forget(root: Any) -> int:
        del root["lobby"].psm_prototypes_obj.VALIDATING
        return int(root["organization"].changes)

    changes = empty_image.run(forget)
    awaken(empty_image, plank("kernel-1"))
    with empty_image.snapshot() as root:
        assert (root["organization"].changes, root["organization"].author) == (changes + 1, "kernel-1")


def test_an_image_of_an_older_version_is_pointed_out(empty_image: Image) -> None:
    """As long as the image lacks the newest version, its kernels say so, with the command that helps."""
    awaken(empty_image, plank("kernel-1"))
    said: list[str] = []
    newer = plank("kernel-1", image=Span(interface.IMAGE.newest, interface.IMAGE.newest + 1))
    Registration(empty_image, newer, said.append).keep(lambda _: False)
    Registration(empty_image, plank("kernel-1"), said.append).keep(lambda _: False)
    assert said == ["the image has version 2, and this release brings it to 3: batos image migrate", ""]


def test_kernel_that_was_taken_for_gone_enters_again(empty_image: Image) -> None:
    """A kernel that others took for gone is entered again; one that the image has outgrown meanwhile is told so."""
    awaken(empty_image, plank("kernel-1"))
    registration = Registration(empty_image, plank("kernel-1"))
    empty_image.run(take_for_gone)
    registration.keep(lambda _: True)
    with empty_image.snapshot() as root:
        assert compatibility.registered(root) == [plank("kernel-1")]
    empty_image.run(take_for_gone)
    empty_image.run(lambda root: outgrow(root, interface.HOST.newest + 1))
    with pytest.raises(Incompatible, match=r"kernel-1 .* serves 1 to 2"):
        registration.keep(lambda _: True)


def take_for_gone(root: Any) -> None:
    compatibility.unregister(root, {"kernel-1-once"})


NEXT = Span(interface.HOST.newest, interface.HOST.newest + 1)
"""What the next release's host serves."""


def test_kernel_that_serves_too_little_does_not_awaken(empty_image: Image) -> None:
    """A kernel too old for a method in force does not awaken; it says which method, what it needs, and what to do."""
    awaken(empty_image, plank("kernel-1", host=NEXT))
    empty_image.run(lambda root: outgrow(root, NEXT.newest))
    before = empty_image.last_tid()
    with pytest.raises(Incompatible, match=r"IDLE\.\w+ needs host interface 3.* serves 1 to 2 .*newer release"):
        awaken(empty_image, plank("kernel-2"))
    assert empty_image.last_tid() == before
    awaken(empty_image, plank("kernel-2", host=NEXT))
    with pytest.raises(Incompatible, match=r"image version 2 .* serves 7.*batos image migrate"):
        awaken(empty_image, plank("kernel-9", image=Span(7, 7)))
    with pytest.raises(Incompatible, match=r"needs host interface 2.* serves 7 to 8 .*older release"):
        awaken(empty_image, plank("kernel-9", host=Span(7, 8)))


def test_reverting_lets_an_older_kernel_in_again(empty_image: Image) -> None:
    """What counts is the version of a method in force: once it is reverted, the older kernel awakens."""
    awaken(empty_image, plank("kernel-1", host=NEXT))
    empty_image.run(lambda root: outgrow(root, NEXT.newest))
    empty_image.run(lambda root: revert_method(idle(root), "_process_synthesis_", 1, author="architect") and None)
    awaken(empty_image, plank("kernel-1"))


def test_a_new_method_waits_for_the_last_kernel_to_be_rolled(
    empty_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release whose genesis has one method more awakens beside a kernel that does not serve it, and leaves it out."""
    awaken(empty_image, plank("kernel-1"))
    shipped = genesis.method_sources

    def more(file: str) -> dict[str, str]:
        hum = f"HOST = {NEXT.newest}\n\n\ndef hum_(self, host):\n    host.hum()\n"
        return shipped(file) | ({"hum_": hum} if file == "traits" else {})

    monkeypatch.setattr(importlib.import_module("batos.kernel.genesis.seed"), "method_sources", more)
    awaken(empty_image, plank("kernel-2", host=NEXT))
    with empty_image.snapshot() as root:
        assert not understands(root["lobby"].traits_obj, "hum_")
    Registration(empty_image, plank("kernel-1")).leave()
    awaken(empty_image, plank("kernel-2", host=NEXT))
    with empty_image.snapshot() as root:
        assert understands(root["lobby"].traits_obj, "hum_")


def idle(root: Any) -> Any:
    return root["lobby"].psm_prototypes_obj.IDLE


def outgrow(root: Any, version: int) -> None:
    """Let a method in force need a version of the host interface."""
    source = f"HOST = {version}\n\n\ndef _process_synthesis_(self, cycle, host):\n    return 'FAILED'\n"
    install_method(idle(root), "_process_synthesis_", source, author="architect")
    compatibility.note_method(root, "lobby.psm_prototypes_obj.IDLE._process_synthesis_")
