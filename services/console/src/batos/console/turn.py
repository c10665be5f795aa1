"""The forge's commands: a turn of the loop with its approval, the approval alone, and the way back."""

from __future__ import annotations

import asyncio

from batos.console import forge
from batos.console.errors import DONE, MISSION_FAILED, WRONG_USAGE
from batos.console.fleet import Fleet
from batos.console.progress import Moving
from batos.console.show import Screen
from batos.protocol import AdapterBound, DatasetBuilt, OrderStatus

ASKED_FOR = frozenset({"y", "yes"})


async def turn(fleet: Fleet, screen: Screen, persona: str, *, yes: bool, timeout_s: float, request_s: float) -> int:
    """Curate, train, compare, ask for approval, bind; return the exit code."""
    with Moving(screen) as moving:
        dataset = await forge.curate(fleet, persona, moving)
        moving.keep(
            f"data set {dataset.dataset_id}: {dataset.train_rows} rows to train on, {dataset.held_out_rows} held out"
        )
        try:
            order = await forge.train(fleet, dataset, moving, timeout_s=timeout_s, request_s=request_s)
        except asyncio.CancelledError:
            screen.warn("\nan order that was made goes on without this command")
            raise
        moving.keep(f"order {order.order_id}: {order.state}")
    if order.state in {"REFUSED", "FAILED"}:
        screen.result(forge.as_data(order, dataset))
        screen.failed(forge.refused(order))
        return MISSION_FAILED
    screen.say(forge.verdict(order))
    if not yes and not await _approved(screen, order):
        return _left(screen, order, dataset)
    return await _bind(fleet, screen, order, dataset, request_s=request_s)


async def approve(fleet: Fleet, screen: Screen, order_id: str, *, request_s: float) -> int:
    """Bind the adapter of an order that passed; return the exit code."""
    order = await forge.order_status(fleet, order_id, request_s=request_s)
    return await _bind(fleet, screen, order, None, request_s=request_s)


async def undo(fleet: Fleet, screen: Screen, persona: str, *, request_s: float) -> int:
    """Bind what a persona answered with before; return the exit code."""
    bound = await forge.rollback(fleet, persona, request_s=request_s)
    screen.result(forge.bound_data(bound))
    screen.say(_bound_text(bound))
    return DONE


async def _approved(screen: Screen, order: OrderStatus) -> bool:
    """Ask the Architect, where there is one at a terminal."""
    if not screen.interactive or screen.as_json:
        return False
    question = f"bind {order.adapter} to {order.persona}? [y/N] "
    try:
        answer = await asyncio.to_thread(input, question)
    except EOFError:
        return False
    return answer.strip().lower() in ASKED_FOR


def _left(screen: Screen, order: OrderStatus, dataset: DatasetBuilt) -> int:
    """Say that the candidate waits for its approval."""
    screen.result(forge.as_data(order, dataset))
    screen.warn(f"not approved, so not bound; approve it later with `batos forge promote {order.order_id}`")
    return WRONG_USAGE


async def _bind(
    fleet: Fleet, screen: Screen, order: OrderStatus, dataset: DatasetBuilt | None, *, request_s: float
) -> int:
    with Moving(screen) as moving:
        moving.show(f"every replica loads {order.adapter}, then it is bound")
        bound = await forge.promote(fleet, order.order_id)
        after = await forge.order_status(fleet, order.order_id, request_s=request_s)
    screen.result(forge.as_data(after, dataset, bound))
    screen.say(_bound_text(bound))
    return DONE


def _bound_text(bound: AdapterBound) -> str:
    return (
        f"{bound.persona} answers with {bound.adapter or 'the base model'} now "
        f"(before: {bound.previous or 'the base model'}; DNA version {bound.dna_version}, transaction {bound.tid})"
    )
