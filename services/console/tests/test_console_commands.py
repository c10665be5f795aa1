"""Exit codes and what programs read, through the command as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from console_fake_fleet import FakeFleet, status
from typer.testing import CliRunner

from batos.console.commands import app
from batos.protocol import (
    BusUnreachable,
    EngineDescribe,
    EngineDescription,
    MissionAccepted,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    PersonaGet,
    PersonaView,
    Plank,
    RemoteError,
    RequestTimeout,
    Roll,
    Rolled,
    Roster,
    RosterGet,
    VesselCard,
)

ASK_FIELDS = {
    "mission_id",
    "outcome",
    "answer",
    "cycle_id",
    "tid",
    "personas",
    "model",
    "adapter",
    "usage",
    "duration_ms",
    "error",
}


def card(name: str, kind: str, **more: object) -> VesselCard:
    fields = {
        "incarnation": f"{name}-incarnation", "pid": 7, "version": "0.1.0", "started_at": time.time() - 75,
        "ready": True, "metrics": "http://127.0.0.1:1/metrics",
    }  # fmt: skip
    return VesselCard(name=name, kind=kind, **{**fields, **more})  # type: ignore[arg-type]


def roster(_: RosterGet) -> Roster:
    """Who is there when it is asked: each vessel began a little more than a minute before."""
    return Roster(
        bus_incarnation="b",
        bus_started_at=1.0,
        vessels=(
            card("bus", "bus"),
            card("kernel-1", "kernel", ready=False, reason="awakening"),
            card("console-12", "console"),
        ),
    )


ENGINE = EngineDescription(engine="llama", model="SmolLM2", model_hash="m1", context_tokens=4096, slots=2)


def brick(adapters: dict[str, str]) -> PersonaView:
    dna = {"version": 3, "adapters": adapters}
    return PersonaView(name="BRICK", dna=dna, codex={"rule": "strong"}, pillars={"lego": "p"}, ancestor="")


def test_ask_prints_one_object(fleet: FakeFleet, runner: CliRunner) -> None:
    """`ask --json` prints the fields that programs rely on and nothing else, and exits 0."""
    fleet.thinks(lambda body: status(body.mission_id))
    done = runner.invoke(app, ["ask", "why?", "--persona", "babs", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) >= ASK_FIELDS
    assert found["outcome"] == "COMPLETE"
    assert found["usage"] == {"prompt_tokens": 90, "completion_tokens": 12}
    (asked,) = fleet.bodies(MissionSubmit)
    assert (asked.text, asked.weaver, asked.mission_id) == ("why?", "babs", found["mission_id"])


def test_ask_shows_the_thought(fleet: FakeFleet, runner: CliRunner) -> None:
    """Without a terminal the thought is lines: states, who said what, figures, and in the end answer and facts."""
    fleet.thinks(lambda body: status(body.mission_id, adapter="brick-12"))
    lines = runner.invoke(app, ["ask", "why?"]).stdout.splitlines()
    assert lines[0].split() == ["IDLE", "orchestrator"]
    assert lines[1].split() == ["DECOMPOSING", "BRICK"]
    assert lines[2] == "  BRICK/plan two facets (12 tokens, 1.5 s, brick-12)"
    assert "COMPLETE in 2.5 s" in lines
    assert "because" in lines
    assert any("brick-12" in line and line.startswith("adapter") for line in lines)


def test_a_failed_mission_is_exit_1(fleet: FakeFleet, runner: CliRunner) -> None:
    """A mission that ends FAILED says why; its JSON is printed as well."""
    fleet.thinks(lambda body: status(body.mission_id, "FAILED"))
    done = runner.invoke(app, ["ask", "why?", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"] == "the plan was invalid three times"


def test_the_image_answers_when_events_do_not(fleet: FakeFleet, runner: CliRunner) -> None:
    """Where the last event is lost, the kernel's answer from the image ends the wait."""
    fleet.thinks(lambda body: status(body.mission_id, "RUNNING"))
    seen: list[str] = []

    def wait(body: MissionWait) -> MissionStatus:
        seen.append(body.mission_id)
        return status(body.mission_id, "COMPLETE" if len(seen) > 1 else "RUNNING")

    fleet.answers[MissionSubmit] = lambda body: MissionAccepted(mission_id=body.mission_id)
    fleet.answers[MissionWait] = wait
    assert runner.invoke(app, ["ask", "why?", "--json"]).exit_code == 0
    assert len(seen) == 2


