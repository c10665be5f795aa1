"""`--at`, and `batos image at MOMENT …`: the past, through the command as it is typed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from console_fake_fleet import FakeFleet, status
from typer.testing import CliRunner

from batos.console.commands import app
from batos.protocol import (
    ImageCompare,
    ImageHistory,
    ImageShow,
    MethodHistory,
    MethodVersions,
    MethodView,
    MissionList,
    Missions,
    MissionWait,
    ObjectsCompared,
    OrderGet,
    OrderStatus,
    PersonaGet,
    PersonaView,
    PlaceHistory,
    PlaceView,
    RemoteError,
)

THEN = "040d464692910133"
SEEN = "040d464692910100"
PATH = "lobby.traits_obj.greet_"


def answers(as_of: str) -> dict[type[Any], Any]:
    version = MethodView(name="greet_", number=1, author="genesis", time=5.0, hash="ab" * 32, source="s")
    return {
        ImageShow: PlaceView(path="lobby", kind="object", as_of=as_of),
        ImageHistory: PlaceHistory(path="lobby", changes=(), as_of=as_of),
        MethodHistory: MethodVersions(path=PATH, versions=(version,), in_force=1, as_of=as_of),
        ImageCompare: ObjectsCompared(
            path="lobby.a", other="lobby.b", is_ancestor=True, parents=(), other_parents=(), same_parents=True,
            differences=(), same=2, as_of=as_of,
        ),
        MissionList: Missions(missions=(status("m1"),), as_of=as_of),
        MissionWait: status("m1", as_of=as_of),
        PersonaGet: PersonaView(name="BRICK", dna={}, codex={}, pillars={}, as_of=as_of),
        OrderGet: OrderStatus(order_id="o1", persona="BRICK", dataset_id="d1", state="PASSED", as_of=as_of),
    }  # fmt: skip


READING = {
    "image show lobby": ImageShow,
    "image history lobby": ImageHistory,
    f"image versions {PATH}": MethodHistory,
    f"image diff {PATH}": MethodHistory,
    "image compare lobby.a": ImageCompare,
    "mission list": MissionList,
    "mission show m1": MissionWait,
    "persona show brick": PersonaGet,
    "forge status o1": OrderGet,
}


@pytest.mark.parametrize("command", READING)
def test_every_reading_command_reads_the_past(fleet: FakeFleet, runner: CliRunner, command: str) -> None:
    """The moment reaches the kernel; up to which transaction the view sees is said in words and in JSON."""
    fleet.answers = answers(SEEN)
    for at in (THEN, "2026-01-31T12:00:00+00:00"):
        fleet.asked.clear()
        found = json.loads(runner.invoke(app, [*command.split(), "--at", at, "--json"]).stdout)
        assert found["as_of"] == SEEN
        (asked,) = fleet.bodies(READING[command])
        assert asked.at == at
    assert SEEN in runner.invoke(app, [*command.split(), "--at", THEN]).stdout
    fleet.asked.clear()
    assert runner.invoke(app, command.split()).exit_code == 0
    assert fleet.bodies(READING[command])[0].at == ""


@pytest.mark.parametrize("command", [command for command in READING if command.startswith("image")])
def test_image_at_means_the_same(fleet: FakeFleet, runner: CliRunner, command: str) -> None:
    """What is typed behind `image at MOMENT` asks and says what the option does."""
    fleet.answers = answers(SEEN)
    _, verb, path = command.split()
    behind = runner.invoke(app, ["image", "at", THEN, verb, path, "--json"])
    option = runner.invoke(app, ["image", verb, path, "--at", THEN, "--json"])
    assert (behind.exit_code, behind.stdout) == (0, option.stdout)
    first, second = (body for _, body in fleet.asked)
    assert first == second
    assert runner.invoke(app, ["image", "at", THEN, verb, path, "--at", THEN]).exit_code == 2
    said = runner.invoke(app, ["image", "at", THEN, verb, "--help"]).stdout
    assert f"Example: batos image at 2026-01-31T12:00:00+00:00 {verb}" in " ".join(said.split())


def test_its_own_options_are_passed_on(fleet: FakeFleet, runner: CliRunner) -> None:
    """How many changes, which other object; `show` begins with the lobby."""
    fleet.answers = answers(SEEN)
    runner.invoke(app, ["image", "at", THEN, "history", "lobby", "--limit", "3"])
    assert fleet.bodies(ImageHistory)[0].limit == 3
    runner.invoke(app, ["image", "at", THEN, "compare", "lobby.a", "lobby.b"])
    assert fleet.bodies(ImageCompare)[0].other == "lobby.b"
    runner.invoke(app, ["image", "at", THEN, "show"])
    assert fleet.bodies(ImageShow)[0].path == "lobby"
    assert runner.invoke(app, ["image", "at", THEN, "diff", PATH, "--old", "7"]).exit_code == 2


@pytest.mark.parametrize("command", READING)
def test_a_kernel_that_knows_no_past_is_told_from_one_that_does(
    fleet: FakeFleet, runner: CliRunner, command: str
) -> None:
    """One of an older release passes the moment over: its answer, which is of now, is not shown as the past."""
    fleet.answers = answers("")
    done = runner.invoke(app, [*command.split(), "--at", THEN])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "batos roll kernel" in done.stderr


@pytest.mark.parametrize("code", ["moment_invalid", "moment_unknown"])
@pytest.mark.parametrize("command", ["image show", "mission list", "image at yesterday show"])
def test_a_moment_that_cannot_be_looked_at_is_wrong_usage(
    fleet: FakeFleet, runner: CliRunner, command: str, code: str
) -> None:
    """Exit 2, and the kernel's sentence."""
    refusal = RemoteError(code, "the image cannot be opened as of yesterday")
    fleet.answers = {ImageShow: refusal, MissionList: refusal}
    at = [] if "yesterday" in command else ["--at", "yesterday"]
    done = runner.invoke(app, [*command.split(), *at])
    assert done.exit_code == 2
    assert "cannot be opened as of yesterday" in done.stderr


@pytest.mark.parametrize("moment", ["", " "])
@pytest.mark.parametrize("command", [*READING, "image restore b --into h", "image pin before", "image at show lobby"])
def test_an_empty_moment_is_not_now(fleet: FakeFleet, runner: CliRunner, command: str, moment: str) -> None:
    """A variable that is not set (`--at "$THEN"`) is wrong usage, in words, wherever a moment can be named."""
    words = command.split()
    behind = words[:2] == ["image", "at"]
    done = runner.invoke(app, [*words[:2], moment, *words[2:]] if behind else [*words, "--at", moment])
    assert (done.exit_code, done.stdout, fleet.asked) == (2, "", [])
    assert "it is empty; name a transaction, or a time with its zone" in " ".join(done.stderr.split())


def test_a_moment_alone_is_no_command(fleet: FakeFleet, runner: CliRunner) -> None:
    """`image at` needs to be told what to do."""
    assert runner.invoke(app, ["image", "at", THEN]).exit_code == 2
    assert fleet.asked == []
