"""Orders and bindings over the bus: what is bound is what the next thought asks with."""

from __future__ import annotations

from typing import Any

import pytest
from integration.kernel_fixtures import MODEL_HASH, MindUnderTest, ScriptedInference

from batos.mind import adapters, archive, datasets, orders
from batos.mind.datasets import Row
from batos.protocol import (
    AdapterBound,
    AdapterPromote,
    AdapterRollback,
    ChatMessage,
    OrderCreate,
    OrderGet,
    OrderStatus,
    RemoteError,
    new_id,
)

pytestmark = pytest.mark.timeout(180)


def stored(mind: MindUnderTest) -> str:
    dataset_id = new_id()
    row = Row(messages=(ChatMessage("user", "x"),), cycle_id="c", mission_id="m", seq=0, incarnation="i")

    def work(root: Any) -> None:
        datasets.add(root, dataset_id=dataset_id, persona="BRICK", query="q", train=[row], held_out=[row], counts={})

    mind.image.run(work)
    return dataset_id


def passed(mind: MindUnderTest, order_id: str, dataset_id: str) -> None:
    """Do what the forge does: train, judge, store the candidate."""

    def work(root: Any) -> None:
        orders.update(root, order_id, state="TRAINING")
        name = adapters.add_candidate(
            root,
            persona_name="BRICK",
            model_hash=MODEL_HASH,
            archive=archive.pack(b"{}", b"weights"),
            gate={"passed": True},
            dataset_id=dataset_id,
            dataset_sha256="0" * 64,
            order_id=order_id,
            training={},
        )
        orders.update(root, order_id, state="PASSED", adapter=name)

    mind.image.run(work)


async def test_promoted_adapter_answers_next(mind: MindUnderTest) -> None:
    """An order's adapter is loaded by every replica and bound; the next thought asks with it, until a rollback."""
    await mind.begin()
    second = ScriptedInference()
    second.gate.set()
    await mind.start_engine("inference-2", second)
    mind.start_kernel("kernel-1")
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-1", "kernel-2")
    dataset_id, order_id = stored(mind), new_id()

    async def ask(body: Any, reply: Any) -> Any:
        return await mind.client.request("kernel", body, reply, timeout_s=20)

    order = await ask(OrderCreate(order_id=order_id, persona="brick", dataset_id=dataset_id), OrderStatus)
    assert order.state == "ORDERED"
    with pytest.raises(RemoteError) as early:
        await ask(AdapterPromote(order_id=order_id, approver="architect"), AdapterBound)
    assert early.value.code == "order_not_passed"
    passed(mind, order_id, dataset_id)
    bound = await ask(AdapterPromote(order_id=order_id, approver="architect"), AdapterBound)
    assert mind.engine.loaded == second.loaded == [bound.adapter]
    assert await ask(AdapterPromote(order_id=order_id, approver="architect"), AdapterBound) == bound
    assert (await ask(OrderGet(order_id=order_id), OrderStatus)).state == "BOUND"
    with_it = await mind.wait(await mind.submit("Name a boat.", weaver="brick"))
    assert (with_it.weaver, with_it.adapter, with_it.dna_version) == ("BRICK", bound.adapter, 2)
    request = AdapterRollback(persona="brick", approver="architect", request_id=new_id())
    back = await ask(request, AdapterBound)
    assert (back.adapter, back.previous, back.dna_version) == ("", bound.adapter, 3)
    assert await ask(request, AdapterBound) == back
    without = await mind.wait(await mind.submit("Name a boat.", weaver="brick"))
    assert (without.adapter, without.dna_version) == ("", 3)
