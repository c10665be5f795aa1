"""The forge over a real bus, a real ZEO server and a real watched folder; the training itself is scripted."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from integration.bus_fixtures import Peers, make_card, until
from integration.forge_fixtures import CHECKOUT, Workshop, alive, ready, running_programs, store_dataset

from batos.forge_trainer.base_model import MANIFEST
from batos.mind import adapters, create_collections, orders
from batos.mind.orders import Order
from batos.protocol import OrderGet, OrderStatus, Peer, Progress, Roster, RosterGet, new_id
from batos.uvm import Image

MODEL_HASH = "c" * 64
SCRIPTED = CHECKOUT / "tests" / "integration" / "forge_scripted_trainer.py"


def start_forge(workshop: Workshop, how: str, **settings: str) -> subprocess.Popen[str]:
    """Start a forge whose training program does what `how` says."""
    python = workshop.home / "scripted-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {SCRIPTED} "$@"\n')
    python.chmod(0o755)
    model = workshop.home / "model"
    model.mkdir(exist_ok=True)
    (model / MANIFEST).write_text(json.dumps({"source": "small.gguf", "source_sha256": MODEL_HASH}))
    given = {
        "forge_python": str(python),
        "forge_model": str(model),
        "forge_sync_interval_s": "0.05",
        "forge_describe_timeout_s": "0.2",
    }
    return workshop.start("batos.forge_trainer", "forge", extra={"SCRIPTED_TRAINER": how}, **(given | settings))


def prepare(workshop: Workshop) -> str:
    """Put a data set into the image, and nothing else."""
    workshop.image.run(create_collections)
    store_dataset(workshop.image, "d" * 32, train=8, held_out=2)
    return "d" * 32


def order_in(image: Image, order_id: str) -> Order:
    with image.snapshot() as root:
        return orders.get(root, order_id)


def create(workshop: Workshop, dataset_id: str) -> str:
    order_id = new_id()
    workshop.image.run(lambda root: orders.create(root, order_id=order_id, persona="BRICK", dataset_id=dataset_id))
    return order_id


async def decided(workshop: Workshop, order_id: str) -> Order:
    """Wait until an order is decided."""
    await until(
        lambda: order_in(workshop.image, order_id).state not in orders.PENDING, f"order {order_id} to be decided", 60
    )
    return order_in(workshop.image, order_id)


async def console(peers: Peers) -> Peer:
    return await peers.join(make_card("console-1", kind="console"))


def said_in(path: Path, state: str) -> bool:
    return path.exists() and json.loads(path.read_text())["state"] == state


async def test_an_order_becomes_a_file_and_the_file_becomes_work(workshop: Workshop, peers: Peers) -> None:
    """A record gets its file, the file starts the work, the candidate is stored unbound with its gate report."""
    dataset_id = prepare(workshop)
    asker = await console(peers)
    start_forge(workshop, "win")
    await ready(asker, "forge", workshop)
    order_id = create(workshop, dataset_id)
    stages: dict[str, float | None] = {}
    async with asker.subscribe(f"progress/forge/{order_id}") as events:
        async for event in events:
            assert isinstance(event, Progress)
            stages[event.stage] = event.fraction
            if event.stage in {"done", "failed"}:
                break
    assert {"training", "evaluating", "storing", "done"} <= set(stages)
    order = await decided(workshop, order_id)
    assert (order.state, order.base_loss, order.candidate_loss, order.margin) == ("PASSED", 2.0, 1.0, 0.02)
    assert order.report["training"] == {"steps": 2, "resumed_from": ""}
    with workshop.image.snapshot() as root:
        adapter = adapters.get(root, order.adapter)
    assert (adapter.state, adapter.model_hash, adapter.order_id) == ("candidate", MODEL_HASH, order_id)
    assert adapter.gate["passed"] is True
    assert adapter.gate["held_out_answer_tokens"] == 40
    path = workshop.home / "orders" / f"{order_id}.json"
    await until(lambda: said_in(path, "PASSED"), "the order's file to be in step")
    status = await asker.request("forge", OrderGet(order_id=order_id), OrderStatus, timeout_s=10)
    assert (status.state, status.adapter) == ("PASSED", order.adapter)
    assert not (workshop.home / "forge" / order_id / "adapter").exists()

    roster = await asker.request("bus", RosterGet(), Roster, timeout_s=10)
    page = next(card.metrics for card in roster.vessels if card.name == "forge")
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(page, timeout=5).read().decode())
    assert 'batos_forge_orders{state="PASSED"} 1.0' in text
    assert 'batos_forge_loss{of="candidate"} 1.0' in text
    assert "batos_forge_training_seconds_total 1.5" in text


async def test_a_dropped_file_becomes_a_record_first(workshop: Workshop, peers: Peers) -> None:
    """A file that a person drops is recorded, renamed to its order's id, and worked on like any other."""
    dataset_id = prepare(workshop)
    start_forge(workshop, "win")
    await ready(await console(peers), "forge", workshop)
    dropped = workshop.home / "orders" / "mine.json"
    dropped.write_text(json.dumps({"persona": "brick", "dataset_id": dataset_id}))

    def found() -> list[Order]:
        with workshop.image.snapshot() as root:
            return orders.all_orders(root)

    await until(lambda: bool(found()), "the file to become a record")
    (order,) = found()
    assert (await decided(workshop, order.order_id)).state == "PASSED"
    path = workshop.home / "orders" / f"{order.order_id}.json"
    await until(lambda: said_in(path, "PASSED") and not dropped.exists(), "the file to be in step")
    assert len(found()) == 1


