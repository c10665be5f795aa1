"""Training orders: what is to be trained, how far it is, how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from batos.mind import datasets
from batos.mind.collections import ORDERS, collection, existing
from batos.mind.errors import NotAllowed, NotFound
from batos.protocol.messages import OrderStatus
from batos.uvm import Root, UvmObject, plain

State = Literal["ORDERED", "TRAINING", "PASSED", "REFUSED", "FAILED", "LOADED", "BOUND"]

PENDING: tuple[State, ...] = ("ORDERED", "TRAINING")
"""States in which the forge still has work to do."""

FOLLOWS: dict[State, tuple[State, ...]] = {
    "ORDERED": ("TRAINING", "FAILED"),
    "TRAINING": ("TRAINING", "PASSED", "REFUSED", "FAILED"),
    "PASSED": ("LOADED", "BOUND"),
    "LOADED": ("LOADED", "BOUND"),
    "REFUSED": (),
    "FAILED": (),
    "BOUND": ("BOUND",),
}
"""Which state may follow which."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A training order as the image records it."""

    order_id: str
    persona: str
    dataset_id: str
    state: State
    author: str = "architect"
    adapter: str = ""
    base_loss: float | None = None
    candidate_loss: float | None = None
    margin: float = 0.0
    verdict: str = ""
    error: str = ""
    report: dict[str, Any] = {}
    """The trainer's whole report: settings, durations, losses, versions."""
    created_at: float = 0.0
    updated_at: float = 0.0


def create(root: Root, *, order_id: str, persona: str, dataset_id: str, author: str = "architect") -> Order:
    """Record an order. The same id twice is one order.

    Raises:
        NotFound: the image holds no such data set.
        NotAllowed: the data set is another persona's, or the id is taken by a different order.
    """
    upper = persona.upper()
    known = existing(root, ORDERS).get(order_id)
    if known is not None:
        if (known.persona, known.dataset_id) != (upper, dataset_id):
            raise NotAllowed(
                "order_exists",
                f"order {order_id} stands for {known.persona} and data set {known.dataset_id}",
                "give a new order a new id",
            )
        return get(root, order_id)
    whose = datasets.get(root, dataset_id).persona
    if whose != upper:
        raise NotAllowed("dataset_of_another", f"data set {dataset_id} holds answers of {whose}, not of {upper}")
    now = time.time()
    order = Order(
        order_id=order_id,
        persona=upper,
        dataset_id=dataset_id,
        state="ORDERED",
        author=author,
        created_at=now,
        updated_at=now,
    )
    collection(root, ORDERS)[order_id] = UvmObject(**msgspec.structs.asdict(order))
    return order


def get(root: Root, order_id: str) -> Order:
    """Return an order.

    Raises:
        NotFound: the image holds no such order.
    """
    return _order(_record(root, order_id))


def update(
    root: Root,
    order_id: str,
    *,
    state: State,
    adapter: str | None = None,
    base_loss: float | None = None,
    candidate_loss: float | None = None,
    margin: float | None = None,
    verdict: str | None = None,
    error: str | None = None,
    report: Mapping[str, Any] | None = None,
) -> Order:
    """Move an order on; what is None stays as it is.

    Raises:
        NotFound: the image holds no such order.
        NotAllowed: this state does not follow the one it is in.
    """
    record = _record(root, order_id)
    if state not in FOLLOWS[record.state]:
        raise NotAllowed("order_state", f"order {order_id} is {record.state} and cannot become {state}")
    changes = {
        "adapter": adapter,
        "base_loss": base_loss,
        "candidate_loss": candidate_loss,
        "margin": margin,
        "verdict": verdict,
        "error": error,
        "report": None if report is None else dict(report),
    }
    record.state = state
    record.updated_at = time.time()
    for slot, value in changes.items():
        if value is not None:
            setattr(record, slot, value)
    return _order(record)


def pending(root: Root) -> list[Order]:
    """Return the orders that the forge has still to work on, oldest first."""
    found = [_order(record) for record in existing(root, ORDERS).values() if record.state in PENDING]
    return sorted(found, key=lambda order: (order.created_at, order.order_id))


def all_orders(root: Root) -> list[Order]:
    """Return every order, by id."""
    return [_order(record) for record in existing(root, ORDERS).values()]


def status(order: Order) -> OrderStatus:
    """Return what the bus says of an order."""
    return OrderStatus(
        order_id=order.order_id,
        persona=order.persona,
        dataset_id=order.dataset_id,
        state=order.state,
        adapter=order.adapter,
        base_loss=order.base_loss,
        candidate_loss=order.candidate_loss,
        margin=order.margin,
        verdict=order.verdict,
        error=order.error,
    )


def _record(root: Root, order_id: str) -> Any:
    found = existing(root, ORDERS).get(order_id)
    if found is None:
        raise NotFound("order", order_id, "`batos forge run <persona>` makes one")
    return found


def _order(record: Any) -> Order:
    return Order(**{field: plain(getattr(record, field)) for field in Order.__struct_fields__})
