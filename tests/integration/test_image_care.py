"""`batos image …` on a real bus and image: care while others commit, and what happens when disks fill and bits flip."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest
import ZEO
from BTrees.OOBTree import OOBTree
from integration.console_fixtures import Batos
from integration.test_image_server import ImageProcess, image, until
from ZODB.POSException import StorageError

from batos.kernel.genesis.seed import seed
from batos.kernel.inspecting import Inspecting
from batos.mind.collections import create_collections
from batos.protocol import ImageShow, PlaceView, RequestContext, RequestFailed
from batos.uvm import DiskFull, Image, NoSuchMoment, Root, UvmObject, open_image, read_blob, store_blob

pytestmark = pytest.mark.timeout(180)

SIZE = 8 * 1024 * 1024
"""Of the disk that gets full."""


@dataclass(frozen=True)
class Care(Batos):
    """A fleet of bus and image, and the command."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "BATOS_CONSOLE_KEEPER": "integration.console_image_keeper"}

    @property
    def uri(self) -> str:
        return f"zeo://{self.home / 'run' / 'image.sock'}?wait_timeout=20"

    @property
    def file(self) -> Path:
        return self.home / "image" / "live_image.fs"

    def up(self, **settings: str) -> None:
        up = self.run("up", "--detach", **settings)
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"

    def log(self) -> str:
        return (self.home / "log" / "image.log").read_text()

    def image_pid(self) -> int:
        (found,) = [vessel["pid"] for vessel in self.json("status")["vessels"] if vessel["name"] == "image"]
        return int(found)


@pytest.fixture
def care(tmp_path: Path) -> Iterator[Care]:
    """A home with nothing in it; no process of it may be left."""
    found = Care(tmp_path / "home")
    yield found
    found.run("down")
    left = found.processes()
    for process in left:
        process.kill()
    assert not left, [process.cmdline() for process in left]


@pytest.fixture
def mind(care: Care) -> Care:
    """A fleet whose image has awakened, with things in it and a blob."""
    care.up()
    with open_image(care.uri) as opened:
        opened.run(awaken)
    return care


def awaken(root: Root) -> None:
    create_collections(root)
    seed(root)
    root["things"] = OOBTree()
    for number in range(300):
        put(root, f"n{number}", f"thing {number} ")
    root["things"]["n7"].blob = store_blob(b"b" * 100_000)


def put(root: Root, name: str, text: str) -> None:
    thing = UvmObject()
    thing.text = text * 20
    root["things"][name] = thing


@contextlib.contextmanager
def committing(uri: str) -> Iterator[list[int]]:
    """Commit again and again meanwhile; the list holds what was acknowledged."""
    acknowledged: list[int] = []
    stop = threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            with open_image(uri) as opened:
                while not stop.is_set():
                    number = len(acknowledged)
                    opened.run(lambda root, number=number: put(root, f"c{number}", f"commit {number} "))
                    acknowledged.append(number)
        except Exception as error:  # noqa: BLE001 - raised below, in the test's own thread
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        until("some commits", lambda: len(acknowledged) > 5 or bool(failed))
        yield acknowledged
    finally:
        stop.set()
        worker.join()
        if failed:
            raise failed[0]


def names(uri: str) -> set[str]:
    with open_image(uri, read_only=True) as opened, opened.snapshot() as root:
        return set(root["things"])


def test_backup_while_others_commit_and_restore(mind: Care, tmp_path: Path) -> None:
    """Full and incremental backups of an image that is being written; a fleet on what is restored has all of them."""
    backups, home = str(tmp_path / "backups"), tmp_path / "restored"
    with committing(mind.uri) as acknowledged:
        before = len(acknowledged)
        first = mind.json("image", "backup", backups)
        then = len(acknowledged)
        second = mind.json("image", "backup", backups)
    assert (first["kind"], second["kind"]) == ("full", "incremental")
    assert second["bytes_written"] > 0
    assert (first["blobs_written"], second["blobs_written"]) == (1, 0)
    last = mind.json("image", "backup", backups)

    restored = mind.json("image", "restore", backups, "--into", str(home))
    assert (restored["root_hash"], restored["compared"]) == (last["root_hash"], True)
    assert restored["root_hash"] == mind.json("image", "verify")["root_hash"]
    assert mind.run("image", "restore", backups, "--into", str(home)).returncode == 1
    assert "has an image already" in mind.run("image", "restore", backups, "--into", str(mind.home)).stderr

    earlier = tmp_path / "earlier"
    assert mind.json("image", "restore", backups, "--into", str(earlier), "--at", first["tid"])["tid"] == first["tid"]
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


