"""What a kernel answers about the past: missions, personas, orders as they stood; moments that are none."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from batos.kernel import missions
from batos.kernel.answering import Answering
from batos.kernel.learning import Learning
from batos.kernel.metrics import KernelMetrics
from batos.kernel.ticket import CycleOutcome
from batos.mind import datasets, orders
from batos.mind.datasets import Row
from batos.protocol import (
    ChatMessage,
    Message,
    MissionList,
    Missions,
    MissionStatus,
    MissionWait,
    OrderGet,
    PersonaGet,
    PersonaView,
    RequestContext,
    RequestFailed,
    new_id,
)
from batos.uvm import Image, reached

CONTEXT = RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)


@pytest.fixture
def answering(image: Image) -> Answering:
    """What is asked about the past needs the image and nothing else."""
    nothing = cast(Any, None)
    return Answering(image=image, intake=nothing, watch=nothing, log=nothing, kernel="kernel-1", text_bytes=1000)


async def asked(answering: Answering, message: Message) -> Any:
    return await answering.handlers()[type(message)](message, CONTEXT)


async def test_missions_as_they_stood(answering: Answering, image: Image) -> None:
    """One that is COMPLETE was RUNNING, and before that was not there; so it is in the list."""
    before, mission_id = image.last_tid(), new_id()
    with image.transaction() as root:
        missions.create(root, mission_id=mission_id, text="Be.", owner=missions.Owner("kernel-1", "i1"))
    then = image.last_tid()
    with image.transaction() as root:
        held = missions.ticket(missions.find(root, mission_id))
        missions.complete(root, held, CycleOutcome(outcome="COMPLETE", answer="It is."))
    for at, state, tid in ((then, "RUNNING", ""), (image.last_tid(), "COMPLETE", image.last_tid())):
        found: MissionStatus = await asked(answering, MissionWait(mission_id=mission_id, timeout_s=5, at=at))
        assert (found.state, found.tid, found.as_of) == (state, tid, at)
        listed: Missions = await asked(answering, MissionList(at=at))
        assert ([one.state for one in listed.missions], listed.as_of) == ([state], at)
    now: Missions = await asked(answering, MissionList())
    assert ([one.state for one in now.missions], now.as_of) == (["COMPLETE"], image.last_tid())
    earlier: Missions = await asked(answering, MissionList(at=before))
    assert (earlier.missions, earlier.as_of) == ((), before)
    with pytest.raises(RequestFailed) as caught:
        await asked(answering, MissionWait(mission_id=mission_id, at=before))
    assert caught.value.code == "mission_unknown"


async def test_a_persona_as_it_was(answering: Answering, image: Image) -> None:
    """By transaction and by time."""
    then, time = image.last_tid(), dt.datetime.now(dt.UTC).isoformat()
    with image.transaction() as root:
        root["lobby"].brick_prototype_obj.pillars["lego"] = "changed"
    for at in (then, time):
        found: PersonaView = await asked(answering, PersonaGet(persona="brick", at=at))
        assert found.pillars.get("lego") != "changed"
        assert found.as_of == reached(at, image.last_tid())
    assert (await asked(answering, PersonaGet(persona="brick"))).pillars["lego"] == "changed"


async def test_an_order_as_it_stood(image: Image) -> None:
    """An order that is TRAINING was ORDERED; before that it is unknown."""
    learning = Learning(
        peer=cast(Any, None),
        image=image,
        kernel="kernel-1",
        load_timeout_s=1,
        metrics=KernelMetrics(CollectorRegistry()),
    )
    before, order_id, dataset_id = image.last_tid(), new_id(), new_id()
    row = Row(messages=(ChatMessage("user", "x"),), cycle_id="c", mission_id="m", seq=0, incarnation="i")
    with image.transaction() as root:
        datasets.add(root, dataset_id=dataset_id, persona="BRICK", query="q", train=[row], held_out=[row], counts={})
        orders.create(root, order_id=order_id, persona="brick", dataset_id=dataset_id)
    then = image.last_tid()
    with image.transaction() as root:
        orders.update(root, order_id, state="TRAINING")
    for at, state in ((then, "ORDERED"), (image.last_tid(), "TRAINING"), ("", "TRAINING")):
        found = await learning.get_order(OrderGet(order_id=order_id, at=at), CONTEXT)
        assert (found.state, found.as_of) == (state, at)
    with pytest.raises(RequestFailed) as caught:
        await learning.get_order(OrderGet(order_id=order_id, at=before), CONTEXT)
    assert caught.value.code == "order_unknown"


@pytest.mark.parametrize(
    ("at", "code"),
    [
        ("soon", "moment_invalid"),
        ("0x0d464692910133", "moment_invalid"),
        ("+40d464692910133", "moment_invalid"),
        ("040d", "moment_invalid"),
        ("2026-13-01T00:00:00+00:00", "moment_invalid"),
        ("2026-01-31T12:00:00", "moment_invalid"),
        ("2999-01-01T00:00:00+00:00", "moment_unknown"),
        ("1969-01-01T00:00:00+00:00", "moment_unknown"),
        ("0" * 16, "moment_unknown"),
        ("f" * 16, "moment_unknown"),
        ("9999-12-31T23:59:59-14:00", "moment_unknown"),
    ],
)
async def test_moments_that_cannot_be_looked_at(answering: Answering, at: str, code: str) -> None:
    """Garbage, no zone, the future, before the beginning: refused, each with a code and a sentence."""
    for message in (MissionList(at=at), PersonaGet(persona="brick", at=at), MissionWait(mission_id=new_id(), at=at)):
        with pytest.raises(RequestFailed) as caught:
            await asked(answering, message)
        assert caught.value.code == code
