"""A turn of the learning loop as its commands show it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from console_fake_fleet import FakeFleet
from typer.testing import CliRunner

from batos.console import forge
from batos.console.commands import app
from batos.console.progress import progress_text
from batos.protocol import (
    AdapterBound,
    AdapterPromote,
    AdapterRollback,
    Curate,
    DatasetBuilt,
    OrderCreate,
    OrderGet,
    OrderStatus,
    Progress,
    RemoteError,
    RequestTimeout,
)


def order(order_id: str = "o1", state: str = "PASSED", **more: Any) -> OrderStatus:
    fields: dict[str, Any] = {
        "order_id": order_id, "persona": "BRICK", "dataset_id": "d1", "state": state, "adapter": "brick-12",
        "base_loss": 2.0, "candidate_loss": 1.5, "margin": 0.02,
    }  # fmt: skip
    return OrderStatus(**{**fields, **more})


BOUND = AdapterBound(persona="BRICK", adapter="brick-12", previous="", dna_version=2, tid="03ff" * 4)


@pytest.fixture
def forge_fleet(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    """A fleet whose candidate passes."""
    monkeypatch.setattr(forge, "POLL_S", 0.001)
    fleet.answers = {
        Curate: lambda body: DatasetBuilt(
            dataset_id="d1", persona=body.persona.upper(), sha256="x", rows=20, train_rows=16, held_out_rows=4,
            records_ingested=300, path="datasets/d1",
        ),
        OrderCreate: lambda body: order(body.order_id, "ORDERED"),
        OrderGet: lambda body: order(body.order_id, "BOUND" if fleet.bodies(AdapterPromote) else "PASSED"),
        AdapterPromote: BOUND,
        AdapterRollback: AdapterBound(persona="BRICK", adapter="", previous="brick-12", dna_version=3, tid="04" * 8),
    }  # fmt: skip
    return fleet


def test_a_turn_in_order(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """With --yes a candidate that won is bound: curate, order, look, promote, and the order stands BOUND."""
    done = runner.invoke(app, ["forge", "run", "brick", "--yes", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["state"], found["adapter"], found["dataset_id"]) == ("BOUND", "brick-12", "d1")
    assert found["candidate_loss"] < found["base_loss"]
    assert found["gain"] == 0.25
    assert found["train_rows"] == 16
    services = [service for service, _ in forge_fleet.asked]
    assert services == ["curator", "kernel", "kernel", "kernel", "kernel"]
    (create,), (promote,) = forge_fleet.bodies(OrderCreate), forge_fleet.bodies(AdapterPromote)
    assert create.order_id == promote.order_id == found["order_id"]
    assert "16 rows to train on" in done.stderr


def test_a_loser_is_not_promoted(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """A candidate that does not win is never promoted, --yes or not: exit 1, and by how much is said."""
    forge_fleet.answers[OrderGet] = lambda body: order(body.order_id, "REFUSED", candidate_loss=1.99)
    done = runner.invoke(app, ["forge", "run", "brick", "--yes"])
    assert done.exit_code == 1
    assert "2.0000" in done.stderr
    assert "1.9900" in done.stderr
    assert "0.5% lower" in done.stderr
    assert "asked for is 2.0% lower" in done.stderr
    assert forge_fleet.bodies(AdapterPromote) == []


def test_a_training_that_fails_says_why(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """A training that ends in an error ends the command with 1 and that error."""
    forge_fleet.answers[OrderGet] = lambda body: order(body.order_id, "FAILED", error="out of memory", base_loss=None)
    done = runner.invoke(app, ["forge", "run", "brick", "--yes"])
    assert done.exit_code == 1
    assert "out of memory" in done.stderr


def test_without_approval_the_candidate_waits(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """Without --yes and without a terminal nothing is bound, and the command that approves later is named: exit 2."""
    done = runner.invoke(app, ["forge", "run", "brick"])
    assert done.exit_code == 2
    order_id = forge_fleet.bodies(OrderCreate)[0].order_id
    assert f"batos forge promote {order_id}" in " ".join(done.stderr.split())
    assert forge_fleet.bodies(AdapterPromote) == []


def test_approved_later(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """`forge promote` binds what waits."""
    done = runner.invoke(app, ["forge", "promote", "o1"])
    assert done.exit_code == 0
    assert "BRICK answers with brick-12 now" in done.stdout
    assert forge_fleet.bodies(AdapterPromote)[0].order_id == "o1"


def test_too_few_answers_to_learn_from(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """What the curator refuses is said as it says it."""
    forge_fleet.answers[Curate] = RemoteError("too_few_rows", "3 rows are too few", "ask more missions")
    done = runner.invoke(app, ["forge", "run", "brick", "--yes"])
    assert done.exit_code == 1
    assert "ask more missions" in done.stderr


def test_a_kernel_that_is_replaced_meanwhile(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """A look at the order that nobody answers is repeated."""
    looks: list[str] = []

    def look(body: OrderGet) -> OrderStatus:
        looks.append(body.order_id)
        if len(looks) == 1:
            raise RequestTimeout("kernel", "OrderGet", 30)
        return order(body.order_id, "PASSED")

    forge_fleet.answers[OrderGet] = look
    assert runner.invoke(app, ["forge", "run", "brick", "--yes"]).exit_code == 0
    assert len(looks) == 3


def test_rollback(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """`forge rollback` says what the persona answers with now."""
    found = json.loads(runner.invoke(app, ["forge", "rollback", "brick", "--json"]).stdout)
    assert forge_fleet.bodies(AdapterRollback)[0].persona == "brick"
    assert (found["adapter"], found["previous"]) == ("", "brick-12")
    assert "answers with the base model now" in runner.invoke(app, ["forge", "rollback", "brick"]).stdout


def test_status_of_an_order(forge_fleet: FakeFleet, runner: CliRunner) -> None:
    """`forge status` shows state and verdict."""
    said = " ".join(runner.invoke(app, ["forge", "status", "o1"]).stdout.split())
    assert "PASSED" in said
    assert "25.0% lower" in said
    assert forge_fleet.bodies(OrderGet)[0].order_id == "o1"


def test_progress_in_words() -> None:
    """A progress event says its stage, its share where one is known, and its detail."""
    event = Progress(what="forge", id="o1", stage="training", fraction=0.5, detail="step 4 of 8")
    assert progress_text(event) == "forge: training 50%, step 4 of 8"
    assert progress_text(Progress(what="forge", id="o1", stage="loading")) == "forge: loading"