def test_verify_beside_a_fleet_and_without_one(mind: Care, tmp_path: Path) -> None:
    """Everything is looked at while others commit, nothing is wrong: exit 0; the same once the fleet has ended."""
    with committing(mind.uri):
        mind.json("image", "backup", str(tmp_path / "backups"))
        found = mind.json("image", "verify")
    assert (found["faults_found"], found["blobs"], found["blobs_compared"]) == (0, 1, 1)
    assert found["bytes_compared"] > 10_000
    said = mind.run("image", "verify")
    assert said.returncode == 0
    assert "nothing is wrong" in said.stdout
    assert mind.run("down").returncode == 0
    again = mind.json("image", "verify")
    assert again["faults_found"] == 0
    assert again["objects"] >= found["objects"]


def test_flipped_bits_and_missing_blobs_are_named(mind: Care, tmp_path: Path) -> None:
    """Each fault with its path and the command that helps: exit 1; what is whole stays readable; restoring heals."""
    backups = str(tmp_path / "backups")
    mind.json("image", "backup", backups)
    assert mind.run("down").returncode == 0
    content = mind.file.read_bytes()
    mind.file.write_bytes(content.replace(b"thing 42 thing 42", b"thing 42 thimg 42", 1))
    (blob,) = (mind.home / "image").rglob("*.blob")
    blob.unlink()

    done = mind.run("image", "verify")
    assert done.returncode == 1
    assert "things['n42']" in done.stdout
    assert "things['n7'].blob: the bytes of a blob are missing" in done.stdout
    assert f"batos image restore {backups} --into HOME" in done.stdout
    faults = json.loads(mind.run("image", "verify", "--json").stdout)["faults"]
    assert {fault["kind"] for fault in faults} == {"hash", "blob"}

    mind.up()
    assert mind.run("image", "verify").returncode == 1
    assert "n42" in names(mind.uri)
    home = tmp_path / "healed"
    mind.json("image", "restore", backups, "--into", str(home))
    healed = Care(home)
    assert healed.json("image", "verify")["faults_found"] == 0


