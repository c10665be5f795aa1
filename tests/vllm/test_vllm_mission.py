"""A whole mission of a whole fleet over vLLM's CPU build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_fleet import Fleet, running

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture
def fleet(tmp_path: Path, model_folder: Path) -> Iterator[Fleet]:
    found = Fleet(
        tmp_path / "var",
        {
            "BATOS_INFERENCE_ENGINE": "vllm",
            "BATOS_INFERENCE_MODEL": str(model_folder),
            "BATOS_INFERENCE_VLLM_DEVICE": "cpu",
            "BATOS_INFERENCE_THREADS": "2",
            "BATOS_INFERENCE_CONTEXT_TOKENS": "2048",
            "BATOS_INFERENCE_SLOTS": "4",
            "BATOS_CONSOLE_UP_S": "600",
        },
    )
    with running(found, up_s=600, down_s=120):
        yield found


def test_a_mission_is_answered_over_vllm(fleet: Fleet) -> None:
    """Four personas think over vLLM: a plan under its schema, facets, an answer, one transaction."""
    described = fleet.json("status")
    assert described["engine"]["engine"] == "vllm"
    found = fleet.json("ask", "Why do ships have several separate compartments in the hull?", timeout=600)
    assert found["outcome"] == "COMPLETE"
    assert found["answer"].strip()
    assert len(found["tid"]) == 16
    assert found["usage"]["completion_tokens"] > 0