def test_out_of_time_says_how_to_see_the_end(fleet: FakeFleet, runner: CliRunner) -> None:
    """A mission that takes longer than --timeout goes on, and the command that waits for it is named."""
    fleet.thinks(lambda body: status(body.mission_id, "RUNNING"))
    fleet.answers[MissionSubmit] = lambda body: MissionAccepted(mission_id=body.mission_id)
    done = runner.invoke(app, ["ask", "why?", "--timeout", "0.1"])
    assert done.exit_code == 1
    assert "batos mission wait" in done.stderr


def test_standard_input_is_a_mission(fleet: FakeFleet, runner: CliRunner) -> None:
    """`ask -` reads the mission from standard input."""
    fleet.thinks(lambda body: status(body.mission_id))
    assert runner.invoke(app, ["ask", "-", "--json"], input="long\ntext").exit_code == 0
    assert fleet.bodies(MissionSubmit)[0].text == "long\ntext"


@pytest.mark.parametrize(
    "arguments", [["ask", ""], ["ask", "   "], ["ask", "-"], ["ask"], ["frob"], ["ask", "x", "--y"]]
)
def test_wrong_usage_is_exit_2(fleet: FakeFleet, runner: CliRunner, arguments: list[str]) -> None:
    """An empty mission, a missing argument, an unknown command or option end with 2, and nothing is asked."""
    done = runner.invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr
    assert fleet.asked == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteError("persona_unknown", "there is no persona 'joker'", "ROBIN, BRICK, BABS, ALFRED"), 2),
        (RemoteError("mission_too_large", "the mission is too large"), 2),
        (RemoteError("image_read_only", "the image is read-only"), 1),
        (RequestTimeout("kernel", "MissionSubmit", 30), 1),
        (BusUnreachable("kernel", "MissionSubmit", 30), 3),
    ],
)
def test_errors_have_their_codes(fleet: FakeFleet, runner: CliRunner, error: Exception, code: int) -> None:
    """What the fleet refuses is one sentence with its hint, and an exit code that says whose fault it is."""
    fleet.answers[MissionSubmit] = error
    fleet.answers[MissionWait] = error
    done = runner.invoke(app, ["ask", "why?"])
    assert done.exit_code == code
    assert done.stderr.startswith("error: ")
    assert getattr(error, "message").split(";")[0] in done.stderr  # noqa: B009 - of several classes
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["ask", "x"], ["roll", "kernel"], ["forge", "run", "brick"], ["forge", "rollback", "brick"],
     ["mission", "list"], ["mission", "show", "x"], ["persona", "show", "robin"]],
)  # fmt: skip
def test_no_fleet_is_exit_3(fleet: FakeFleet, runner: CliRunner, arguments: list[str]) -> None:
    """Where no fleet runs every command that needs one exits 3 and names the one that starts it."""
    fleet.up = False
    done = runner.invoke(app, arguments)
    assert done.exit_code == 3
    assert "batos up" in done.stderr