def test_a_truncated_file_is_not_served(mind: Care) -> None:
    """The vessel refuses it, and says with which command an image comes back; verify says the same."""
    assert mind.run("down").returncode == 0
    os.truncate(mind.file, mind.file.stat().st_size // 2)
    with image(mind.home) as server:
        assert server.process.wait(30) == 1
    assert "a part of it is missing" in server.words()
    assert "batos image restore DIR --into HOME" in server.words()
    done = mind.run("image", "verify")
    assert done.returncode == 1
    assert "a part of it is missing" in done.stdout


def test_pack_heeds_pins_while_others_commit(mind: Care) -> None:
    """What was reclaimed is said, the pinned moment can be looked at afterwards, what lies before it is gone."""
    with open_image(mind.uri) as opened:
        tids = [rewritten(opened, str(number) * 50_000) for number in range(6)]
    pinned = mind.json("image", "pin", "third", "--at", tids[2], "--reason", "a test")["pins"]
    assert [(pin["name"], pin["tid"], pin["reason"], pin["by"]) for pin in pinned] == [
        ("third", tids[2], "a test", "architect")
    ]
    assert "third" in mind.run("image", "pins").stdout
    with committing(mind.uri) as acknowledged:
        before = len(acknowledged)
        packed = mind.json("image", "pack", "--days", "0")
        until("commits after the pack", lambda: len(acknowledged) > before)
    assert packed["held_by"] == "third"
    assert packed["bytes_before"] > packed["bytes_after"] + 50_000
    with open_image(mind.uri) as opened:
        with opened.at(tids[2]) as root:
            assert root["things"]["n1"].text == "2" * 50_000
        with pytest.raises((NoSuchMoment, KeyError, StorageError)), opened.at(tids[0]) as root:
            assert root["things"]["n1"].text == "0" * 50_000
        with opened.snapshot() as root:
            assert {f"c{number}" for number in acknowledged} <= set(root["things"])
    assert mind.json("image", "unpin", "third")["pins"] == []
    assert mind.run("image", "unpin", "third").returncode == 1
    said = mind.run("image", "pack", "--days", "0")
    assert said.returncode == 0
    assert "given back: " in said.stdout
    assert mind.json("image", "verify")["faults_found"] == 0


def test_doctor(mind: Care, tmp_path: Path) -> None:
    """Beside a fleet and without one it says what was done for the image and what was not, and what is forgotten."""
    young = mind.json("doctor")
    assert young["wrong"] == 0, young
    assert {one["about"] for one in young["findings"] if one["level"] == "note"} == {"backup", "pack", "log"}
    backups = tmp_path / "backups"
    mind.json("image", "backup", str(backups))
    mind.json("image", "pack", "--days", "0")
    mind.json("image", "pin", "old friend", "--reason", "a test")
    (mind.home / "keys" / "image.secret").chmod(0o644)
    for running in (True, False):
        done = mind.run("doctor", "--json", "--pin-days", "0", "--backup-days", "0")
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
        assert found["keys"]["helps"] == f"chmod 600 {mind.home / 'keys' / 'image.secret'}"
        if running:
            assert mind.run("down").returncode == 0
    (mind.home / "keys" / "image.secret").chmod(0o600)
    said = mind.run("doctor")
    assert said.returncode == 0, said.stdout
    assert "none runs in" in said.stdout
    assert said.stdout.splitlines()[-1] == "nothing is wrong"


def test_what_lies_before_the_last_pack_is_refused(mind: Care) -> None:
    """By transaction and by time, also of what has not changed since; from then on everything is shown as it was."""
    with open_image(mind.uri) as opened:
        before, time_before = rewritten(opened, "before"), dt.datetime.now(dt.UTC).isoformat()
        kept = rewritten(opened, "kept")
        packed = mind.json("image", "pack", "--days", "0")
        assert packed["earliest"] == kept
        later = rewritten(opened, "later")
        for path in ("things['n1']", "lobby.brick_prototype_obj"):
            for at in (before, time_before, "2001-01-01T00:00:00+00:00"):
                with pytest.raises(RequestFailed, match="packed away") as caught:
                    shown(opened, path, at)
                assert caught.value.code == "moment_unknown"
            assert shown(opened, path, later).as_of == later
        assert shown(opened, "things['n1'].text", kept).text == "kept"
        assert mind.json("image", "pack", "--days", "0")["earliest"] > kept
    late = mind.run("image", "pin", "too late", "--at", kept)
    assert late.returncode == 2
    assert "packed away" in late.stderr


def shown(opened: Image, path: str, at: str) -> PlaceView:
    """What a kernel answers who is asked to show a place."""
    inspecting = Inspecting(image=opened, kernel="kernel-1")
    context = RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)
    found = asyncio.run(inspecting.handlers()[ImageShow](ImageShow(path=path, at=at), context))
    assert isinstance(found, PlaceView)
    return found


def rewritten(opened: Image, text: str) -> str:
    """Write another text into `n1`; return the transaction."""
    opened.run(lambda root: setattr(root["things"]["n1"], "text", text))
    return opened.last_tid()


def test_clients_cannot_pack(mind: Care) -> None:
    """A pack asked for over ZEO would pass pins: it is refused with the command that does not."""
    database = ZEO.DB(str(mind.home / "run" / "image.sock"))
    try:
        with pytest.raises(StorageError, match="batos image pack"):
            database.pack()
    finally:
        database.close()


def test_pack_by_schedule(care: Care) -> None:
    """The vessel packs by itself; 0 hours means never."""
    care.up(BATOS_IMAGE_PACK_EVERY_H="0.0002", BATOS_IMAGE_PACK_DAYS="0")
    with open_image(care.uri) as opened:
        for number in range(5):
            opened.run(lambda root, number=number: setattr(root["lobby"], "number", number))
        until("a pack", lambda: "packed up to" in care.log())
        with opened.snapshot() as root:
            assert root["lobby"].number == 4


