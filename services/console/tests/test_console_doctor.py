"""What `batos doctor` says of a home and a fleet, and with which exit code it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from console_fake_fleet import FakeFleet
from typer.testing import CliRunner

from batos.console import image_tool
from batos.console.commands import app
from batos.protocol import (
    BusAddresses,
    ImageLook,
    ImageLooked,
    ImagePins,
    PinView,
    RemoteError,
    Roster,
    RosterGet,
    VesselCard,
)
from batos.vessel import FleetFile, FleetPlace, VesselError

DAY_S = 86_400.0
KERNEL_LOG = Path("log") / "kernel-1" / "metacognition.jsonl"


def looked(**more: Any) -> ImageLooked:
    now = time.time()
    fields: dict[str, Any] = {
        "file_bytes": 2_500_000, "blob_bytes": 999, "free_bytes": 9_000_000_000, "oldest_at": now - 100 * DAY_S,
        "backup_at": now - DAY_S, "backup_folder": "/backups/one", "packed_at": now - 1,
    }  # fmt: skip
    return ImageLooked(**{**fields, **more})


def pin(name: str, days: float, reason: str = "") -> PinView:
    return PinView(name=name, tid="03ff" * 4, reason=reason, by="architect", at=time.time() - days * DAY_S - 60)


def card(name: str, kind: str, **more: Any) -> VesselCard:
    fields: dict[str, Any] = {"ready": True, **more}
    return VesselCard(name=name, kind=kind, incarnation=name, pid=1, version="0.1.0", started_at=1.0, **fields)


def there(fleet: FakeFleet, *cards: VesselCard) -> None:
    fleet.answers[RosterGet] = Roster(bus_incarnation="b", bus_started_at=1.0, vessels=cards)


@pytest.fixture
def sound(fleet: FakeFleet, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeFleet:
    """A home and a fleet that nothing is wrong with."""
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setenv("BATOS_INFERENCE_ENV_PYTHON", str(python))
    for folder in ("keys", "image", KERNEL_LOG.parent):
        (home / folder).mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    (home / "log").chmod(0o700)
    for file in (Path("keys") / "bus.secret", KERNEL_LOG):
        (home / file).write_text("x" * 40)
        (home / file).chmod(0o600)
    addresses = BusAddresses(work="w", control="c", publish="p", subscribe="s", server_key="")
    places = (FleetPlace(name="image", kind="image"), FleetPlace(name="kernel-1", kind="kernel"))
    FleetFile(bus=addresses, image_uri="zeo:///s", places=places).save(home)
    there(fleet, card("image", "image"), card("kernel-1", "kernel"), card("console-1", "console"))
    fleet.answers[ImageLook] = looked()
    return fleet


def examined(runner: CliRunner, *options: str) -> tuple[int, list[dict[str, str]]]:
    done = runner.invoke(app, ["doctor", "--json", *options])
    found = json.loads(done.stdout)
    assert found["wrong"] == sum(one["level"] == "wrong" for one in found["findings"])
    return done.exit_code, found["findings"]


def wrongs(runner: CliRunner, *options: str) -> list[tuple[str, str, str]]:
    code, findings = examined(runner, *options)
    found = [(one["about"], one["says"], one["helps"]) for one in findings if one["level"] == "wrong"]
    assert code == (1 if found else 0)
    return found


@pytest.mark.usefixtures("sound")
def test_nothing_is_wrong(runner: CliRunner) -> None:
    """Everything that was looked at has a line, the last says that all is well: exit 0."""
    done = runner.invoke(app, ["doctor"])
    assert done.exit_code == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "nothing is wrong"
    assert {line.split()[1] for line in lines[:-1]} == {
        "home", "keys", "environment", "fleet", "disk", "image", "backup", "pack", "pin", "log",
    }  # fmt: skip
    assert "2 vessels, every one is ready" in done.stdout
    assert "the newest was made 1 day ago in /backups/one" in done.stdout
    assert "1 segments of 1 kernels' metacognition logs, 40 bytes" in done.stdout


def test_forgotten_pins(sound: FakeFleet, runner: CliRunner) -> None:
    """Each is named with its age and the command that removes it; from when on they are forgotten is an option."""
    sound.answers[ImageLook] = looked(pins=(pin("before it's done", 45, "to compare"), pin("young", 3)))
    assert wrongs(runner) == [
        (
            "pin",
            "before it's done (to compare) is 45 days old and keeps packing from going on",
            "batos image unpin 'before it'\"'\"'s done'",
        )
    ]
    assert wrongs(runner, "--pin-days", "60") == []
    assert [helps for _, _, helps in wrongs(runner, "--pin-days", "2")][1:] == ["batos image unpin young"]


def test_pins_that_look_like_options(sound: FakeFleet, runner: CliRunner) -> None:
    """The command that removes them can be typed as it is told."""
    sound.answers[ImageLook] = looked(pins=(pin("-n", 45), pin("--help", 45)))
    assert [helps for _, _, helps in wrongs(runner)] == ["batos image unpin -- -n", "batos image unpin -- --help"]


@pytest.mark.usefixtures("sound")
def test_what_a_restore_left(runner: CliRunner, home: Path) -> None:
    """A restore that was killed leaves a folder; that is nothing wrong, and told with the command that removes it."""
    (home / ".image-restore").mkdir()
    code, findings = examined(runner)
    (left,) = [one for one in findings if ".image-restore" in one["says"]]
    assert (code, left["level"], left["helps"]) == (0, "note", f"rm -r {home / '.image-restore'}")


def test_backups(sound: FakeFleet, runner: CliRunner) -> None:
    """Too old, or never although the image is not young; but an old one that has everything is as good as a new one."""
    old = time.time() - 9 * DAY_S
    sound.answers[ImageLook] = looked(backup_at=old)
    assert [(about, helps) for about, _, helps in wrongs(runner)] == [("backup", "batos image backup /backups/one")]
    assert wrongs(runner, "--backup-days", "10") == []
    sound.answers[ImageLook] = looked(backup_at=old, backup_whole=True)
    assert wrongs(runner) == []
    sound.answers[ImageLook] = looked(backup_at=0.0, backup_folder="")
    assert wrongs(runner) == [("backup", "there never was one", "batos image backup DIR")]
    sound.answers[ImageLook] = looked(backup_at=0.0, backup_folder="", oldest_at=time.time() - DAY_S)
    assert wrongs(runner) == []


def test_vessels(sound: FakeFleet, runner: CliRunner) -> None:
    """One that is missing, one that is not ready and why, and one that is ready and has something to say."""
    there(
        sound,
        card("image", "image", notice="commits are refused, the disk is full (x)"),
        card("bus", "bus", ready=False, reason="late"),
    )
    assert wrongs(runner) == [
        ("vessel", "kernel-1 is not ready: not on the bus yet", "batos status"),
        ("vessel", "bus is not ready: late", "batos status"),
        ("vessel", "image is ready, but commits are refused, the disk is full (x)", "batos image pack"),
    ]


def test_disk_and_pack(sound: FakeFleet, runner: CliRunner) -> None:
    """Too little room, by an option; a pack that failed in its own words; that a pack needs room is only noted."""
    sound.answers[ImageLook] = looked(free_bytes=1_200_000_000, file_bytes=2_000_000_000, pack_error="no way")
    assert wrongs(runner) == [("pack", "the last by schedule could not be done: no way", "batos image pack")]
    assert ("disk", "note") in [(one["about"], one["level"]) for one in examined(runner)[1]]
    says = [says for about, says, _ in wrongs(runner, "--free-gb", "1.5") if about == "disk"]
    assert any(text.startswith("1.2 GB free on the disk of the image") for text in says)
    sound.answers[ImageLook] = RemoteError("image_unusable", "it cannot be read", "see verify")
    assert wrongs(runner) == [("image", "it cannot be read", "see verify")]


@pytest.mark.usefixtures("sound")
def test_what_is_open_to_others(runner: CliRunner, home: Path) -> None:
    """Each with the command that closes it, and nothing is closed by looking."""
    open_to_others = {"": 0o777, "keys": 0o750, "keys/bus.secret": 0o644, str(KERNEL_LOG): 0o604}
    for name, mode in open_to_others.items():
        (home / name).chmod(mode)
    assert [(about, helps) for about, _, helps in wrongs(runner)] == [
        ("home", f"chmod go-w {home}"),
        ("home", f"chmod 700 {home / 'keys'}"),
        ("keys", f"chmod 600 {home / 'keys' / 'bus.secret'}"),
        ("log", f"chmod 600 {home / KERNEL_LOG}"),
    ]
    assert (home / "keys" / "bus.secret").stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("sound")
def test_an_environment_is_missing(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the engine is needed, that of the forge is made by the first training."""
    monkeypatch.setenv("BATOS_INFERENCE_ENV_PYTHON", "/no/python")
    monkeypatch.setenv("BATOS_FORGE_PYTHON", "/no/forge")
    assert wrongs(runner) == [("environment", "inference: there is no Python at /no/python", "make install")]


