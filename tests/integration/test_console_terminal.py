"""The console at a real terminal."""

from __future__ import annotations

import re

import pytest
from integration.console_fixtures import Batos

pytestmark = pytest.mark.timeout(150)


def test_a_conversation(batos: Batos) -> None:
    """`run` at a terminal answers, opens the console, which asks, shows and leaves; the fleet ends with it."""
    with batos.terminal("run") as child:
        child.expect("4 vessels in")
        child.expect("COMPLETE")
        child.expect("batos>")
        child.sendline("and now?")
        child.expect("SYNTHESIZING")
        child.expect("a ship is its course")
        child.expect("tokens")
        child.sendline("/status")
        child.expect("kernel-2")
        child.expect("script, 1 slots of 100 tokens")
        child.sendline("/mission")
        child.expect("and now\\?")
        child.sendline("/nonsense")
        child.expect("/help lists what is")
        other = batos.json("ask", "somebody else")
        child.expect(re.escape(f"[{other['mission_id'][-6:]}] COMPLETE"))
        child.sendline("/quit")
        child.expect("has ended")
        child.wait()
        assert child.exitstatus == 0
    history = batos.home / "console_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "and now?" in history.read_text()
    assert batos.processes() == []


def test_leaving_a_fleet_that_ran_before(fleet: Batos) -> None:
    """The console on a fleet that runs leaves it running, by end of input too."""
    with fleet.terminal("console") as child:
        child.expect("batos>")
        child.sendeof()
        child.wait()
        assert child.exitstatus == 0
    assert fleet.run("status").returncode == 0


def test_ctrl_c_leaves_the_mission_running(fleet: Batos) -> None:
    """Ctrl-C during `ask` ends the command, not the mission; the command that it names waits for the end."""
    with fleet.terminal("ask", "wait for me") as child:
        child.expect("a ship is its course")
        child.sendintr()
        child.expect("batos mission wait ([0-9a-f]{32})")
        mission_id = child.match.group(1)
        child.wait()
        assert child.exitstatus == 130
    assert fleet.json("mission", "show", mission_id)["state"] == "RUNNING"
    (fleet.home / "go-on").touch()
    waited = fleet.run("mission", "wait", mission_id)
    assert waited.returncode == 0
    assert "a ship is its course" in waited.stdout


def test_ctrl_c_during_the_start_ends_the_fleet(batos: Batos) -> None:
    """Ctrl-C while `run` waits for its fleet ends that fleet."""
    with batos.terminal("run") as child:
        child.expect("waiting for")
        child.sendintr()
        child.wait()
        assert child.exitstatus == 130
    assert batos.processes() == []
