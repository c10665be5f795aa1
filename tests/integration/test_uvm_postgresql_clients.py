"""The image in PostgreSQL as its clients see it: conflicts, each other's changes, blobs, the past."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from integration.postgres_fixtures import DATABASE
from integration.postgres_server import Server
from integration.uvm_servers import clean_environment
from ZODB.POSException import ConflictError

from batos.uvm import (
    Contention,
    Image,
    NoSuchMoment,
    ReadOnly,
    UvmObject,
    open_image,
    read_blob,
    store_blob,
)

READER = """
import sys
from batos.uvm import open_image
with open_image(sys.argv[1]) as image, image.snapshot() as root:
    print(root["lobby"].count)
"""


def test_what_one_process_commits_another_reads(postgres_uri: str) -> None:
    """Each with connections of its own."""
    with open_image(postgres_uri) as image:
        image.run(lambda root: setattr(root["lobby"], "count", 42))
    reader = subprocess.run(
        [sys.executable, "-c", READER, postgres_uri],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(),
    )
    assert (reader.stdout.strip(), reader.stderr) == ("42", "")


def test_several_clients_open_a_new_image_at_once(postgres_uri: str) -> None:
    """They take turns in making the tables, and there is one lobby in the end."""
    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(open_image, [postgres_uri] * 6))
    try:
        oids = set()
        for image in images:
            with image.snapshot() as root:
                oids.add(root["lobby"]._p_oid)
        assert len(oids) == 1
    finally:
        for image in images:
            image.close()


def test_opening_waits_for_no_transaction(postgres_pair: tuple[Image, Image], postgres_uri: str) -> None:
    """Neither for one that reads nor for one that has changed something."""
    with postgres_pair[0].session() as reading, postgres_pair[1].session() as writing:
        assert reading.begin()["lobby"]
        writing.begin()["lobby"].x = 1
        writing.savepoint()
        with open_image(postgres_uri.replace("wait_timeout=10", "wait_timeout=2")) as third, third.snapshot() as root:
            assert not hasattr(root["lobby"], "x")
        writing.commit()


def test_a_conflict_between_clients_is_seen_by_the_later_one(postgres_pair: tuple[Image, Image]) -> None:
    """What it had written is gone; what the other wrote is there."""
    with postgres_pair[0].session() as first, postgres_pair[1].session() as second:
        first.begin()["lobby"].x = 1
        second.begin()["lobby"].x = 2
        tid = first.commit()
        with pytest.raises(ConflictError):
            second.commit()
        assert second.begin()["lobby"].x == 1
        assert second.snapshot_tid == tid == postgres_pair[1].last_tid()


def test_what_was_only_read_can_be_declared(postgres_pair: tuple[Image, Image]) -> None:
    """A commit fails where another transaction changed what it relied on."""
    with postgres_pair[0].transaction() as root:
        root["lobby"].rule, root["lobby"].kept = UvmObject(owner=1), UvmObject()
    with postgres_pair[0].session() as first, postgres_pair[1].session() as second:
        root = first.begin()
        first.read_current(root["lobby"].rule)
        root["lobby"].kept.x = 1
        second.begin()["lobby"].rule.owner = 2
        second.commit()
        with pytest.raises(ConflictError):
            first.commit()


def test_an_object_that_another_client_keeps_locked_is_contention(postgres: Server) -> None:
    """As it does when it stands still between its vote and the end: nothing was stored, and no fate is unknown."""
    with open_image(postgres.uri(DATABASE, "?wait_timeout=1")) as image, image.snapshot() as root:
        oid = int.from_bytes(root["lobby"]._p_oid, "big")
        with contextlib.closing(psycopg2.connect(postgres.uri(DATABASE))) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (oid,))
            with pytest.raises(Contention, match="write x met a conflict in each of 2 attempts"):
                image.run(lambda root: setattr(root["lobby"], "x", 1), note="write x", attempts=2)
        image.run(lambda root: setattr(root["lobby"], "x", 1))


def test_blobs_are_kept_in_the_database(postgres: Server, postgres_uri: str, tmp_path: Path) -> None:
    """Each client has a cache folder of its own, and loses nothing with it."""
    data = bytes(range(256)) * 16384
    with (
        open_image(f"{postgres_uri}&blob_dir={tmp_path}/a") as first,
        open_image(f"{postgres_uri}&blob_dir={tmp_path}/b") as second,
    ):
        with first.transaction() as root:
            root["lobby"].weights = store_blob(data)
        tid = first.last_tid()
        with second.snapshot() as root:
            assert read_blob(root["lobby"].weights) == data
        with second.transaction() as root, root["lobby"].weights.open("w") as target:
            target.write(b"new")
        with first.snapshot() as root:
            assert read_blob(root["lobby"].weights) == b"new"
        with first.at(tid) as root:
            assert read_blob(root["lobby"].weights) == data
    shutil.rmtree(tmp_path / "a")
    with open_image(f"{postgres_uri}&blob_dir={tmp_path}/a") as again, again.snapshot() as root:
        assert read_blob(root["lobby"].weights) == b"new"
    assert int(postgres.sql("SELECT count(*) FROM blob_chunk", DATABASE)) > 0


def test_a_blob_folder_that_was_not_named_goes_with_its_image(postgres_uri: str, tmp_path: Path) -> None:
    """It is a temporary one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tempfile.tempdir", str(tmp_path))
        with open_image(postgres_uri) as image:
            image.run(lambda root: setattr(root["lobby"], "weights", store_blob(b"x")))
            assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_the_past_is_readable(postgres_pair: tuple[Image, Image]) -> None:
    """A tid that one client was told opens the past at the other one at once; so does a time."""
    tids = []
    with postgres_pair[0].session() as session:
        for number in range(10):
            session.begin()["lobby"].n = number
            tids.append(session.commit())
            assert postgres_pair[1].last_tid() == tids[-1]
            with postgres_pair[1].at(tids[-1]) as root:
                assert root["lobby"].n == number
        then = dt.datetime.now(dt.UTC)
        session.begin()["lobby"].n = -1
        session.commit()
    with postgres_pair[1].at(tids[3]) as root:
        assert root["lobby"].n == 3
        with pytest.raises(ReadOnly):
            root["lobby"].n = 0
    with postgres_pair[1].at(then) as root:
        assert root["lobby"].n == 9
    with postgres_pair[1].at(dt.datetime.now(dt.UTC)) as root:
        assert root["lobby"].n == -1
    with (
        pytest.raises(NoSuchMoment, match="had not begun"),
        postgres_pair[0].at(dt.datetime(2001, 1, 1, tzinfo=dt.UTC)),
    ):
        pass
    with pytest.raises(NoSuchMoment, match="future"), postgres_pair[0].at("7" * 16):
        pass


def test_a_view_that_was_closed_holds_no_transaction_open(postgres: Server, postgres_uri: str) -> None:
    """Else PostgreSQL could never tidy its tables."""
    with open_image(postgres_uri) as image:
        tid = image.last_tid()
        for moment in (tid, dt.datetime.now(dt.UTC)):
            with image.at(moment) as root:
                assert root["lobby"]
        with image.snapshot() as root:
            assert root["lobby"]
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
        assert postgres.sql(busy, DATABASE) == "1"


def test_threads_may_ask_for_the_newest_state_at_once(postgres_pair: tuple[Image, Image]) -> None:
    """The storage beneath belongs to one thread at a time."""

    def ask(number: int) -> None:
        image = postgres_pair[number % 2]
        for _ in range(20):
            with image.at(image.last_tid()) as root:
                assert root["lobby"]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