def test_bad_settings_are_exit_2(fleet: FakeFleet, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that nobody knows is refused by name before anything is done."""
    monkeypatch.setenv("BATOS_CONSOLE_REACHH", "1")
    done = runner.invoke(app, ["status"])
    assert done.exit_code == 2
    assert "BATOS_CONSOLE_REACHH" in done.stderr
    assert fleet.asked == []


def test_status_for_programs(fleet: FakeFleet, runner: CliRunner) -> None:
    """`status --json` has the fields that programs rely on, without the consoles that look."""
    fleet.answers = {
        RosterGet: roster,
        EngineDescribe: ENGINE,
        PersonaGet: brick({"m1": "brick-12", "m0": "brick-old"}),
    }
    found = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert [vessel["name"] for vessel in found["vessels"]] == ["bus", "kernel-1"]
    fields = {"name", "incarnation", "pid", "ready", "version", "uptime_s", "metrics", "kind", "reason"}
    assert fields <= set(found["vessels"][0])
    assert found["vessels"][0]["uptime_s"] >= 75
    assert found["engine"]["model"] == "SmolLM2"
    assert found["personas"][0]["adapter"] == "brick-12"
    assert found["personas"][0]["inactive"] == ["brick-old"]


def test_status_for_people(fleet: FakeFleet, runner: CliRunner) -> None:
    """`status` shows who is not ready and why, the model, and who answers with what."""
    fleet.answers = {RosterGet: roster, EngineDescribe: ENGINE, PersonaGet: brick({"m0": "brick-old"})}
    said = runner.invoke(app, ["status"]).stdout
    assert "not ready: awakening" in said
    assert "1 min " in said
    assert "SmolLM2 (llama, 2 slots of 4096 tokens)" in said
    assert "learned on another model and resting: brick-old" in said
    assert "console-12" not in said


def test_status_without_model_and_kernel(fleet: FakeFleet, runner: CliRunner) -> None:
    """A fleet that is half up has a status too."""
    silent = RequestTimeout("kernel", "PersonaGet", 2)
    fleet.answers = {RosterGet: roster, EngineDescribe: silent, PersonaGet: silent}
    done = runner.invoke(app, ["status"])
    assert done.exit_code == 0
    assert "persona-inference does not answer" in done.stdout
    assert "no kernel answers" in done.stdout
    found = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert found["engine"] is None
    assert found["personas"] == []


def test_missions_are_listed_and_shown(fleet: FakeFleet, runner: CliRunner) -> None:
    """`mission list` and `mission show` say what the image records, for people and for programs."""
    fleet.answers = {
        MissionList: Missions(missions=(status("m1", author="genesis"), status("m2", "FAILED"))),
        MissionWait: status("m1"),
    }
    found = json.loads(runner.invoke(app, ["mission", "list", "--limit", "2", "--json"]).stdout)["missions"]
    assert [(mission["mission_id"], mission["state"]) for mission in found] == [("m1", "COMPLETE"), ("m2", "FAILED")]
    assert found[0]["author"] == "genesis"
    assert "type" not in found[0]
    assert fleet.bodies(MissionList)[0].limit == 2
    assert "m2" in runner.invoke(app, ["mission", "list"]).stdout
    assert json.loads(runner.invoke(app, ["mission", "show", "m1", "--json"]).stdout)["answer"] == "because"
    assert runner.invoke(app, ["mission", "wait", "m1"]).exit_code == 0


def test_persona_is_shown(fleet: FakeFleet, runner: CliRunner) -> None:
    """`persona show` has name, DNA, codex, pillars and ancestor."""
    fleet.answers = {PersonaGet: brick({})}
    found = json.loads(runner.invoke(app, ["persona", "show", "brick", "--json"]).stdout)
    assert set(found) == {"name", "dna", "codex", "pillars", "ancestor", "as_of"}
    assert found["ancestor"] is None
    said = runner.invoke(app, ["persona", "show", "brick"]).stdout
    assert "lego" in said
    assert "cloned from nobody" in said


def test_roll_says_which_planks(fleet: FakeFleet, runner: CliRunner) -> None:
    """`roll` names each plank with its old and new incarnation."""
    plank = Plank(name="kernel-1", old="a" * 32, new="b" * 32, duration_ms=1500)
    fleet.answers = {RosterGet: roster, Roll: Rolled(planks=(plank,))}
    assert "kernel-1: aaaaaaaa -> bbbbbbbb in 1.5 s" in runner.invoke(app, ["roll", "kernel"]).stdout
    assert json.loads(runner.invoke(app, ["roll", "kernel", "--json"]).stdout)["planks"][0]["name"] == "kernel-1"


def test_help_is_quick_and_light() -> None:
    """`batos --help` loads neither sockets nor settings nor rich."""
    code = (
        "import sys; from batos.console.commands import app\n"
        "try:\n app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'zmq', 'pydantic', 'rich', 'prompt_toolkit', 'msgspec', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "forge" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["up", "down", "status", "ask", "roll", "console", "run", "mission list", "mission show", "mission wait",
     "mission undo", "persona show", "forge run", "forge status", "forge promote", "forge rollback", "keys make",
     "image show", "image history", "image versions", "image diff", "image compare", "image install", "image revert",
     "image upgrade", "image at",
     "mission", "persona", "forge", "keys", "image", ""],
)  # fmt: skip
def test_every_help_has_an_example(runner: CliRunner, command: str) -> None:
    """The help of each command shows how it is typed."""
    done = runner.invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert f"batos {command}" in " ".join(done.stdout.split())
    assert "Example" in done.stdout


def test_console_needs_a_terminal(fleet: FakeFleet, runner: CliRunner) -> None:
    """The console without a terminal is wrong usage."""
    done = runner.invoke(app, ["console"])
    assert done.exit_code == 2
    assert "batos ask" in done.stderr
    assert fleet.asked == []
