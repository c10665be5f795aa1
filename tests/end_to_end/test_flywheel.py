"""One turn of the learning loop on real parts: log, data set, training, gate, promotion, answer, rollback."""

from __future__ import annotations

from typing import Any

import pytest
from local_fleet import Fleet

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]


def test_one_turn(fleet: Fleet, thoughts: list[dict[str, Any]], missions: list[str]) -> None:
    """BRICK learns from its own answered cycles, wins the gate, is bound, answers with it, and is rolled back."""
    assert len(thoughts) == 20
    turn = fleet.json("forge", "run", "brick", "--yes", timeout=1500)
    assert turn["state"] == "BOUND"
    assert turn["candidate_loss"] < turn["base_loss"]
    adapter = turn["adapter"]
    assert adapter.startswith("brick-")
    dataset = fleet.home / "datasets" / turn["dataset_id"]
    train = (dataset / "train.jsonl").read_text().splitlines()
    held_out = (dataset / "held_out.jsonl").read_text().splitlines()
    assert train
    assert held_out
    assert not set(train) & set(held_out)

    taught = fleet.json("ask", missions[5], "--persona", "brick")
    assert taught["outcome"] == "COMPLETE"
    assert taught["adapter"] == adapter
    other = fleet.json("ask", missions[5])
    assert other["adapter"] == ""

    back = fleet.json("forge", "rollback", "brick")
    assert back["adapter"] == ""
    assert back["previous"] == adapter
    base = fleet.json("ask", missions[5], "--persona", "brick")
    assert base["adapter"] == ""
