"""A real training of the packaged model with trl and peft, through the forge as it runs in a fleet."""

from __future__ import annotations

import json
import math
import subprocess

import pytest
from integration.bus_fixtures import Peers, make_card, until
from integration.forge_fixtures import CHECKOUT, Workshop, ready, store_dataset

from batos.forge_trainer.trainer import PROGRAM
from batos.mind import adapters, archive, create_collections, orders
from batos.mind.orders import Order
from batos.protocol import new_id

PYTHON = CHECKOUT / ".venv-forge" / "bin" / "python"
INFERENCE = CHECKOUT / ".venv-inference" / "bin" / "python"

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]
needs_forge = pytest.mark.skipif(
    not (PYTHON.exists() and INFERENCE.exists()), reason="needs .venv-forge and .venv-inference: `make test` makes them"
)


def test_help_needs_no_torch() -> None:
    """The training program explains itself in an environment without torch, and nothing of BAT OS is imported."""
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-I", "-S", str(PROGRAM), "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "LoRA" in done.stdout


@needs_forge
async def test_a_real_adapter_is_trained_measured_and_stored(workshop: Workshop, peers: Peers) -> None:
    """Twelve rows, one epoch: the adapter is in the image, the losses are finite, the gate's verdict is recorded."""
    workshop.image.run(create_collections)
    store_dataset(workshop.image, "d" * 32, train=12, held_out=4)
    order_id = new_id()
    workshop.image.run(lambda root: orders.create(root, order_id=order_id, persona="BRICK", dataset_id="d" * 32))
    settings = {"forge_epochs": "1", "forge_batch": "4", "forge_max_length": "256", "forge_describe_timeout_s": "0.2"}
    workshop.start("batos.forge_trainer", "forge", **settings)
    await ready(await peers.join(make_card("console-1", kind="console")), "forge", workshop)

    def order() -> Order:
        with workshop.image.snapshot() as root:
            return orders.get(root, order_id)

    await until(lambda: order().state not in orders.PENDING, "the training to be decided", 800)
    found = order()
    assert found.state in {"PASSED", "REFUSED"}, found.error + workshop.said("forge")
    assert found.base_loss is not None
    assert found.candidate_loss is not None
    assert math.isfinite(found.base_loss)
    assert math.isfinite(found.candidate_loss)
    assert 0 < found.candidate_loss < found.base_loss
    assert found.verdict
    assert found.report["training"]["steps"] == 3
    assert found.report["held_out_rows"] == 4
    with workshop.image.snapshot() as root:
        adapter = adapters.get(root, found.adapter)
        files = archive.unpack(adapters.content(root, found.adapter))
    assert adapter.state == "candidate"
    assert adapter.gate["verdict"] == found.verdict
    assert adapter.training["versions"]["trl"]
    configuration = json.loads(files[archive.CONFIG])
    assert (configuration["r"], configuration["lora_alpha"]) == (8, 16)
    assert configuration["target_modules"] == sorted(configuration["target_modules"])
    assert str(workshop.home) not in files[archive.CONFIG].decode()
    assert len(files[archive.WEIGHTS]) > 1_000_000
