"""`batos image backup` and `restore` on a real bus and image: while others commit, interrupted, refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from integration.image_fixtures import Care, committing, fill, names
from integration.image_process import until

from batos.uvm import open_image, read_blob

pytestmark = pytest.mark.timeout(180)


def test_backup_while_others_commit_and_restore(awakened: Care, tmp_path: Path) -> None:
    """Full and incremental backups of an image that is being written; a fleet on what is restored has all of them."""
    backups, home = str(tmp_path / "backups"), tmp_path / "restored"
    with committing(awakened.uri) as acknowledged:
        before = len(acknowledged)
        first = awakened.json("image", "backup", backups)
        then = len(acknowledged)
        second = awakened.json("image", "backup", backups)
    assert (first["kind"], second["kind"]) == ("full", "incremental")
    assert second["bytes_written"] > 0
    assert (first["blobs_written"], second["blobs_written"]) == (1, 0)
    last = awakened.json("image", "backup", backups)

    restored = awakened.json("image", "restore", backups, "--into", str(home))
    assert (restored["root_hash"], restored["compared"]) == (last["root_hash"], True)
    assert restored["root_hash"] == awakened.json("image", "verify")["root_hash"]
    assert awakened.run("image", "restore", backups, "--into", str(home)).returncode == 1
    assert "has an image already" in awakened.run("image", "restore", backups, "--into", str(awakened.home)).stderr

    earlier = tmp_path / "earlier"
    back = awakened.json("image", "restore", backups, "--into", str(earlier), "--at", first["tid"])
    assert back["tid"] == first["tid"]
    found = names(f"file://{earlier / 'image' / 'live_image.fs'}?blob_dir={earlier / 'image' / 'blobs'}")
    assert {f"c{number}" for number in acknowledged[:before]} <= found
    assert f"c{acknowledged[-1]}" not in found
    assert then > before

    other = Care(home)
    other.up()
    try:
        assert {f"c{number}" for number in acknowledged} <= names(other.uri)
        with open_image(other.uri) as opened, opened.snapshot() as root:
            assert read_blob(root["things"]["n7"].blob) == b"b" * 100_000
        assert other.json("image", "verify")["faults_found"] == 0
    finally:
        assert other.run("down").returncode == 0


def test_a_backup_that_is_interrupted(awakened: Care, tmp_path: Path) -> None:
    """Ctrl-C at the command ends the work at the image, too; nothing looks like a backup."""
    with open_image(awakened.uri) as opened:
        for part in range(10):
            opened.run(lambda root, part=part: fill(root, part))
    backups = tmp_path / "backups"
    with awakened.terminal("image", "backup", str(backups)) as child:
        until("the backup", lambda: (backups / ".lock").exists() or not child.isalive())
        child.sendintr()
        child.expect(pexpect.EOF)
    until("the end of it", lambda: awakened.run("image", "pins").returncode == 0 and idle(awakened))
    made = list(backups.glob("2*-full"))
    again = awakened.json("image", "backup", str(backups))
    assert again["kind"] == ("unchanged" if made else "full")
    assert not list(backups.glob(".partial*"))


def idle(awakened: Care) -> bool:
    return not [process for process in awakened.processes() if "batos.image.care" in process.cmdline()]


def test_what_cannot_be_asked(care: Care, tmp_path: Path) -> None:
    """No fleet, no backup, no image, a folder within the image's: each in one sentence with its exit code."""
    assert care.run("image", "backup", str(tmp_path / "b")).returncode == 3
    assert care.run("image", "pack").returncode == 3
    none = care.run("image", "restore", str(tmp_path), "--into", str(tmp_path / "x"))
    assert (none.returncode, "there is no backup" in none.stderr) == (1, True)
    verify = care.run("image", "verify")
    assert (verify.returncode, "there is no image" in verify.stderr) == (1, True)
    care.up()
    inside = care.run("image", "backup", str(care.home / "image" / "b"))
    assert (inside.returncode, "no place for backups" in inside.stderr) == (1, True)


def test_the_tool_is_a_program(tmp_path: Path) -> None:
    """Anybody may run it: JSON Lines, the last one the outcome."""
    done = subprocess.run(
        [sys.executable, "-m", "batos.image.care", "restore", "--home", str(tmp_path / "h"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "ErrorReply"
