"""The Architect and the Living Image of a fleet that runs: looking, going back, changing, undoing, backing up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from local_fleet import Fleet

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

GREET = "lobby.traits_obj.greet_"


@pytest.fixture(scope="module")
def thought(fleet: Fleet) -> dict[str, Any]:
    found = fleet.json("ask", "What is an anchor for?", timeout=300)
    assert found["outcome"] == "COMPLETE"
    return found


def test_what_stands_in_the_image_is_shown(fleet: Fleet, thought: dict[str, Any]) -> None:
    """A persona with what she inherits; a mission's record with its history; both also as of a past transaction."""
    shown = fleet.json("image", "show", "lobby.brick_prototype_obj")
    assert {"codex", "dna", "pillars"} <= {entry["name"] for entry in shown["entries"]}
    assert shown["parents"] == ["lobby.traits_obj"]
    mission = thought["mission_id"]
    place = f"missions.shards[{int(mission[-2:], 16) % 64}]['{mission}']"
    assert fleet.json("image", "show", f"{place}.answer")["text"] == thought["answer"]
    changes = fleet.json("image", "history", place)["changes"]
    written = next(change for change in changes if change["tid"] == thought["tid"])
    assert (written["mission"], written["cycle"]) == (mission, thought["cycle_id"])
    before = changes[-1]["tid"]
    assert fleet.json("image", "show", f"{place}.state", "--at", before)["text"] in {"ACCEPTED", "RUNNING"}
    for past in (("at", before, "show", f"{place}.state"), ("show", f"{place}.state", "--at", before)):
        shown = fleet.json("image", *past)
        assert (shown["text"], shown["as_of"]) == (
            fleet.json("mission", "show", mission, "--at", before)["state"],
            before,
        )
    assert fleet.json("image", "at", before, "history", place)["changes"] == changes[-1:]
    missing = fleet.run("image", "show", "lobby.nobody")
    assert missing.returncode == 2
    assert "has no slot or method 'nobody'" in missing.stderr


def test_the_past_of_what_commands_read(fleet: Fleet, thought: dict[str, Any]) -> None:
    """Missions and personas as of a transaction; no moment, the future, a time without zone: exit 2."""
    mission, tid = thought["mission_id"], thought["tid"]
    then = fleet.json("mission", "list", "--at", tid)
    assert (then["as_of"], then["missions"][0]["mission_id"]) == (tid, mission)
    assert fleet.json("persona", "show", "brick", "--at", tid)["as_of"] == tid
    before = fleet.json("image", "history", "lobby")["changes"][-1]["tid"]
    assert fleet.json("mission", "list", "--at", before)["missions"] == []
    for moment in ("yesterday", "2999-01-01T00:00:00+00:00", "2026-01-31T12:00:00", "0" * 16):
        for command in (("image", "at", moment, "show"), ("mission", "list", "--at", moment)):
            assert fleet.run(*command).returncode == 2


def test_two_objects_are_compared(fleet: Fleet) -> None:
    """What was not cloned has no ancestor; any other object can be named."""
    refused = fleet.run("image", "compare", "lobby.brick_prototype_obj")
    found = fleet.json("image", "compare", "lobby.brick_prototype_obj", "lobby.robin_prototype_obj")
    assert {"codex", "name", "pillars"} <= {one["name"] for one in found["differences"] if one["change"] == "changed"}
    assert (found["same_parents"], found["is_ancestor"]) == (True, False)
    assert (refused.returncode, "name the object to compare it with" in refused.stderr) == (2, True)


def test_a_live_method_is_installed_compared_and_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    """Versions with authors; the release's own methods are untouched, and an upgrade has nothing to do."""
    for number in (1, 2):
        source = tmp_path / "greet.py"
        source.write_text(f"def greet_(self):\n    return {number}\n")
        done = fleet.json("image", "install", GREET, str(source))
        assert (done["method"]["number"], done["method"]["author"], done["changed"]) == (number, "architect", True)
    assert "-    return 1\n+    return 2\n" in fleet.json("image", "diff", GREET)["diff"]
    back = fleet.json("image", "revert", GREET, "1")
    assert back["method"]["source"] == "def greet_(self):\n    return 1\n"
    assert [version["number"] for version in fleet.json("image", "versions", GREET)["versions"]] == [1, 2, 3]
    upgrade = fleet.json("image", "upgrade", "--dry-run")
    assert (upgrade["methods"], upgrade["tid"]) == ([], "")
    assert upgrade["unchanged"] > 20


def test_a_thought_is_undone_as_a_new_transaction(fleet: Fleet) -> None:
    """The mission says UNDONE and keeps its answer; asked again nothing more is done."""
    mission = fleet.json("ask", "What is a rudder for?", timeout=300)["mission_id"]
    undone = fleet.json("mission", "undo", mission)
    assert undone["thought"] < undone["tid"]
    shown = fleet.json("mission", "show", mission)
    assert (shown["state"], shown["tid"]) == ("UNDONE", undone["thought"])
    assert shown["answer"].strip()
    again = fleet.json("mission", "undo", mission)
    assert (again["thought"], again["restored"]) == (undone["thought"], undone["restored"])


def test_a_backup_of_the_fleet_at_work_is_the_same_mind(fleet: Fleet, thought: dict[str, Any], tmp_path: Path) -> None:
    """Backed up while it runs, verified, restored into another home, where a second fleet opens it."""
    backup = fleet.json("image", "backup", str(tmp_path / "backups"))
    assert backup["root_hash"]
    assert fleet.json("image", "verify")["faults"] == []
    home = tmp_path / "h"
    restored = fleet.json("image", "restore", str(tmp_path / "backups"), "--into", str(home))
    assert restored["root_hash"] == backup["root_hash"]
    other = Fleet(home)
    try:
        up = other.run("up", "--detach", timeout=180)
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
        assert other.json("mission", "show", thought["mission_id"])["answer"] == thought["answer"]
        packed_away_is_refused(other, thought)
    finally:
        down = other.run("down", timeout=90)
    assert down.returncode == 0, f"{down.stdout}\n{down.stderr}"
    assert not other.processes()


def packed_away_is_refused(fleet: Fleet, thought: dict[str, Any]) -> None:
    """A moment before the last pack, for every command that reads; from then on everything is shown."""
    tid = thought["tid"]
    assert fleet.json("image", "show", "lobby.brick_prototype_obj", "--at", tid)["as_of"] == tid
    earliest = fleet.json("image", "pack", "--days", "0")["earliest"]
    assert earliest > tid
    for command in (
        ("image", "at", tid, "show", "lobby.brick_prototype_obj"),
        ("image", "history", "lobby", "--at", tid),
        ("persona", "show", "brick", "--at", tid),
        ("mission", "show", thought["mission_id"], "--at", tid),
    ):
        refused = fleet.run(*command)
        assert (refused.returncode, "packed away" in refused.stderr) == (2, True)
    assert fleet.json("mission", "show", thought["mission_id"], "--at", earliest)["answer"] == thought["answer"]
