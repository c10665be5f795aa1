"""`batos image verify` and `batos doctor` on a real bus and image: what is whole, damaged or forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from integration.image_fixtures import Care, committing, names, rewritten
from integration.image_process import image, until

from batos.uvm import open_image

pytestmark = pytest.mark.timeout(180)


def test_verify_beside_a_fleet_and_without_one(awakened: Care, tmp_path: Path) -> None:
    """Everything is looked at while others commit, nothing is wrong: exit 0; the same once the fleet has ended."""
    with committing(awakened.uri):
        awakened.json("image", "backup", str(tmp_path / "backups"))
        found = awakened.json("image", "verify")
    assert (found["faults_found"], found["blobs"], found["blobs_compared"]) == (0, 1, 1)
    assert found["bytes_compared"] > 10_000
    said = awakened.run("image", "verify")
    assert said.returncode == 0
    assert "nothing is wrong" in said.stdout
    assert awakened.run("down").returncode == 0
    again = awakened.json("image", "verify")
    assert again["faults_found"] == 0
    assert again["objects"] >= found["objects"]


def test_flipped_bits_and_missing_blobs_are_named(awakened: Care, tmp_path: Path) -> None:
    """Each fault with its path and the command that helps: exit 1; what is whole stays readable; restoring heals."""
    backups = str(tmp_path / "backups")
    awakened.json("image", "backup", backups)
    assert awakened.run("down").returncode == 0
    content = awakened.file.read_bytes()
    awakened.file.write_bytes(content.replace(b"thing 42 thing 42", b"thing 42 thimg 42", 1))
    (blob,) = (awakened.home / "image").rglob("*.blob")
    blob.unlink()

    done = awakened.run("image", "verify")
    assert done.returncode == 1
    assert "things['n42']" in done.stdout
    assert "things['n7'].blob: the bytes of a blob are missing" in done.stdout
    assert f"batos image restore {backups} --into HOME" in done.stdout
    faults = json.loads(awakened.run("image", "verify", "--json").stdout)["faults"]
    assert {fault["kind"] for fault in faults} == {"hash", "blob"}

    awakened.up()
    assert awakened.run("image", "verify").returncode == 1
    assert "n42" in names(awakened.uri)
    home = tmp_path / "healed"
    awakened.json("image", "restore", backups, "--into", str(home))
    healed = Care(home)
    assert healed.json("image", "verify")["faults_found"] == 0


def test_a_truncated_file_is_not_served(awakened: Care) -> None:
    """The vessel refuses it, and says with which command an image comes back; verify says the same."""
    assert awakened.run("down").returncode == 0
    os.truncate(awakened.file, awakened.file.stat().st_size // 2)
    with image(awakened.home) as server:
        assert server.process.wait(30) == 1
    assert "a part of it is missing" in server.words()
    assert "batos image restore DIR --into HOME" in server.words()
    done = awakened.run("image", "verify")
    assert done.returncode == 1
    assert "a part of it is missing" in done.stdout


def test_a_file_that_was_cut_while_nobody_looked(awakened: Care, tmp_path: Path) -> None:
    """The fleet was killed, so that the index knows nothing of what was committed: the file is not cut further.

    Start, doctor and verify say what is wrong, and restoring brings all of it back.
    """
    backups = str(tmp_path / "backups")
    with open_image(awakened.uri) as opened:
        for number in range(10):
            rewritten(opened, f"text {number}")
    awakened.json("image", "backup", backups)
    for process in awakened.processes():
        process.kill()
    until("the fleet to be gone", lambda: not awakened.processes())
    size = awakened.file.stat().st_size - 2500
    os.truncate(awakened.file, size)

    with image(awakened.home) as server:
        assert server.process.wait(30) == 1
    helps = f"batos image restore {backups} --into HOME"
    assert helps in server.words()
    for command in (["doctor"], ["image", "verify"]):
        done = awakened.run(*command)
        assert done.returncode == 1, done.stdout
        assert "a part of it is missing" in done.stdout, done.stdout
        assert helps in done.stdout, done.stdout
    assert awakened.file.stat().st_size == size
    healed = Care(tmp_path / "healed")
    awakened.json("image", "restore", backups, "--into", str(healed.home))
    assert healed.json("image", "verify")["faults_found"] == 0


def test_a_damaged_index_is_made_again(awakened: Care, tmp_path: Path) -> None:
    """A bit flips in it while no fleet runs: the next start serves what was committed, and backs it up."""
    whole = awakened.json("image", "verify")["root_hash"]
    assert awakened.run("down").returncode == 0
    index = awakened.file.with_name("live_image.fs.index")
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    index.write_bytes(content)
    found = awakened.json("image", "verify")
    assert (found["faults_found"], found["root_hash"]) == (0, whole)
    awakened.up()
    made = awakened.json("image", "backup", str(tmp_path / "backups"))
    assert made["root_hash"] == whole


def test_doctor_where_nothing_is_in_the_image_yet(care: Care) -> None:
    """An empty folder, as a first start leaves it that ended early, is a note; nothing is put into it."""
    folder = care.home / "image"
    folder.mkdir(mode=0o700, parents=True)
    care.home.chmod(0o700)
    findings = care.json("doctor")["findings"]
    (found,) = [one for one in findings if one["about"] == "image"]
    assert (found["level"], found["says"]) == ("note", "there is nothing in the image yet")
    assert list(folder.iterdir()) == []


def test_doctor(awakened: Care, tmp_path: Path) -> None:
    """Beside a fleet and without one it says what was done for the image and what was not, and what is forgotten."""
    young = awakened.json("doctor")
    assert young["wrong"] == 0, young
    assert {one["about"] for one in young["findings"] if one["level"] == "note"} == {"backup", "pack", "log"}
    backups = tmp_path / "backups"
    awakened.json("image", "backup", str(backups))
    awakened.json("image", "pack", "--days", "0")
    awakened.json("image", "pin", "old friend", "--reason", "a test")
    (awakened.home / "keys" / "image.secret").chmod(0o644)
    for running in (True, False):
        done = awakened.run("doctor", "--json", "--pin-days", "0", "--backup-days", "0")
        assert done.returncode == 1
        found = {one["about"]: one for one in json.loads(done.stdout)["findings"]}
        assert found["fleet"]["level"] == ("well" if running else "note")
        assert found["pin"]["helps"] == "batos image unpin 'old friend'"
        assert found["backup"]["helps"] == f"batos image backup {backups}"
        assert found["pack"] == {
            "about": "pack",
            "level": "well",
            "says": "the last was within the last day",
            "helps": "",
        }
        assert found["keys"]["helps"] == f"chmod 600 {awakened.home / 'keys' / 'image.secret'}"
        if running:
            assert awakened.run("down").returncode == 0
    (awakened.home / "keys" / "image.secret").chmod(0o600)
    said = awakened.run("doctor")
    assert said.returncode == 0, said.stdout
    assert "none runs in" in said.stdout
    assert said.stdout.splitlines()[-1] == "nothing is wrong"
