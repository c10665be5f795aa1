"""What the commands that care for the image's files say, and with which exit codes they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from console_fake_fleet import FakeFleet
from typer.testing import CliRunner

from batos.console import care, image_tool, progress
from batos.console.commands import app
from batos.console.database_care import DatabaseCare
from batos.console.errors import ConsoleError
from batos.console.runner import Work
from batos.console.settings import ConsoleSettings
from batos.console.show import Screen
from batos.protocol import (
    ImageBackedUp,
    ImageBackup,
    ImageFault,
    ImagePack,
    ImagePacked,
    ImagePin,
    ImagePins,
    ImagePinsGet,
    ImageRestored,
    ImageUnpin,
    ImageVerified,
    ImageVerify,
    Message,
    PinView,
    Progress,
    RemoteError,
)
from batos.vessel import VesselError, load_settings

TID = "03ff" * 4
TURNS = 20
"""Of the event loop, in which what was said is shown."""
DATABASE = "postgresql://mind@nowhere/mind"


def backed_up(**more: Any) -> ImageBackedUp:
    fields: dict[str, Any] = {
        "name": "one", "kind": "full", "why": "there was none before", "tid": TID, "root_hash": "ab" * 32, "objects": 7,
        "blobs": 2, "bytes_written": 2_500_000, "blobs_written": 1, "blob_bytes_written": 999, "duration_ms": 1500,
    }  # fmt: skip
    return ImageBackedUp(**{**fields, **more})


def verified(*faults: ImageFault, found: int | None = None) -> ImageVerified:
    return ImageVerified(
        tid=TID, root_hash="ab" * 32, objects=7, transactions=3, references=9, blobs=2, blobs_compared=1,
        bytes_compared=1_000, contents_compared=4, faults_found=len(faults) if found is None else found,
        duration_ms=200, faults=faults, notes=("a note",),
    )  # fmt: skip


FAULT = ImageFault(kind="blob", message="its bytes are missing", path="lobby.a.blob", oid="07", hint="copy them back")
PINS = ImagePins(pins=(PinView(name="before", tid=TID, reason="a test", by="architect", at=1_700_000_000.0),))


def test_backup(fleet: FakeFleet, runner: CliRunner, tmp_path: Path) -> None:
    """What was written and what is held, in words and as one object; the folder goes out absolute."""
    fleet.answers[ImageBackup] = backed_up()
    done = runner.invoke(app, ["image", "backup", "b", "--full"])
    assert done.exit_code == 0
    assert "full backup one" in done.stdout
    assert "2.5 MB of the file and 999 bytes of 1 new blobs written in 1.5 s" in done.stdout
    (body,) = fleet.bodies(ImageBackup)
    assert (body.folder, body.full, len(body.request_id)) == (str(tmp_path / "b"), True, 32)
    found = json.loads(runner.invoke(app, ["image", "backup", "b", "--json"]).stdout)
    assert (found["kind"], found["root_hash"], found["bytes_written"]) == ("full", "ab" * 32, 2_500_000)


def test_backup_of_a_damaged_image(fleet: FakeFleet, runner: CliRunner) -> None:
    """It was made, yet the command fails, so that whoever calls it every night notices."""
    fleet.answers[ImageBackup] = backed_up(missing=("the bytes of blob 7 are missing",))
    done = runner.invoke(app, ["image", "backup", "b"])
    assert done.exit_code == 1
    assert "blob 7" in done.stderr
    assert "batos image verify" in done.stderr


def test_backup_beside_a_damaged_one(fleet: FakeFleet, runner: CliRunner) -> None:
    """It was made, so the command succeeds; the other is named."""
    fleet.answers[ImageBackup] = backed_up(passed_over=("two is damaged",))
    done = runner.invoke(app, ["image", "backup", "b"])
    assert (done.exit_code, "two is damaged" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    "arguments", [["backup", ""], ["backup", " "], ["backups", ""], ["restore", "", "--into", "h"],
                  ["restore", "b", "--into", ""], ["verify", "--backup", ""]], ids=" ".join,
)  # fmt: skip
def test_folders_without_a_name(fleet: FakeFleet, runner: CliRunner, arguments: list[str]) -> None:
    """As a variable that is not set gives them: never the folder where the command runs."""
    done = runner.invoke(app, ["image", *arguments])
    assert (done.exit_code, "name a folder" in done.stderr) == (2, True)
    assert not fleet.asked


def test_refusals(fleet: FakeFleet, runner: CliRunner) -> None:
    """What the image refuses is said in its words: exit 1; without a fleet: exit 3."""
    fleet.answers[ImagePack] = RemoteError("image_busy", "a backup is under way", "wait")
    done = runner.invoke(app, ["image", "pack"])
    assert (done.exit_code, "a backup is under way: wait" in done.stderr) == (1, True)
    fleet.up = False
    for arguments in (["backup", "b"], ["pack"], ["pin", "a"], ["pins"], ["unpin", "a"]):
        assert runner.invoke(app, ["image", *arguments]).exit_code == 3


def test_verify(fleet: FakeFleet, runner: CliRunner) -> None:
    """Nothing is wrong: exit 0. Each fault with its path and what helps: exit 1."""
    fleet.answers[ImageVerify] = verified()
    good = runner.invoke(app, ["image", "verify"])
    assert good.exit_code == 0
    assert "7 objects, 9 references and 2 blobs looked at" in good.stdout
    assert "a note" in good.stdout
    assert good.stdout.splitlines()[-1] == "nothing is wrong"
    fleet.answers[ImageVerify] = verified(FAULT, found=3)
    bad = runner.invoke(app, ["image", "verify"])
    assert bad.exit_code == 1
    assert "blob: lobby.a.blob: its bytes are missing\n  -> copy them back\nand 2 more\n3 faults" in bad.stdout
    found = json.loads(runner.invoke(app, ["image", "verify", "--json"]).stdout)
    assert found["faults"][0]["path"] == "lobby.a.blob"
    assert found["faults_found"] == 3


class Tool:
    """In the place of the process that works on files or a database; without an outcome it never ends by itself."""

    def __init__(self, outcome: Message | Exception | None) -> None:
        self.outcome = outcome
        self.arguments: list[str] = []
        self.ended = False

    async def __call__(self, module: str, arguments: Sequence[str], on_progress: Callable[[Progress], None]) -> Message:
        assert module == "batos.image.care"
        self.arguments = list(arguments)
        on_progress(Progress(what="restore", id="", stage="checking", fraction=0.5))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is None:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = True
        assert self.outcome is not None
        return self.outcome


def test_verify_without_a_fleet(
    fleet: FakeFleet, runner: CliRunner, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """The files of the home are looked at where no fleet runs."""
    fleet.up = False
    tool = Tool(verified())
    monkeypatch.setattr(image_tool, "run_tool", tool)
    assert runner.invoke(app, ["image", "verify"]).exit_code == 0
    assert tool.arguments == ["verify", "--home", str(home)]


def test_restore(runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Needs no fleet; says what was restored, and whether it was compared; a refusal is its own sentence."""
    made = ImageRestored(
        name="one", folder="/h/image", tid=TID, root_hash="ab" * 32, compared=True, objects=7, blobs=2,
        bytes_written=3_000, duration_ms=900,
    )  # fmt: skip
    tool = Tool(made)
    monkeypatch.setattr(image_tool, "run_tool", tool)
    done = runner.invoke(app, ["image", "restore", "b", "--into", "h", "--at", TID])
    assert done.exit_code == 0
    assert "restored one into /h/image" in done.stdout
    assert "the same as the backup's" in done.stdout
    which = [f"--home={tmp_path / 'h'}", f"--at={TID}", "--image="]
    assert tool.arguments == ["restore", *which, str(tmp_path / "b")]
    runner.invoke(app, ["image", "restore", "b", "--into", "h", "--at", "--foo", "--image", "ab"])
    assert tool.arguments[2:4] == ["--at=--foo", "--image=ab"]
    lacking = {"missing": ("blob 7 is not in the backup",), "passed_over": ("x is damaged",)}
    tool.outcome = msgspec.structs.replace(made, **lacking)
    done = runner.invoke(app, ["image", "restore", "b", "--into", "h"])
    assert done.exit_code == 1
    assert "passed over: x is damaged" in done.stderr
    assert "blob 7 is not in the backup" in done.stderr
    tool.outcome = VesselError("image_exists", "h has an image already", "restore into another home")
    done = runner.invoke(app, ["image", "restore", "b", "--into", "h"])
    assert (done.exit_code, "has an image already: restore into another home" in done.stderr) == (1, True)


