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


def test_backups_of_a_folder(awakened: Care, tmp_path: Path) -> None:
    """Listed, read to the last byte, thinned, and mended by the next full backup, which alone needs a fleet."""
    backups = tmp_path / "backups"
    old = awakened.json("image", "backup", str(backups))["name"]
    new = awakened.json("image", "backup", str(backups), "--full")["name"]
    assert [one["name"] for one in awakened.json("image", "backups", str(backups))["backups"]] == [old, new]
    assert awakened.json("image", "verify", "--backup", str(backups))["faults_found"] == 0
    assert awakened.json("image", "backups", str(backups), "--keep", "1")["removed"] == [old]
    (blob,) = (path for path in (backups / "blobs").rglob("*") if path.is_file())
    blob.write_bytes(b"c" * 100_000)
    found = awakened.run("image", "verify", "--backup", str(backups))
    assert found.returncode == 1
    assert f"{blob} is damaged" in found.stdout
    assert awakened.run("image", "restore", str(backups), "--into", str(tmp_path / "new")).returncode == 1
    assert awakened.json("image", "backup", str(backups), "--full")["blobs_written"] == 1
    assert awakened.json("image", "verify", "--backup", str(backups))["faults_found"] == 0


def test_a_blob_that_was_lost(awakened: Care, tmp_path: Path) -> None:
    """The nightly backup fails loudly and loses nothing; what is made of it has the blob again."""
    backups, home = str(tmp_path / "backups"), tmp_path / "restored"
    awakened.json("image", "backup", backups)
    (blob,) = (awakened.home / "image" / "blobs").rglob("*.blob")
    blob.unlink()
    for how in ([], ["--full"], []):
        made = awakened.run("image", "backup", backups, *how)
        assert (made.returncode, "the right bytes are" in made.stderr) == (1, True)
    assert awakened.json("image", "restore", backups, "--into", str(home))["missing"] == []
    assert [path.stat().st_size for path in (home / "image").rglob("*.blob")] == [100_000]


def test_folders_of_other_images(awakened: Care, tmp_path: Path) -> None:
    """A second image's backup to the folder of the first is refused, and so is a way around into the image's own."""
    backups = str(tmp_path / "backups")
    awakened.json("image", "backup", backups)
    around = awakened.run("image", "backup", str(awakened.home / "run" / ".." / "image" / "b"))
    assert (around.returncode, "no place for backups" in around.stderr) == (1, True)
    assert awakened.run("down").returncode == 0
    (awakened.home / "image").rename(tmp_path / "away")
    awakened.up()
    with open_image(awakened.uri) as opened:
        opened.run(lambda root: fill(root, 1))
    other = awakened.run("image", "backup", backups)
    assert (other.returncode, "the backups of another image" in other.stderr) == (1, True)


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
