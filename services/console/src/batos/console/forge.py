"""One turn of the learning loop: curate, order, train, compare, approve, bind; and its undoing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from batos.console import past
from batos.console.errors import ConsoleError, StillRunning
from batos.console.fleet import Fleet
from batos.console.progress import Moving, with_progress
from batos.protocol import (
    AdapterBound,
    AdapterPromote,
    AdapterRollback,
    Curate,
    DatasetBuilt,
    Message,
    OrderCreate,
    OrderGet,
    OrderStatus,
    RequestTimeout,
    new_id,
)

POLL_S = 1.0
"""Seconds between two looks at an order; its progress comes by events meanwhile."""
CURATE_S = 600.0
"""Seconds that reading the logs and building a data set may take."""
PROMOTE_S = 300.0
"""Seconds that every replica together may take to load an adapter, and the binding."""
APPROVER = "architect"
JUDGED = frozenset({"PASSED", "REFUSED", "FAILED", "LOADED", "BOUND"})

M = TypeVar("M", bound=Message)


async def curate(fleet: Fleet, persona: str, moving: Moving) -> DatasetBuilt:
    """Have the logs read and the data set of a persona built."""
    request = new_id()
    async with with_progress(fleet, f"progress/curate/{request}", moving, "curating"):
        return await fleet.request(
            "curator", Curate(persona=persona, request_id=request), DatasetBuilt, timeout_s=CURATE_S
        )


async def train(
    fleet: Fleet, dataset: DatasetBuilt, moving: Moving, *, timeout_s: float, request_s: float
) -> OrderStatus:
    """Order the training on a data set and return the order once it is judged.

    Raises:
        StillRunning: it is not judged within `timeout_s` seconds; the forge goes on.
    """
    order_id = new_id()
    async with with_progress(fleet, f"progress/forge/{order_id}", moving, "training"):
        body = OrderCreate(order_id=order_id, persona=dataset.persona, dataset_id=dataset.dataset_id)
        await fleet.request("kernel", body, OrderStatus, timeout_s=request_s)
        return await judged(fleet, order_id, timeout_s=timeout_s, request_s=request_s)


async def judged(fleet: Fleet, order_id: str, *, timeout_s: float, request_s: float) -> OrderStatus:
    """Return an order once it is judged. A kernel or forge that restarts meanwhile is no reason to give up."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                with suppress(RequestTimeout):
                    order = await order_status(fleet, order_id, request_s=request_s)
                    if order.state in JUDGED:
                        return order
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise StillRunning(
            "order_running",
            f"order {order_id} is not judged within {timeout_s:g} s and goes on",
            f"see how it stands with `batos forge status {order_id}`",
        ) from None


async def order_status(fleet: Fleet, order_id: str, *, at: str = "", request_s: float) -> OrderStatus:
    """Return how a training order stands, or stood at a moment."""
    return await past.look(fleet, OrderGet(order_id=order_id, at=at), OrderStatus, at=at, request_s=request_s)


async def promote(fleet: Fleet, order_id: str) -> AdapterBound:
    """Have every replica load the order's adapter, then bind it to its persona."""
    body = AdapterPromote(order_id=order_id, approver=APPROVER)
    return await fleet.request("kernel", body, AdapterBound, timeout_s=PROMOTE_S)


async def rollback(fleet: Fleet, persona: str, *, request_s: float) -> AdapterBound:
    """Bind what was bound before."""
    body = AdapterRollback(persona=persona, approver=APPROVER, request_id=new_id())
    return await fleet.request("kernel", body, AdapterBound, timeout_s=request_s)


def gain(order: OrderStatus) -> float | None:
    """Return by which share of the base's loss the candidate's is lower; None where it was not measured."""
    if order.base_loss is None or order.candidate_loss is None or order.base_loss <= 0:
        return None
    return (order.base_loss - order.candidate_loss) / order.base_loss


def verdict(order: OrderStatus) -> str:
    """Say in words how the candidate did against the base."""
    share = gain(order)
    if order.base_loss is None or order.candidate_loss is None or share is None:
        return order.verdict or order.error or f"order {order.order_id} is {order.state}"
    better = f"{abs(share):.1%} {'lower' if share >= 0 else 'higher'}"
    return (
        f"held-out loss of the base {order.base_loss:.4f}, of the candidate {order.candidate_loss:.4f}: {better}, "
        f"asked for is {order.margin:.1%} lower"
    )


def as_data(
    order: OrderStatus, dataset: DatasetBuilt | None = None, bound: AdapterBound | None = None
) -> dict[str, Any]:
    """Return what the forge commands say with `--json`."""
    return {**_fields(dataset), **_fields(bound), **_fields(order), "gain": gain(order)}


def bound_data(bound: AdapterBound) -> dict[str, Any]:
    """Return what `forge rollback --json` says."""
    return _fields(bound)


def refused(order: OrderStatus) -> ConsoleError:
    """Return why an order's adapter is not bound."""
    if order.state == "FAILED":
        return ConsoleError("training_failed", f"the training failed: {order.error or order.verdict}")
    return ConsoleError("candidate_lost", f"the candidate does not win and is not promoted: {verdict(order)}")


def _fields(message: Message | None) -> dict[str, Any]:
    if message is None:
        return {}
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields.pop("type", None)
    return fields
