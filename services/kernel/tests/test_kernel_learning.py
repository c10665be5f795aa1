"""Training orders and bindings, as a kernel handles them."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from batos.kernel.answering import persona_view
from batos.kernel.learning import Learning
from batos.kernel.metrics import KernelMetrics
from batos.mind import adapters, archive, datasets, orders
from batos.mind.datasets import Row
from batos.protocol import (
    AdapterLoad,
    AdapterPromote,
    AdapterRollback,
    AdaptersLoaded,
    ChatMessage,
    EngineDescribe,
    EngineDescription,
    Message,
    OrderCreate,
    OrderGet,
    ProtocolError,
    RequestContext,
    RequestFailed,
    RequestTimeout,
    Roster,
    RosterGet,
    VesselCard,
    new_id,
)
from batos.uvm import CommitFateUnknown, Image, Session

MODEL = "m" * 64
CONTEXT = RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)


class Replicas:
    """A bus with two inference vessels that load what they are told, or do not."""

    def __init__(self) -> None:
        self.names = ["inference-1", "inference-2"]
        self.loaded: list[str] = []
        self.fault: ProtocolError | None = None
        self.forgets = False

    async def request(self, service: str, body: Message, reply: type[Message], **_other: Any) -> Message:
        if isinstance(body, RosterGet):
            cards = [
                VesselCard(name=name, kind=name.partition("-")[0], incarnation=name, pid=1, version="0", started_at=0.0)
                for name in (*self.names, "kernel-1")
            ]
            return Roster(bus_incarnation="b", bus_started_at=0.0, vessels=tuple(cards))
        if isinstance(body, EngineDescribe):
            return EngineDescription(engine="e", model="m", model_hash=MODEL, context_tokens=100, slots=1)
        assert isinstance(body, AdapterLoad)
        assert reply is AdaptersLoaded
        if self.fault is not None and service == "inference/inference-2":
            raise self.fault
        self.loaded.append(service)
        return AdaptersLoaded(adapters=() if self.forgets else (body.adapter,))


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


@pytest.fixture
def learning(image: Image, replicas: Replicas) -> Learning:
    return Learning(
        peer=replicas,  # type: ignore[arg-type]
        image=image,
        kernel="kernel-1",
        load_timeout_s=1,
        metrics=KernelMetrics(CollectorRegistry()),
    )


@pytest.fixture
def dataset_id(image: Image) -> str:
    dataset = new_id()
    row = Row(messages=(ChatMessage("user", "x"),), cycle_id="c", mission_id="m", seq=0, incarnation="i")
    image.run(
        lambda root: datasets.add(
            root, dataset_id=dataset, persona="BRICK", query="q", train=[row], held_out=[row], counts={}
        )
    )
    return dataset


def judged(image: Image, dataset_id: str, *, state: Any = "PASSED", weights: bytes = b"w") -> str:
    order_id = new_id()

    def work(root: Any) -> None:
        orders.create(root, order_id=order_id, persona="brick", dataset_id=dataset_id)
        orders.update(root, order_id, state="TRAINING")
        name = adapters.add_candidate(
            root,
            persona_name="BRICK",
            model_hash=MODEL,
            archive=archive.pack(b"{}", weights),
            gate={"passed": state == "PASSED"},
            dataset_id=dataset_id,
            dataset_sha256="0" * 64,
            order_id=order_id,
            training={},
        )
        orders.update(root, order_id, state=state, adapter=name, verdict="by 3 %")

    image.run(work)
    return order_id


def dna(image: Image) -> dict[str, Any]:
    with image.snapshot() as root:
        return persona_view(root, "BRICK").dna


async def test_order_is_made_once(learning: Learning, dataset_id: str) -> None:
    """An order is recorded for a data set; the same id again is the same order; what is wrong is refused by name."""
    order_id = new_id()
    message = OrderCreate(order_id=order_id, persona="brick", dataset_id=dataset_id)
    first = await learning.create_order(message, CONTEXT)
    assert (first.state, first.persona) == ("ORDERED", "BRICK")
    assert await learning.create_order(message, CONTEXT) == first
    assert await learning.get_order(OrderGet(order_id=order_id), CONTEXT) == first
    for wrong, code in (
        (OrderCreate(order_id="?", persona="brick", dataset_id=dataset_id), "order_id_invalid"),
        (OrderCreate(order_id=new_id(), persona="brick", dataset_id="none"), "dataset_unknown"),
        (OrderCreate(order_id=new_id(), persona="robin", dataset_id=dataset_id), "dataset_of_another"),
    ):
        with pytest.raises(RequestFailed) as refused:
            await learning.create_order(wrong, CONTEXT)
        assert refused.value.code == code
    with pytest.raises(RequestFailed) as unknown:
        await learning.get_order(OrderGet(order_id=new_id()), CONTEXT)
    assert unknown.value.code == "order_unknown"


async def test_promotion_binds_once(image: Image, learning: Learning, replicas: Replicas, dataset_id: str) -> None:
    """Every replica loads the adapter, then one transaction binds it and ends the order; again it changes nothing."""
    order_id = judged(image, dataset_id)
    message = AdapterPromote(order_id=order_id, approver="architect")
    bound = await learning.promote(message, CONTEXT)
    assert sorted(replicas.loaded) == ["inference/inference-1", "inference/inference-2"]
    assert dna(image)["adapters"] == {MODEL: bound.adapter}
    assert (bound.persona, bound.previous, bound.dna_version) == ("BRICK", "", 2)
    with image.at(bound.tid) as root:
        assert orders.get(root, order_id).state == "BOUND"
        assert persona_view(root, "BRICK").dna["adapters"] == {MODEL: bound.adapter}
    replicas.loaded.clear()
    assert await learning.promote(message, CONTEXT) == bound
    assert replicas.loaded == []


@pytest.mark.parametrize("state", ["REFUSED", "FAILED"])
async def test_only_what_passed_is_promoted(image: Image, learning: Learning, dataset_id: str, state: str) -> None:
    """An adapter that the gate refused is never bound, and the error says what the gate found."""
    with pytest.raises(RequestFailed) as refused:
        await learning.promote(
            AdapterPromote(order_id=judged(image, dataset_id, state=state), approver="architect"), CONTEXT
        )
    assert refused.value.code == "order_not_passed"
    assert "by 3 %" in refused.value.message
    assert dna(image)["adapters"] == {}


@pytest.mark.parametrize("fault", ["timeout", "forgets", "nobody"])
async def test_nothing_is_bound_that_a_replica_lacks(
    image: Image, learning: Learning, replicas: Replicas, dataset_id: str, fault: str
) -> None:
    """Where a replica does not confirm the adapter, or there is none, nothing is bound; it can be tried again."""
    if fault == "timeout":
        replicas.fault = RequestTimeout("inference/inference-2", "AdapterLoad", 1.0)
    elif fault == "forgets":
        replicas.forgets = True
    else:
        replicas.names = []
    order_id = judged(image, dataset_id)
    message = AdapterPromote(order_id=order_id, approver="architect")
    with pytest.raises(RequestFailed) as refused:
        await learning.promote(message, CONTEXT)
    assert refused.value.code in {"adapter_not_loaded", "no_replica"}
    assert dna(image)["adapters"] == {}
    replicas.fault, replicas.forgets, replicas.names = None, False, ["inference-1"]
    assert (await learning.promote(message, CONTEXT)).dna_version == 2


async def test_rollback_binds_what_was_before(image: Image, learning: Learning, dataset_id: str) -> None:
    """A rollback goes back one binding, once per request; without a binding it is refused."""
    first = await learning.promote(AdapterPromote(order_id=judged(image, dataset_id), approver="a"), CONTEXT)
    second = await learning.promote(
        AdapterPromote(order_id=judged(image, dataset_id, weights=b"v"), approver="a"), CONTEXT
    )
    assert second.previous == first.adapter
    message = AdapterRollback(persona="brick", approver="a", request_id=new_id())
    back = await learning.roll_back(message, CONTEXT)
    assert (back.adapter, back.previous, back.dna_version) == (first.adapter, second.adapter, 4)
    assert await learning.roll_back(message, CONTEXT) == back
    base = await learning.roll_back(AdapterRollback(persona="brick", approver="a", request_id=new_id()), CONTEXT)
    assert base.adapter == ""
    assert dna(image)["adapters"] == {}
    with pytest.raises(RequestFailed) as nothing:
        await learning.roll_back(AdapterRollback(persona="brick", approver="a", request_id=new_id()), CONTEXT)
    assert nothing.value.code == "nothing_bound"
    with pytest.raises(RequestFailed):
        await learning.roll_back(AdapterRollback(persona="brick", approver="a", request_id=""), CONTEXT)


@pytest.mark.parametrize("stored", [True, False])
async def test_binding_of_unknown_fate(
    image: Image, learning: Learning, dataset_id: str, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """When the image goes away while an adapter is bound, it is bound once, whatever became of the first try."""
    order_id = judged(image, dataset_id)
    commit = Session.commit
    fates = [stored]

    def cut_off(session: Session, **given: Any) -> str:
        if not fates or "approved" not in given["note"]:
            return commit(session, **given)
        if fates.pop():
            commit(session, **given)
        else:
            session.abort()
        raise CommitFateUnknown("zeo:///gone")

    monkeypatch.setattr(Session, "commit", cut_off)
    bound = await learning.promote(AdapterPromote(order_id=order_id, approver="a"), CONTEXT)
    assert bound.dna_version == 2
