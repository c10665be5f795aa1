"""What `batos image backups` and `verify --backup` say, and with which exit codes they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from console_fake_fleet import FakeFleet
from typer.testing import CliRunner

from batos.console import image_tool
from batos.console.commands import app
from batos.protocol import BackupView, ImageBackups, Message, Progress
from batos.vessel import VesselError

GOOD = BackupView(
    name="one", restores=True, kind="full", made_at="2026-01-31T12:00:00+00:00", tid="03ff" * 4, image="ab" * 16,
    objects=7, blobs=2, bytes=2_500_000,
)  # fmt: skip
BAD = BackupView(name="two", restores=False, why="two/manifest.json is damaged")


class Tool:
    """In the place of the process that looks at the folder."""

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self.outcome: Message | Exception = found()

    async def __call__(self, module: str, arguments: Sequence[str], on_progress: Callable[[Progress], None]) -> Message:
        del module
        self.arguments = list(arguments)
        on_progress(Progress(what="verify", id="", stage="reading the backups", fraction=0.5))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def found(**more: Any) -> ImageBackups:
    fields: dict[str, Any] = {"folder": "/b", "backups": (GOOD,), "faults_found": 0, "duration_ms": 1500}
    return ImageBackups(**{**fields, **more})


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, fleet: FakeFleet) -> Tool:
    """The process; no fleet runs."""
    fleet.up = False
    made = Tool()
    monkeypatch.setattr(image_tool, "run_tool", made)
    monkeypatch.setenv("COLUMNS", "200")
    return made


def test_listed(tool: Tool, runner: CliRunner, tmp_path: Path) -> None:
    """Each backup in a line that says whether it can be restored; no fleet is needed."""
    tool.outcome = found(backups=(BAD, GOOD), faults_found=1)
    done = runner.invoke(app, ["image", "backups", "b"])
    assert done.exit_code == 0
    assert tool.arguments == ["backups", str(tmp_path / "b")]
    assert "cannot be restored: two/manifest.json is damaged" in done.stdout
    assert "2.5 MB" in done.stdout
    assert json.loads(runner.invoke(app, ["image", "backups", "b", "--json"]).stdout)["backups"][1]["name"] == "one"
    tool.outcome = found(backups=())
    assert "there is no backup in /b" in runner.invoke(app, ["image", "backups", "b"]).stdout


def test_thinned(tool: Tool, runner: CliRunner, tmp_path: Path) -> None:
    """What was taken away, or would be; a refusal in its own words."""
    tool.outcome = found(removed=("zero",), blobs_removed=3, bytes_removed=1_000_000)
    done = runner.invoke(app, ["image", "backups", "b", "--keep", "1"])
    assert (done.exit_code, tool.arguments) == (0, ["backups", "--keep=1", str(tmp_path / "b")])
    assert "taken away: zero" in done.stdout
    assert "taken away: 1 of 1 backups and 3 blobs, 1.0 MB" in done.stdout
    done = runner.invoke(app, ["image", "backups", "b", "--days", "30", "--dry-run"])
    assert tool.arguments == ["backups", "--days=30.0", "--dry-run", str(tmp_path / "b")]
    assert "would be taken away: zero" in done.stdout
    tool.outcome = VesselError("backup_damaged", "nothing was taken away", "put it right")
    assert runner.invoke(app, ["image", "backups", "b", "--keep", "1"]).exit_code == 1


@pytest.mark.parametrize("options", [["--keep", "0"], ["--keep", "1", "--days", "1"], ["--dry-run"], ["--days", "-1"]])
def test_wrong_usage(tool: Tool, runner: CliRunner, options: list[str]) -> None:
    """Nothing kept at all, both ways at once, a trial of nothing."""
    assert runner.invoke(app, ["image", "backups", "b", *options]).exit_code == 2
    assert not tool.arguments


def test_verified(tool: Tool, runner: CliRunner, tmp_path: Path) -> None:
    """Everything was read and is whole: exit 0; every fault and which backups it keeps from being restored: exit 1."""
    tool.outcome = found(bytes_read=3_000_000)
    done = runner.invoke(app, ["image", "verify", "--backup", "b"])
    assert (done.exit_code, tool.arguments) == (0, ["verify", f"--backup={tmp_path / 'b'}"])
    assert "can be restored" in done.stdout
    assert done.stdout.splitlines()[-1] == "3.0 MB read in 1.5 s: nothing is wrong"
    tool.outcome = found(backups=(BAD, GOOD), faults=(BAD.why,), faults_found=3)
    done = runner.invoke(app, ["image", "verify", "--backup", "b"])
    assert done.exit_code == 1
    assert "two/manifest.json is damaged\nand 2 more\n" in done.stdout
    assert "3 faults" in done.stdout
    assert json.loads(runner.invoke(app, ["image", "verify", "--backup", "b", "--json"]).stdout)["faults_found"] == 3