def test_pack(fleet: FakeFleet, runner: CliRunner) -> None:
    """What was given back, from when on the past can be looked at, and which pin holds the rest."""
    fleet.answers[ImagePack] = ImagePacked(
        horizon=1_700_000_000.0, held_by="before", bytes_before=5_000_000, bytes_after=2_000_000,
        blob_bytes_before=10, blob_bytes_after=4, objects_before=9, objects_after=7, duration_ms=100,
        earliest=TID,
    )  # fmt: skip
    done = runner.invoke(app, ["image", "pack", "--days", "7"])
    assert done.exit_code == 0
    assert "given back: 3.0 MB of 5.0 MB, and 6 bytes of 10 bytes of blobs, 2 objects" in done.stdout
    assert "from 2023-11-14T22:13:20+00:00 on can be looked at (the pin before holds" in done.stdout
    assert f"the earliest transaction is {TID}" in done.stdout
    runner.invoke(app, ["image", "pack"])
    assert [body.days for body in fleet.bodies(ImagePack)] == [7.0, None]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    """The process, for an image in PostgreSQL; progress is shown at once."""
    monkeypatch.setenv("BATOS_IMAGE_URI", DATABASE)
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr(progress, "TICK_S", 0.0)
    found = Tool(None)
    monkeypatch.setattr(image_tool, "run_tool", found)
    return found


