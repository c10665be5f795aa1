"""An image in a file with a whole organization in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batos.mind import LOBBY_SLOTS, PERSONAS, create_collections, datasets, lobby, orders, persona_slot
from batos.mind.datasets import Row
from batos.mind.orders import Order
from batos.protocol import ChatMessage
from batos.uvm import Image, Root, UvmObject, open_image

MODEL = "a" * 64
STATES = ("IDLE", "DECOMPOSING", "DELEGATING", "SYNTHESIZING", "VALIDATING", "COMPLETE", "FAILED")


def make_organization(root: Root) -> None:
    front = lobby(root)
    for slot in LOBBY_SLOTS:
        setattr(front, slot, UvmObject())
    for name in PERSONAS:
        dna: dict[str, Any] = {"temperature": 0.5, "base_model_id": "", "version": 1, "adapters": {}, "previous": {}}
        pillars = {f"pillar_{number}_facet_": "Be one of three." for number in range(3)}
        codex = {"voice": f"I am {name}."}
        setattr(front, persona_slot(name), UvmObject(name=name, dna=dna, codex=codex, pillars=pillars))
    states = {name: UvmObject(name=name, persona="ORCHESTRATOR", _process_synthesis_="stands here") for name in STATES}
    front.psm_prototypes_obj = UvmObject(**states)
    create_collections(root)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with open_image(f"file://{tmp_path}/image.fs?blob_dir={tmp_path}/blobs") as found:
        found.run(make_organization)
        yield found


@pytest.fixture
def make_row() -> Callable[..., Row]:
    def make(number: int, *, cycle: str = "", answer: str = "") -> Row:
        return Row(
            messages=(
                ChatMessage("system", "You take things apart."),
                ChatMessage("user", f"Task number {number}"),
                ChatMessage("assistant", answer or f"First step {number}, then the next."),
            ),
            cycle_id=cycle or f"cycle-{number}",
            mission_id=f"mission-{number}",
            seq=number,
            incarnation="one",
        )

    return make


@pytest.fixture
def dataset_id(image: Image, make_row: Callable[..., Row]) -> str:
    rows = [make_row(number) for number in range(10)]
    with image.transaction() as root:
        datasets.add(
            root,
            dataset_id="d1",
            persona="brick",
            query="all",
            train=rows[:8],
            held_out=rows[8:],
            counts={"answers": 10},
        )
    return "d1"


@pytest.fixture
def order(image: Image, dataset_id: str) -> Order:
    with image.transaction() as root:
        return orders.create(root, order_id="o1", persona="BRICK", dataset_id=dataset_id)