@contextlib.contextmanager
def full_disk(server: ImageProcess, used: int) -> Iterator[None]:
    """Let the files of a running vessel not grow beyond what they have, nearly."""
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (used + 50_000, hard))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.parametrize("what", ["records", "blob"])
def test_a_full_disk_during_a_commit(tmp_path: Path, what: str) -> None:
    """The commit fails with a sentence that names the disk; what stood there is readable, and with room all goes on."""
    with image(tmp_path / "h") as server:
        server.await_ready()
        uri = f"zeo://{server.socket}?wait_timeout=20"
        with open_image(uri) as opened:
            opened.run(lambda root: setattr(root["lobby"], "kept", True))
            used = (server.home / "image" / "live_image.fs").stat().st_size

            def large(root: Root) -> None:
                root["lobby"].large = "x" * 500_000 if what == "records" else store_blob(b"x" * 500_000)

            with full_disk(server, used):
                for _ in range(2):
                    with pytest.raises(StorageError, match=r"disk is full .*batos image pack"):
                        opened.run(large)
                with opened.snapshot() as root:
                    assert root["lobby"].kept
                    assert not hasattr(root["lobby"], "large")
                until("the metric", lambda: "batos_image_disk_full 1.0" in server.metrics())
                assert "batos_image_commits_refused_total 2.0" in server.metrics()
                ready = server.page("readyz")
                assert ready.startswith("ready, but commits are refused, the disk is full ("), ready
                opened.run(lambda root: setattr(root["lobby"], "small", True))
                until("the metric", lambda: "batos_image_disk_full 0.0" in server.metrics())
                until("the notice to go", lambda: server.page("readyz") == "ready\n")
            opened.run(large)
            with opened.snapshot() as root:
                assert root["lobby"].small
                stored = root["lobby"].large
                assert len(stored if what == "records" else read_blob(stored)) == 500_000
        server.process.terminate()
        assert server.process.wait(20) == 0
    with image(tmp_path / "h") as server:
        server.await_ready()
        with open_image(f"zeo://{server.socket}?wait_timeout=20") as opened, opened.snapshot() as root:
            assert root["lobby"].small
            assert len(stored_bytes(root, what)) == 500_000


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond that: for clients who write to the image's own disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("shared", [True, False])
def test_a_client_finds_no_room_for_a_blob(tmp_path: Path, small_disk: Path | None, shared: bool) -> None:
    """In the folder of blobs, the image's own or the client's: an error names it, and no part of it stays there."""
    if small_disk is None:
        pytest.skip("no disk can be mounted by this user")
    home = small_disk / "h" if shared else tmp_path / "h"
    blobs = home / "image" / "blobs" if shared else small_disk / "cache"
    with image(home) as server:
        server.await_ready()
        with open_image(f"zeo://{server.socket}?wait_timeout=20&blob_dir={blobs}&shared_blob_dir={shared:d}") as opened:
            opened.run(lambda root: setattr(root["lobby"], "first", store_blob(b"1" * 1000)))
            before = {path for path in blobs.rglob("*") if path.is_file()}
            for _ in range(2):
                with pytest.raises(DiskFull, match=f"no room left in {blobs}.*nothing of this transaction is stored"):
                    opened.run(lambda root: setattr(root["lobby"], "large", store_blob(b"x" * SIZE)))
            assert {path for path in blobs.rglob("*") if path.is_file()} == before
            opened.run(lambda root: setattr(root["lobby"], "second", store_blob(b"2" * 1000)))
            with opened.snapshot() as root:
                assert not hasattr(root["lobby"], "large")
                assert (read_blob(root["lobby"].first), read_blob(root["lobby"].second)) == (b"1" * 1000, b"2" * 1000)


def test_no_room_for_the_bytes_of_a_blob(tmp_path: Path) -> None:
    """Where temporary files or the image's own file cannot grow, the error says in which folder."""
    with open_image(f"file://{tmp_path / 'live_image.fs'}") as opened:
        with small_files(300_000):
            with pytest.raises(DiskFull, match=f"no room left in {tempfile.gettempdir()}"):
                store_blob(b"x" * 500_000)
            with pytest.raises(DiskFull, match=f"no room left in {tmp_path}"):
                opened.run(lambda root: setattr(root["lobby"], "large", "x" * 500_000))
        opened.run(lambda root: setattr(root["lobby"], "large", "x" * 500_000))