def test_pack_of_a_database_says_how_far_it_is(tool: Tool, runner: CliRunner) -> None:
    """As a pack by the image's vessel does; its outcome is PostgreSQL's."""
    tool.outcome = ImagePacked(
        horizon=1_700_000_000.0, held_by="", bytes_before=0, bytes_after=0, blob_bytes_before=0, blob_bytes_after=0,
        objects_before=0, objects_after=0, duration_ms=100, earliest=TID,
    )  # fmt: skip
    done = runner.invoke(app, ["image", "pack", "--days", "7"])
    assert (done.exit_code, tool.arguments) == (0, ["pack", "--days", "7.0"])
    assert "restore: checking 50% (0 s)" in done.stdout
    assert "PostgreSQL gives the space back when it vacuums" in done.stdout


@pytest.mark.parametrize("act", ["pack", "pins", "verify"])
def test_what_takes_too_long_is_ended(fleet: FakeFleet, tool: Tool, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """A process of this command's own is bounded as a request is: ended, and what was too short is said."""
    screen = Screen(as_json=False)
    if act == "pack":
        work = care.pack(DatabaseCare(), screen, None, timeout_s=0.01)
    elif act == "pins":
        work = care.pins(DatabaseCare(), screen, request_s=0.01)
    else:
        fleet.up = False
        monkeypatch.delenv("BATOS_IMAGE_URI")
        work = care.verify(Work(load_settings(ConsoleSettings), screen), timeout_s=0.01)
    with pytest.raises(ConsoleError, match=f"`{act}` took longer than 0.01 s and was ended: .*(--timeout|REQUEST_S)"):
        asyncio.run(work)
    assert tool.ended


def test_pins(fleet: FakeFleet, runner: CliRunner) -> None:
    """Pinned, listed, forgotten."""
    fleet.answers |= {ImagePin: PINS, ImagePinsGet: PINS, ImageUnpin: ImagePins(pins=())}
    assert runner.invoke(app, ["image", "pin", "before", "--at", TID, "--reason", "a test"]).exit_code == 0
    (body,) = fleet.bodies(ImagePin)
    assert (body.name, body.at, body.reason, body.by) == ("before", TID, "a test", "architect")
    listed = runner.invoke(app, ["image", "pins"]).stdout
    assert "before" in listed
    assert TID in listed
    assert "no pins" in runner.invoke(app, ["image", "unpin", "before"]).stdout
    assert json.loads(runner.invoke(app, ["image", "pins", "--json"]).stdout)["pins"][0]["name"] == "before"


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2 * 10**15, "2000.0 TB")]
)
def test_sizes(count: int, said: str) -> None:
    """Bytes are said so that people can compare them."""
    assert care.size(count) == said