async def test_a_file_that_is_no_order_is_answered_beside_it(workshop: Workshop, peers: Peers) -> None:
    """What cannot be an order is complained about in a file beside it, until it is put right."""
    dataset_id = prepare(workshop)
    start_forge(workshop, "win")
    await ready(await console(peers), "forge", workshop)
    dropped = workshop.home / "orders" / "mine.json"
    beside = workshop.home / "orders" / "mine.json.error"
    dropped.write_text(json.dumps({"persona": "brick", "dataset_id": "unknown"}))
    await until(lambda: beside.exists() and "unknown" in beside.read_text(), "a complaint")
    dropped.write_text(json.dumps({"persona": "brick", "dataset_id": dataset_id}))
    await until(lambda: not beside.exists() and not dropped.exists(), "the complaint to be taken back")


@pytest.mark.parametrize(
    ("how", "state", "words"),
    [
        ("lose", "REFUSED", "25.0% higher"),
        ("fail", "FAILED", "out of memory"),
        ("silent", "FAILED", "BATOS_FORGE_SILENCE_S"),
    ],
)
async def test_what_does_not_win_says_why(workshop: Workshop, how: str, state: str, words: str) -> None:
    """A candidate that loses is stored with its figures; a training that fails or hangs leaves its last words."""
    order_id = create(workshop, prepare(workshop))
    start_forge(workshop, how, forge_silence_s="2" if how == "silent" else "60")
    order = await decided(workshop, order_id)
    assert order.state == state
    assert words in order.verdict + order.error
    if state == "REFUSED":
        assert (order.base_loss, order.candidate_loss) == (2.0, 2.5)
        with workshop.image.snapshot() as root:
            assert adapters.get(root, order.adapter).gate["passed"] is False
    assert not running_programs([str(SCRIPTED), order_id])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_an_order_survives_the_forge(workshop: Workshop, number: signal.Signals) -> None:
    """A forge that is killed or drained in mid-training takes its child with it; its successor resumes the order."""
    order_id = create(workshop, prepare(workshop))
    forge = start_forge(workshop, "hold")
    pid_file = workshop.home / "forge" / order_id / "pid"
    await until(pid_file.exists, "the training to run", 60)
    child = int(pid_file.read_text())
    forge.send_signal(number)
    code = await asyncio.to_thread(forge.wait, 30)
    assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    await until(lambda: not alive(child), "the training to be gone")
    assert order_in(workshop.image, order_id).state == "TRAINING"
    start_forge(workshop, "hold")
    order = await decided(workshop, order_id)
    assert order.state == "PASSED"
    assert order.report["training"]["resumed_from"] == "checkpoint-5"


async def test_a_forge_without_its_model_says_so(workshop: Workshop, peers: Peers) -> None:
    """An order on a machine without the base model fails with what to do; the forge lives on."""
    order_id = create(workshop, prepare(workshop))
    start_forge(workshop, "win", forge_model=str(workshop.home / "nowhere.gguf"))
    order = await decided(workshop, order_id)
    assert order.state == "FAILED"
    assert "BATOS_FORGE_MODEL" in order.error
    await ready(await console(peers), "forge", workshop)
