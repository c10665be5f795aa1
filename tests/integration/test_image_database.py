"""Care for an image in a real PostgreSQL: pins, and a pack that heeds them while others commit."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from BTrees.OOBTree import OOBTree
from integration.console_fixtures import Batos
from integration.image_fixtures import committing, put, rewritten
from integration.postgres_server import PASSWORD, Server, postgres_server

from batos.image import database
from batos.image.errors import CareError
from batos.image.reporting import untold
from batos.uvm import ImageUnreachable, NoSuchMoment, Root, open_image, read_blob, store_blob
from batos.uvm.relational import RelationalStorage

pytestmark = pytest.mark.timeout(180)

DATABASE = "living_image"


@dataclass(frozen=True)
class DatabaseCommand(Batos):
    """The command where BATOS_IMAGE_URI names a database, as in a kernel's pod."""

    uri: str

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "BATOS_IMAGE_URI": self.uri}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as found:
        found.database(DATABASE)
        yield found


@pytest.fixture
def mind(server: Server, tmp_path: Path) -> DatabaseCommand:
    uri = server.uri(DATABASE, f"?wait_timeout=10&blob_dir={tmp_path / 'blobs'}")
    with open_image(uri) as opened:
        opened.run(awaken)
    return DatabaseCommand(tmp_path / "home", uri)


def awaken(root: Root) -> None:
    root["things"] = OOBTree()
    for number in range(20):
        put(root, f"n{number}", f"thing {number} ")
    root["things"]["n1"].blob = store_blob(b"b" * 100_000)


def states(server: Server) -> int:
    return int(server.sql("SELECT count(*) FROM object_state", DATABASE))


def test_pack_heeds_pins_while_others_commit(server: Server, mind: DatabaseCommand) -> None:
    """The pinned moment and all after it can be looked at, what lies before is refused and gone; others go on."""
    with open_image(mind.uri) as opened:
        tids = [rewritten(opened, str(number) * 50_000) for number in range(6)]
    pinned = mind.json("image", "pin", "third", "--at", tids[2], "--reason", "a test")["pins"]
    assert [(pin["name"], pin["tid"], pin["reason"], pin["by"]) for pin in pinned] == [
        ("third", tids[2], "a test", "architect")
    ]
    before = states(server)
    with committing(mind.uri) as acknowledged:
        packed = mind.json("image", "pack", "--days", "0")
    assert (packed["held_by"], packed["earliest"]) == ("third", tids[1])
    assert states(server) < before + 10 * len(acknowledged)
    with open_image(mind.uri) as opened:
        for number in (1, 2, 5):
            with opened.at(tids[number]) as root:
                assert root["things"]["n1"].text == str(number) * 50_000
        with (
            pytest.raises(NoSuchMoment, match=f"earliest transaction to be looked at is {tids[1]}"),
            opened.at(tids[0]),
        ):
            pass
        with opened.snapshot() as root:
            assert {f"c{number}" for number in acknowledged} <= set(root["things"])
            assert read_blob(root["things"]["n1"].blob) == b"b" * 100_000

    doctor = mind.run("doctor", "--pin-days", "0")
    assert "third (a test) is 0 days old" in doctor.stdout
    assert mind.json("image", "unpin", "third")["pins"] == []
    before = states(server)
    said = mind.run("image", "pack", "--days", "0")
    assert said.returncode == 0, said.stderr
    assert "PostgreSQL gives the space back when it vacuums" in said.stdout
    assert states(server) < before
    with open_image(mind.uri) as opened:
        with pytest.raises(NoSuchMoment), opened.at(tids[2]):
            pass
        with opened.snapshot() as root:
            assert root["things"]["n1"].text == "5" * 50_000
            assert read_blob(root["things"]["n1"].blob) == b"b" * 100_000


def test_what_postgresql_does_itself_is_said(mind: DatabaseCommand) -> None:
    """A backup is refused with what makes one: exit 2; of a missing database no password is shown: exit 1."""
    refused = mind.run("image", "backup", "/backups")
    assert refused.returncode == 2
    assert "pg_dump" in refused.stderr
    away = mind.uri.replace("wait_timeout=10", "wait_timeout=1").replace(f"/{DATABASE}?", "/nothing?")
    done = DatabaseCommand(mind.home, away).run("image", "pack")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert PASSWORD not in done.stderr
    assert "tail9" not in done.stderr


def test_one_pack_at_a_time(server: Server, mind: DatabaseCommand) -> None:
    """Who asks for a second one is told what is under way."""
    with held_pack_lock(server):
        done = mind.run("image", "pack", "--days", "0")
    assert done.returncode == 1
    assert "a pack of this image is under way" in done.stderr
    assert "Traceback" not in done.stderr
    assert mind.run("image", "pack", "--days", "0").returncode == 0


@contextlib.contextmanager
def held_pack_lock(server: Server) -> Iterator[None]:
    other = psycopg2.connect(server.uri(DATABASE))
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(-2)")
        yield
    finally:
        other.close()


def test_a_pack_that_fails(mind: DatabaseCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that goes away meanwhile, and what nobody thought of: both are said, and nothing is left open."""
    for wrong, said in ((psycopg2.OperationalError("server closed"), ImageUnreachable), (ValueError("no"), CareError)):

        def fail(_self: RelationalStorage, _stop: bytes, wrong: Exception = wrong) -> bytes:
            raise wrong

        monkeypatch.setattr(RelationalStorage, "pack_until", fail)
        with pytest.raises(said):
            database.pack(mind.uri, 0, untold)


@pytest.mark.parametrize("act", [["pack"], ["pin", "now"], ["unpin", "now"]], ids=lambda act: act[0])
def test_a_database_without_an_image(server: Server, mind: DatabaseCommand, act: list[str]) -> None:
    """None is made there by who cares for another."""
    name = f"wrong_{act[0]}"
    server.database(name)
    done = DatabaseCommand(mind.home, mind.uri.replace(f"/{DATABASE}?", f"/{name}?")).run("image", *act)
    assert done.returncode in {1, 2}
    assert "there is no image at postgresql://" in done.stderr
    assert PASSWORD not in done.stderr
    assert server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == "0"


def test_no_database(tmp_path: Path) -> None:
    """The tool takes no other image: those have a vessel, which heeds who else is at work."""
    command = DatabaseCommand(tmp_path / "home", f"file://{tmp_path / 'live_image.fs'}")
    done = subprocess.run(
        [sys.executable, "-m", "batos.image.care", "pack"],
        env=command.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "this image is not kept in PostgreSQL" in done.stdout
