"""Data sets and training orders in the image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from batos.mind import Corrupt, NotAllowed, NotFound, datasets, orders
from batos.mind.datasets import Row
from batos.mind.orders import FOLLOWS, Order, State
from batos.uvm import Image


def test_a_data_set_comes_back_as_it_was_stored(image: Image, dataset_id: str, make_row: Callable[..., Row]) -> None:
    """Rows, counts and manifest of a data set are read back, and its hash covers the manifest and so both files."""
    with image.snapshot() as root:
        found = datasets.get(root, dataset_id)
        manifest = datasets.manifest(root, dataset_id)
        train = datasets.read(root, dataset_id, "train")
        held_out = datasets.read(root, dataset_id, "held_out")
    assert (found.persona, found.rows, found.train_rows, found.held_out_rows) == ("BRICK", 10, 8, 2)
    assert datasets.decode_rows(train) == [make_row(number) for number in range(8)]
    assert datasets.decode_rows(held_out) == [make_row(8), make_row(9)]
    assert found.sha256 == hashlib.sha256(datasets.encode_manifest(manifest)).hexdigest()
    assert manifest.train_sha256 == hashlib.sha256(train).hexdigest()
    assert manifest.counts == {"answers": 10, "train": 8, "held_out": 2}
    assert [(origin.split, origin.cycle_id, origin.seq) for origin in manifest.rows][-1] == ("held_out", "cycle-9", 9)
    line = msgspec.json.decode(train.splitlines()[0])
    assert [message["role"] for message in line["messages"]] == ["system", "user", "assistant"]
    assert {"cycle_id", "mission_id", "seq", "incarnation"} <= set(line)


def test_the_same_id_is_one_data_set(image: Image, dataset_id: str, make_row: Callable[..., Row]) -> None:
    """A data set that is stored again under its id stays as it was first."""
    with image.transaction() as root:
        before = datasets.get(root, dataset_id)
        again = datasets.add(
            root, dataset_id=dataset_id, persona="ROBIN", query="", train=[make_row(1)], held_out=[], counts={}
        )
        assert again == before


def test_changed_rows_are_noticed(image: Image, dataset_id: str) -> None:
    """Rows that are not those of the manifest are refused."""
    with image.transaction() as root, root["datasets"][dataset_id].train.open("w") as blob:
        blob.write(b"{}")
    with image.snapshot() as root, pytest.raises(Corrupt, match="train"):
        datasets.read(root, dataset_id, "train")


def test_unknown_ones_are_named(image: Image) -> None:
    """An unknown data set and an unknown order are errors that name them."""
    with image.snapshot() as root:
        with pytest.raises(NotFound, match="d9"):
            datasets.read(root, "d9", "train")
        with pytest.raises(NotFound, match="o9"):
            orders.get(root, "o9")


def test_an_order_is_created_once(image: Image, order: Order) -> None:
    """The same order again is the same order; its id for anything else is refused."""
    with image.transaction() as root:
        assert orders.create(root, order_id="o1", persona="brick", dataset_id="d1") == order
        with pytest.raises(NotAllowed, match="o1"):
            orders.create(root, order_id="o1", persona="BRICK", dataset_id="d2")


def test_an_order_needs_a_data_set_of_its_persona(image: Image, dataset_id: str) -> None:
    """An order for an unknown data set, or for another persona's, is refused."""
    with image.transaction() as root:
        with pytest.raises(NotFound, match="d9"):
            orders.create(root, order_id="o2", persona="BRICK", dataset_id="d9")
        with pytest.raises(NotAllowed, match="BRICK"):
            orders.create(root, order_id="o2", persona="ROBIN", dataset_id=dataset_id)


def test_an_order_runs_its_course(image: Image, order: Order) -> None:
    """An order is pending until it is decided, keeps its figures, and tells them to the bus."""
    with image.transaction() as root:
        assert [found.order_id for found in orders.pending(root)] == [order.order_id]
        orders.update(root, "o1", state="TRAINING")
        orders.update(root, "o1", state="TRAINING")
        assert [found.state for found in orders.pending(root)] == ["TRAINING"]
        orders.update(
            root, "o1", state="PASSED", adapter="brick-1", base_loss=2.0, candidate_loss=1.0, margin=0.02, verdict="won"
        )
        assert orders.pending(root) == []
        orders.update(root, "o1", state="LOADED")
        orders.update(root, "o1", state="BOUND")
    with image.snapshot() as root:
        found = orders.get(root, "o1")
        assert orders.all_orders(root) == [found]
    told = orders.status(found)
    assert (told.state, told.adapter, told.base_loss, told.candidate_loss) == ("BOUND", "brick-1", 2.0, 1.0)
    assert (told.margin, told.verdict, told.error) == (0.02, "won", "")


@pytest.mark.parametrize(
    ("states", "refused"),
    [(["TRAINING", "FAILED"], "PASSED"), (["TRAINING", "REFUSED"], "BOUND"), ([], "PASSED"), (["FAILED"], "TRAINING")],
)
def test_an_order_goes_no_other_way(image: Image, order: Order, states: list[State], refused: State) -> None:
    """What does not follow is refused: nothing refused or failed is ever bound."""
    with image.transaction() as root:
        for state in states:
            orders.update(root, order.order_id, state=state)
        with pytest.raises(NotAllowed, match=refused):
            orders.update(root, order.order_id, state=refused)


def test_every_state_is_reached() -> None:
    """Each state of an order has an entry, and every one but the first follows another."""
    assert {state for following in FOLLOWS.values() for state in following} | {"ORDERED"} == set(FOLLOWS)
