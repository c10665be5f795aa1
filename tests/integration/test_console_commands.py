"""The `batos` command on a real keeper, bus and supervisor."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from integration.console_fixtures import SECONDS, Batos

pytestmark = pytest.mark.timeout(150)


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS} s for {what}"
        time.sleep(0.05)


def test_up_status_ask_roll_down(batos: Batos) -> None:
    """A detached fleet answers, has a status, is rolled and ends; no process is left; up and down may be repeated."""
    up = batos.run("up", "--detach")
    assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
    assert "4 vessels ready" in up.stdout
    again = batos.run("up", "--detach")
    assert again.returncode == 0
    assert "already runs" in again.stdout

    status = batos.json("status")
    assert {"bus", "kernel-1", "kernel-2", "supervisor", "keeper"} <= {vessel["name"] for vessel in status["vessels"]}
    assert all(vessel["ready"] for vessel in status["vessels"])
    assert status["engine"]["model"] == "script"

    answer = batos.json("ask", "who sails?")
    assert (answer["outcome"], answer["answer"]) == ("COMPLETE", "a ship is its course")
    assert batos.json("mission", "show", answer["mission_id"])["text"] == "who sails?"
    assert [mission["mission_id"] for mission in batos.json("mission", "list")["missions"]] == [answer["mission_id"]]

    rolled = batos.run("roll", "kernel")
    assert rolled.returncode == 0, f"{rolled.stdout}\n{rolled.stderr}"
    assert "kernel-1: " in rolled.stdout
    assert "kernel-2: " in rolled.stdout

    down = batos.run("down")
    assert down.returncode == 0
    assert batos.processes() == []
    assert "no fleet runs" in batos.run("down").stdout


def test_without_a_terminal_a_thought_is_lines(fleet: Batos) -> None:
    """`ask` into a pipe writes plain lines without escapes: states, what was said, the outcome."""
    done = fleet.run("ask", "who sails?", "--persona", "brick")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0].split() == ["IDLE", "orchestrator"]
    assert "ROBIN/weave a ship is its course (5 tokens, 0.1 s)" in lines
    assert "a ship is its course" in lines


def test_refusals(fleet: Batos) -> None:
    """A mission that fails is exit 1; an unknown persona or mission is exit 2 with the fleet's own words."""
    failed = fleet.run("ask", "please fail", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"] == "told to fail"
    persona = fleet.run("ask", "x", "--persona", "joker")
    assert persona.returncode == 2
    assert "joker" in persona.stderr
    assert fleet.run("mission", "show", "0" * 32).returncode == 2


def test_a_fleet_that_is_not_there_is_said_quickly(batos: Batos) -> None:
    """Without a fleet, and where only its traces are left, commands exit 3 within five seconds."""
    began = time.monotonic()
    assert batos.run("status").returncode == 3
    assert time.monotonic() - began < 5
    batos.run("up", "--detach")
    batos.run("down")
    began = time.monotonic()
    done = batos.run("ask", "anybody?")
    assert done.returncode == 3
    assert "batos up" in done.stderr
    assert time.monotonic() - began < 5


def test_a_bus_that_hangs_is_said_quickly(fleet: Batos) -> None:
    """Where keeper and fleet.json are there but the bus is stopped, commands exit 3 within five seconds and a bit."""
    (bus,) = [vessel for vessel in fleet.json("status")["vessels"] if vessel["kind"] == "bus"]
    process = psutil.Process(bus["pid"])
    process.suspend()
    try:
        began = time.monotonic()
        done = fleet.run("status")
        assert done.returncode == 3
        assert time.monotonic() - began < 8
        assert "does not answer" in done.stderr
    finally:
        process.resume()


def test_a_vessel_that_cannot_start_fails_the_start(batos: Batos) -> None:
    """A kernel that ends at every start fails `up` with its last words, and nothing is left running."""
    batos.home.mkdir()
    (batos.home / "kernel-broken").touch()
    up = batos.run("up", "--detach", BATOS_KEEPER_BACKOFF_CEILING_S="0.5")
    assert up.returncode == 1
    assert "kernel-1" in up.stderr
    assert "remove the file kernel-broken" in up.stderr
    assert batos.processes() == []


def test_a_keeper_that_cannot_start_says_why(batos: Batos) -> None:
    """A setting that the keeper refuses is shown by `up` at once."""
    up = batos.run("up", "--detach", BATOS_KEEPER_KERNELS="0")
    assert up.returncode == 1
    assert "BATOS_KEEPER_KERNELS" in up.stderr


def test_foreground_ends_with_its_command(batos: Batos) -> None:
    """`up` in the foreground ends the fleet at SIGTERM."""
    process = batos.start("up")
    try:
        until("the fleet to be up", lambda: batos.run("status").returncode == 0)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert "the fleet has ended" in said
    assert batos.processes() == []


def test_foreground_killed_leaves_nothing(batos: Batos) -> None:
    """`up` in the foreground takes the fleet with it even when it is killed with -9."""
    process = batos.start("up")
    until("the fleet to be up", lambda: batos.run("status").returncode == 0)
    process.kill()
    process.communicate()
    until("every process to end", lambda: not batos.processes())


def test_run_without_a_terminal(batos: Batos) -> None:
    """`run` starts a fleet, answers the first mission and ends the fleet; on a fleet that runs it leaves it running."""
    done = batos.run("run")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "a ship is its course" in done.stdout
    assert batos.processes() == []
    assert batos.run("up", "--detach").returncode == 0
    attached = batos.run("run")
    assert attached.returncode == 0
    assert "attached" in attached.stdout
    assert batos.run("status").returncode == 0


def test_commands_at_the_same_time(fleet: Batos) -> None:
    """Commands that run side by side are peers of their own: each gets its own answer."""
    processes = [fleet.start("ask", f"who sails {number}?", "--json") for number in range(4)]
    answers = [json.loads(process.communicate(timeout=SECONDS)[0]) for process in processes]
    assert len({answer["mission_id"] for answer in answers}) == 4
    assert {answer["outcome"] for answer in answers} == {"COMPLETE"}