def test_without_a_fleet(sound: FakeFleet, runner: CliRunner, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """That none runs is no fault; the image's files are looked at by a process of its own, whose refusal is one."""
    sound.up = False
    asked: list[Sequence[str]] = []

    async def tool(_module: str, arguments: Sequence[str], _on_progress: object) -> ImageLooked:
        asked.append(arguments)
        if len(asked) > 1:
            raise VesselError("image_locked", "somebody serves it", "end it")
        return looked(pins=(pin("old", 31),))

    monkeypatch.setattr(image_tool, "run_tool", tool)
    assert [about for about, _, _ in wrongs(runner)] == ["pin"]
    assert asked == [["look", "--home", str(home)]]
    assert wrongs(runner) == [("image", "somebody serves it", "end it")]


@pytest.mark.usefixtures("sound")
def test_a_log_segment_that_goes_meanwhile(runner: CliRunner, home: Path) -> None:
    """A kernel that runs renames its segment between two looks at it: it is passed over."""
    (home / KERNEL_LOG).with_name("metacognition.gone.jsonl").symlink_to("renamed")
    (home / "log" / "kernel-2").mkdir(mode=0o700)
    (home / "log" / "kernel-2" / KERNEL_LOG.name).symlink_to("renamed")
    code, findings = examined(runner)
    assert code == 0
    (log,) = [one["says"] for one in findings if one["about"] == "log"]
    assert log == "1 segments of 1 kernels' metacognition logs, 40 bytes"


def test_a_home_that_is_not_there(fleet: FakeFleet, runner: CliRunner) -> None:
    """Before the first start nothing is wrong."""
    fleet.up = False
    code, findings = examined(runner)
    assert code in {0, 1}  # the engine's environment may not be there on this machine
    assert {one["about"] for one in findings if one["level"] == "wrong"} <= {"environment"}


WHOLE = (
    card("image", "image"), card("bus", "bus"), card("kernel-1", "kernel"), card("inference", "inference"),
    card("curator", "curator"), card("forge", "forge"), card("supervisor", "supervisor"),
)  # fmt: skip
"""A fleet in containers."""


@pytest.fixture
def elsewhere(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeFleet:
    """A fleet in containers that nothing is wrong with, as its console sees it."""
    for name in ("WORK", "CONTROL", "PUBLISH", "SUBSCRIBE"):
        monkeypatch.setenv(f"BATOS_BUS_{name}", "tcp://bus:1")
    monkeypatch.setenv("BATOS_KEYS", str(tmp_path / "given"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "console.secret").touch(0o400)
    there(fleet, *WHOLE)
    fleet.answers[ImageLook] = looked()
    return fleet


@pytest.mark.usefixtures("elsewhere")
def test_a_fleet_elsewhere(runner: CliRunner, tmp_path: Path) -> None:
    """In a console's container: the keys that it was given, vessels and image by the bus, no environments."""
    code, findings = examined(runner)
    assert code == 0
    assert {one["about"] for one in findings} == {"keys", "fleet", "image", "disk", "backup", "pack", "pin"}
    key = tmp_path / "given" / "console.secret"
    key.chmod(0o440)
    assert wrongs(runner) == []
    key.chmod(0o444)
    assert [about for about, _, _ in wrongs(runner)] == ["keys"]
    key.unlink()
    key.parent.rmdir()
    assert [about for about, _, _ in wrongs(runner)] == ["keys"]


@pytest.mark.parametrize("kind", ["image", "kernel", "inference", "curator", "forge", "supervisor"])
def test_a_kind_is_missing_elsewhere(elsewhere: FakeFleet, runner: CliRunner, kind: str) -> None:
    """Nobody wrote down which vessels there should be: one of each kind, and each that lacks is named."""
    there(elsewhere, *(one for one in WHOLE if one.kind != kind))
    helps = "docker compose ps --all, or kubectl -n batos get pods"
    assert wrongs(runner) == [("vessel", f"no {kind} is on the bus", helps)]
    assert not [one for one in examined(runner)[1] if one["about"] == "fleet"]


def test_nobody_is_there_elsewhere(elsewhere: FakeFleet, runner: CliRunner) -> None:
    """A bus alone is no fleet, and a second kernel is no engine."""
    there(elsewhere)
    assert len(wrongs(runner)) == 6
    there(elsewhere, *(one for one in WHOLE if one.kind != "inference"), card("kernel-2", "kernel"))
    assert [says for _, says, _ in wrongs(runner)] == ["no inference is on the bus"]


def test_a_fleet_elsewhere_with_its_image_in_postgresql(
    elsewhere: FakeFleet, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No image vessel is needed, and one that runs all the same is not asked: the database's own pins are told."""
    asked: list[Sequence[str]] = []

    async def tool(_module: str, arguments: Sequence[str], _on_progress: object) -> ImagePins:
        asked.append(arguments)
        return ImagePins(pins=(pin("old", 31),))

    monkeypatch.setattr(image_tool, "run_tool", tool)
    monkeypatch.setenv("BATOS_IMAGE_URI", "postgresql://mind@nowhere/mind")
    for cards in (WHOLE, WHOLE[1:]):
        there(elsewhere, *cards)
        assert [about for about, _, _ in wrongs(runner)] == ["pin"]
    assert asked == [["pins"], ["pins"]]
    assert elsewhere.bodies(ImageLook) == []
    there(elsewhere)
    assert len([says for _, says, _ in wrongs(runner) if says.endswith("is on the bus")]) == 5


@pytest.mark.parametrize("option", ["--pin-days=-1", "--backup-days=soon", "--free-gb=-1", "--nothing"])
def test_bad_usage(runner: CliRunner, option: str) -> None:
    """An option that cannot be: exit 2."""
    assert runner.invoke(app, ["doctor", option]).exit_code == 2