def stored_bytes(root: Root, what: str) -> str | bytes:
    large = root["lobby"].large
    return large if what == "records" else read_blob(large)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 8 MiB of the test's own; None where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path | None, tmp_path: Path) -> None:
    """Commits until it is full, a pack that finds no room, then room again: nothing that was acknowledged is lost."""
    if small_disk is None:
        pytest.skip("no disk can be mounted by this user: the tests with a limit on the vessel's files say the same")
    home = small_disk
    care = Care(home)
    care.up()
    try:
        filler = home / "filler"
        filler.write_bytes(b"f" * (SIZE // 4))
        kept: list[int] = []
        with open_image(care.uri) as opened:
            opened.run(lambda root: root.__setitem__("things", OOBTree()))
            with pytest.raises(StorageError, match="disk is full"):
                until_full(opened, kept)
            with opened.snapshot() as root:
                assert set(root["things"]) == {f"n{number}" for number in kept}
        doctor = care.run("doctor", "--free-gb", "0")
        assert doctor.returncode == 1
        assert "image is ready, but commits are refused, the disk is full (" in doctor.stdout
        (notice,) = [vessel["notice"] for vessel in care.json("status")["vessels"] if vessel["name"] == "image"]
        assert notice.startswith("commits are refused, the disk is full (")
        packed = care.run("image", "pack", "--days", "0")
        assert packed.returncode == 1
        assert "no room left" in packed.stderr
        assert "batos image pack" in packed.stderr
        backup = care.run("image", "backup", str(home / "backups"))
        assert backup.returncode == 1
        assert "no room left" in backup.stderr
        assert not list((home / "backups").glob("*-full"))
        assert names(care.uri) == {f"n{number}" for number in kept}
        filler.unlink()
        with open_image(care.uri) as opened:
            opened.run(lambda root: put(root, "after", "after"))
        until("the notice to go", lambda: care.run("doctor", "--free-gb", "0").returncode == 0)
        assert care.json("image", "backup", str(tmp_path / "elsewhere"))["objects"] > len(kept)
        assert names(care.uri) == {"after", *(f"n{number}" for number in kept)}
    finally:
        assert care.run("down").returncode == 0


def until_full(opened: Image, kept: list[int]) -> None:
    for number in range(1000):
        opened.run(lambda root, number=number: put(root, f"n{number}", f"thing {number} " * 300))
        kept.append(number)


def test_killed_while_it_packs(care: Care) -> None:
    """kill -9 in the middle of a pack: the next start has everything, and packs."""
    care.up()
    with open_image(care.uri) as opened:
        for part in range(10):
            opened.run(lambda root, part=part: fill(root, part))
        pack = care.start("image", "pack", "--days", "0")
        until("the pack", lambda: (care.home / "image" / "live_image.fs.pack").exists() or pack.poll() is not None)
        os.kill(care.image_pid(), 9)
        pack.communicate(timeout=60)
        until("the image to be back", lambda: len(names(care.uri)) == 2000)
    assert care.run("image", "pack", "--days", "0").returncode == 0
    assert not (care.home / "image" / "live_image.fs.pack").exists()
    assert len(names(care.uri)) == 2000


def fill(root: Root, part: int) -> None:
    things = root.setdefault("things", OOBTree())
    for number in range(200):
        things[f"{part}-{number}"] = thing = UvmObject()
        thing.text = "x" * 500


def test_a_backup_that_is_interrupted(mind: Care, tmp_path: Path) -> None:
    """Ctrl-C at the command ends the work at the image, too; nothing looks like a backup."""
    with open_image(mind.uri) as opened:
        for part in range(10):
            opened.run(lambda root, part=part: fill(root, part))
    backups = tmp_path / "backups"
    with mind.terminal("image", "backup", str(backups)) as child:
        until("the backup", lambda: (backups / ".lock").exists() or not child.isalive())
        child.sendintr()
        child.expect(pexpect.EOF)
    until("the end of it", lambda: mind.run("image", "pins").returncode == 0 and idle(mind))
    made = list(backups.glob("2*-full"))
    again = mind.json("image", "backup", str(backups))
    assert again["kind"] == ("unchanged" if made else "full")
    assert not list(backups.glob(".partial*"))


def idle(mind: Care) -> bool:
    return not [process for process in mind.processes() if "batos.image.care" in process.cmdline()]


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
