"""Fast reads are never stale: two processes, three threads, every read compared with naive walks.

The short form of the race; `python tests/integration/uvm_racer.py` runs it for as long as one likes.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.uvm_racer import SABOTAGES, populate
from integration.uvm_servers import clean_environment, server_here, short_folder

from batos.uvm import open_image

RACER = Path(__file__).with_name("uvm_racer.py")
ROUNDS = 400
TIMEOUT_S = 100


@pytest.fixture
def uri() -> Iterator[str]:
    with short_folder() as folder, server_here(folder) as socket:
        address = f"zeo://{socket}?wait_timeout=20"
        with open_image(address) as image, image.transaction() as root:
            populate(root, random.Random(1))
        yield address


def race(uri: str, rounds: int, sabotage: str = "") -> tuple[Counter[str], list[str]]:
    """Two processes, one with two threads; what they counted together, and examples of mismatches and errors."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(RACER), uri, str(threads), str(rounds), str(seed), *([sabotage] if sabotage else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        for seed, threads in ((1, 2), (2, 1))
    ]
    count: Counter[str] = Counter()
    problems: list[str] = []
    try:
        for process in processes:
            told, complaints = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, complaints
            result = json.loads(told)
            count.update(result["count"])
            problems += result["examples"] + result["errors"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return count, problems


def test_no_fast_read_differs_from_a_naive_walk_on_the_same_snapshot(uri: str) -> None:
    """With commits, conflicts, aborts, rollbacks, evictions, changes of parents and of methods going on."""
    count, problems = race(uri, ROUNDS)
    assert problems == []
    assert count["mismatches"] == 0
    assert count["storage"] >= 3 * ROUNDS * 25 - 25
    assert count["memory"] > 1000
    assert count["commits"] > ROUNDS
    assert count["conflicts"] > 0
    assert count["cycles refused"] > 0


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_the_race_notices_when_a_rule_is_broken(uri: str, sabotage: str) -> None:
    """The test of the test: each rule that keeps reads true is needed."""
    count, _ = race(uri, ROUNDS, sabotage)
    assert count["mismatches"] > 0
