"""What a kernel makes sure of when it awakens."""

from __future__ import annotations

from typing import Any

import pytest

from batos.kernel import missions
from batos.kernel.awakening import awaken
from batos.kernel.genesis import GENESIS_MISSION_ID
from batos.uvm import CovenantBroken, Image


def test_empty_image_becomes_a_mind(empty_image: Image) -> None:
    """An empty image is filled, and genesis waits in it as a mission of its own."""
    awaken(empty_image, "kernel-1")
    with empty_image.snapshot() as root:
        (genesis,) = missions.open_missions(root)
    assert (genesis.mission_id, genesis.author, genesis.state) == (GENESIS_MISSION_ID, "genesis", "ACCEPTED")


def test_awakening_again_changes_nothing(empty_image: Image) -> None:
    """A second awakening of a whole mind commits nothing, whatever became of genesis and of its text."""
    awaken(empty_image, "kernel-1")
    before = empty_image.last_tid()
    awaken(empty_image, "kernel-2")
    assert empty_image.last_tid() == before

    def reword(root: Any) -> None:
        missions.find(root, GENESIS_MISSION_ID).text = "An older text."

    empty_image.run(reword)
    awaken(empty_image, "kernel-2")
    with empty_image.snapshot() as root:
        assert len(missions.newest(root, 10)) == 1


def test_broken_organization_is_no_awakening(empty_image: Image) -> None:
    """A mind whose organization is broken beyond what genesis can add does not awaken, and says what is wrong."""
    awaken(empty_image, "kernel-1")

    def bind_what_is_not_there(root: Any) -> None:
        brick = root["lobby"].brick_prototype_obj
        brick.dna = {**dict(brick.dna), "adapters": {"m": "brick-gone"}}

    empty_image.run(bind_what_is_not_there)
    with pytest.raises(CovenantBroken, match="brick-gone"):
        awaken(empty_image, "kernel-1")
