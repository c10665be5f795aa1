"""The image in PostgreSQL: several clients, blobs, the past, a server that restarts or dies, a hidden password."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import ZODB
from integration.postgres_server import PASSWORD, Server, free_port, postgres_server
from integration.uvm_servers import clean_environment
from persistent import Persistent
from ZODB.POSException import ConflictError

from batos.uvm import (
    CommitFateUnknown,
    Contention,
    ForeignClass,
    Image,
    ImageRefused,
    ImageUnreachable,
    NoImageYet,
    NoSuchMoment,
    PersistentList,
    ReadOnly,
    Root,
    UvmObject,
    install_method,
    open_image,
    read_blob,
    store_blob,
)
from batos.uvm.addresses import resolve
from batos.uvm.certificates import make_certificates

DATABASE = "living_image"
READER = """
import sys
from batos.uvm import open_image
with open_image(sys.argv[1]) as image, image.snapshot() as root:
    print(root["lobby"].count)
"""


class Stranger(Persistent):  # type: ignore[misc]
    """A class that is none of the image's."""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """With an empty database, and nobody connected to it afterwards."""
    if not running.pid():
        running.start()
    running.database(DATABASE)
    try:
        yield running
        if not running.pid():
            running.start()
        assert _soon_none(running), running.sql("SELECT * FROM pg_stat_activity")
    finally:
        running.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def _soon_none(server: Server) -> bool:
    deadline = time.monotonic() + 10
    while server.sessions(DATABASE):
        if time.monotonic() > deadline:
            return False
    return True


@pytest.fixture
def uri(server: Server) -> str:
    return server.uri(DATABASE, "?wait_timeout=10")


@pytest.fixture
def pair(uri: str) -> Iterator[tuple[Image, Image]]:
    with open_image(uri) as first, open_image(uri) as second:
        yield first, second


def test_what_one_process_commits_another_reads(uri: str) -> None:
    """Each with connections of its own."""
    with open_image(uri) as image:
        image.run(lambda root: setattr(root["lobby"], "count", 42))
    reader = subprocess.run(
        [sys.executable, "-c", READER, uri],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(),
    )
    assert (reader.stdout.strip(), reader.stderr) == ("42", "")


def test_what_one_client_saw_acknowledged_every_other_client_sees(pair: tuple[Image, Image]) -> None:
    """Read after acknowledgement, in both directions, each time."""
    for number in range(100):
        writer, reader = pair[number % 2], pair[1 - number % 2]
        with writer.transaction() as root:
            root["lobby"].n = number
        with reader.snapshot() as root:
            assert root["lobby"].n == number


def test_several_clients_open_a_new_image_at_once(uri: str) -> None:
    """They take turns in making the tables, and there is one lobby in the end."""
    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(open_image, [uri] * 6))
    try:
        oids = set()
        for image in images:
            with image.snapshot() as root:
                oids.add(root["lobby"]._p_oid)
        assert len(oids) == 1
    finally:
        for image in images:
            image.close()


def test_opening_waits_for_no_transaction(pair: tuple[Image, Image], uri: str) -> None:
    """Neither for one that reads nor for one that has changed something."""
    with pair[0].session() as reading, pair[1].session() as writing:
        assert reading.begin()["lobby"]
        writing.begin()["lobby"].x = 1
        writing.savepoint()
        with open_image(uri.replace("wait_timeout=10", "wait_timeout=2")) as third, third.snapshot() as root:
            assert not hasattr(root["lobby"], "x")
        writing.commit()


def test_conflicts_are_retried_until_every_increment_is_in(pair: tuple[Image, Image]) -> None:
    """A hot counter of four threads on two clients ends exactly right."""
    with pair[0].transaction() as root:
        root["lobby"].n = 0

    def increment(root: Root) -> None:
        root["lobby"].n += 1

    def work(image: Image) -> None:
        for _ in range(10):
            image.run(increment, note="count", attempts=200)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [*pair, *pair]))
    with pair[0].snapshot() as root:
        assert root["lobby"].n == 40


def test_a_conflict_between_clients_is_seen_by_the_later_one(pair: tuple[Image, Image]) -> None:
    """What it had written is gone; what the other wrote is there."""
    with pair[0].session() as first, pair[1].session() as second:
        first.begin()["lobby"].x = 1
        second.begin()["lobby"].x = 2
        tid = first.commit()
        with pytest.raises(ConflictError):
            second.commit()
        assert second.begin()["lobby"].x == 1
        assert second.snapshot_tid == tid == pair[1].last_tid()


def test_what_was_only_read_can_be_declared(pair: tuple[Image, Image]) -> None:
    """A commit fails where another transaction changed what it relied on."""
    with pair[0].transaction() as root:
        root["lobby"].rule, root["lobby"].kept = UvmObject(owner=1), UvmObject()
    with pair[0].session() as first, pair[1].session() as second:
        root = first.begin()
        first.read_current(root["lobby"].rule)
        root["lobby"].kept.x = 1
        second.begin()["lobby"].rule.owner = 2
        second.commit()
        with pytest.raises(ConflictError):
            first.commit()


def test_methods_and_inherited_slots_change_under_another_client(pair: tuple[Image, Image]) -> None:
    """With its next transaction a client's heirs understand what the other client taught their ancestor."""
    with pair[0].transaction() as root:
        root["lobby"].top = UvmObject(x=1)
        root["lobby"].leaf = UvmObject([UvmObject([root["lobby"].top])])
    with pair[1].session() as session:
        assert session.begin()["lobby"].leaf.x == 1
        with pair[0].transaction() as root:
            root["lobby"].top.x = 2
            install_method(root["lobby"].top, "twice", "def twice(self): return self.x * 2", author="architect")
        assert session.root["lobby"].leaf.x == 1
        session.abort()
        assert session.begin()["lobby"].leaf.twice() == 4


def test_blobs_are_kept_in_the_database(server: Server, uri: str, tmp_path: Path) -> None:
    """Each client has a cache folder of its own, and loses nothing with it."""
    data = bytes(range(256)) * 16384
    with open_image(f"{uri}&blob_dir={tmp_path}/a") as first, open_image(f"{uri}&blob_dir={tmp_path}/b") as second:
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
    with open_image(f"{uri}&blob_dir={tmp_path}/a") as again, again.snapshot() as root:
        assert read_blob(root["lobby"].weights) == b"new"
    assert int(server.sql("SELECT count(*) FROM blob_chunk", DATABASE)) > 0


def test_a_blob_folder_that_was_not_named_goes_with_its_image(uri: str, tmp_path: Path) -> None:
    """It is a temporary one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tempfile.tempdir", str(tmp_path))
        with open_image(uri) as image:
            image.run(lambda root: setattr(root["lobby"], "weights", store_blob(b"x")))
            assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_the_past_is_readable(pair: tuple[Image, Image]) -> None:
    """A tid that one client was told opens the past at the other one at once; so does a time."""
    tids = []
    with pair[0].session() as session:
        for number in range(10):
            session.begin()["lobby"].n = number
            tids.append(session.commit())
            assert pair[1].last_tid() == tids[-1]
            with pair[1].at(tids[-1]) as root:
                assert root["lobby"].n == number
        then = dt.datetime.now(dt.UTC)
        session.begin()["lobby"].n = -1
        session.commit()
    with pair[1].at(tids[3]) as root:
        assert root["lobby"].n == 3
        with pytest.raises(ReadOnly):
            root["lobby"].n = 0
    with pair[1].at(then) as root:
        assert root["lobby"].n == 9
    with pair[1].at(dt.datetime.now(dt.UTC)) as root:
        assert root["lobby"].n == -1
    with pytest.raises(NoSuchMoment, match="had not begun"), pair[0].at(dt.datetime(2001, 1, 1, tzinfo=dt.UTC)):
        pass
    with pytest.raises(NoSuchMoment, match="future"), pair[0].at("7" * 16):
        pass


def test_a_view_that_was_closed_holds_no_transaction_open(server: Server, uri: str) -> None:
    """Else PostgreSQL could never tidy its tables."""
    with open_image(uri) as image:
        tid = image.last_tid()
        for moment in (tid, dt.datetime.now(dt.UTC)):
            with image.at(moment) as root:
                assert root["lobby"]
        with image.snapshot() as root:
            assert root["lobby"]
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
        assert server.sql(busy, DATABASE) == "1"


def test_threads_may_ask_for_the_newest_state_at_once(pair: tuple[Image, Image]) -> None:
    """The storage beneath belongs to one thread at a time."""

    def ask(number: int) -> None:
        image = pair[number % 2]
        for _ in range(20):
            with image.at(image.last_tid()) as root:
                assert root["lobby"]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))


def test_foreign_classes_are_not_loaded(uri: str) -> None:
    """What another program wrote into the same tables runs nothing here."""
    address = resolve(uri)
    database = ZODB.DB(address.open_storage(False))
    with database.transaction() as connection:
        connection.root()["stranger"] = Stranger()
    database.close()
    address.release()
    with pytest.raises(ForeignClass, match="Stranger"):
        open_image(uri)


def test_a_restarted_server_is_found_again(server: Server, uri: str) -> None:
    """By the same sessions, with the same objects."""
    with open_image(uri) as image, image.session() as session:
        session.begin()["lobby"].top = UvmObject(x=1)
        session.root["lobby"].leaf = UvmObject([session.root["lobby"].top])
        session.commit()
        server.restart()
        assert session.begin()["lobby"].leaf.x == 1
        session.root["lobby"].top.x = 2
        session.commit()
        server.restart()
        assert image.run(lambda root: root["lobby"].leaf.x) == 2
        assert image.last_tid() > session.snapshot_tid
    with open_image(uri) as image, image.snapshot() as root:
        assert root["lobby"].leaf.x == 2


def test_a_server_that_comes_back_in_time_is_waited_for(server: Server, uri: str) -> None:
    """As a vessel that starts before its database does."""
    with open_image(uri):
        pass
    server.stop()
    starter = threading.Timer(1.0, server.start)
    starter.start()
    try:
        with open_image(uri) as image, image.snapshot() as root:
            assert root["lobby"]
    finally:
        starter.join()


def test_a_dead_server_is_named_at_each_step(server: Server, uri: str) -> None:
    """Beginning, reading and committing tell that nothing was stored, within the time that the address allows."""
    with open_image(uri) as image, image.transaction() as root:
        root["lobby"].x = 1
    uri = server.uri(DATABASE, "?wait_timeout=1")
    with open_image(uri) as image, image.session() as session, image.session() as other:
        lobby = session.begin()["lobby"]
        lobby._p_deactivate()
        image._database.storage._cache.clear(load_persistent=False)
        other.begin()["lobby"].x = 2
        server.kill()
        began = time.monotonic()
        with pytest.raises(ImageUnreachable, match="reading an object"):
            assert lobby.x
        with pytest.raises(ImageUnreachable, match="committing"):
            other.commit()
        with pytest.raises(ImageUnreachable, match="beginning a transaction") as caught:
            other.begin()
        with pytest.raises(ImageUnreachable, match="asking for its newest state"):
            image.last_tid()
        with pytest.raises(ImageUnreachable, match="opening it"):
            open_image(uri)
        assert time.monotonic() - began < 10
        assert "did not answer within 1 s" in str(caught.value)
        assert "check that PostgreSQL runs" in str(caught.value)
        session.abort()
        server.start()
        assert session.begin()["lobby"].x == 1
        other.begin()["lobby"].x = 3
        other.commit()
        session.abort()
        assert session.begin()["lobby"].x == 3


class Saboteur:
    """Takes part in a transaction, and kills the server when everybody has voted."""

    def __init__(self, server: Server, manager: Any) -> None:
        self.server = server
        self.transaction_manager = manager

    def sortKey(self) -> str:  # noqa: N802 - the transaction's name for it
        return "~"

    def tpc_vote(self, _transaction: Any) -> None:
        self.server.kill()

    def tpc_begin(self, _transaction: Any) -> None: ...

    commit = tpc_finish = tpc_abort = abort = tpc_begin


def test_a_server_that_dies_in_the_last_step_leaves_the_fate_unknown(server: Server, uri: str) -> None:
    """Nobody may take it for a failure, nor for a success."""
    with open_image(uri) as image, image.session() as session:
        session.begin()["lobby"].x = 1
        session._manager.get().join(Saboteur(server, session._manager))
        with pytest.raises(CommitFateUnknown, match="may or may not be stored"):
            session.commit()
        server.start()
        assert not hasattr(session.begin()["lobby"], "x")


def test_a_killed_server_loses_nothing_that_was_acknowledged(server: Server, uri: str) -> None:
    """Commits that it cut off are told as such; those are looked up, and made again where they are missing."""
    told: list[str] = []
    with open_image(uri) as image, image.session() as session:
        session.begin()["lobby"].done = PersistentList()
        session.commit()
        rounds = 5
        for number in range(rounds):
            killer = threading.Timer(0.1 + 0.013 * number, lambda: (server.kill(), server.start()))
            killer.start()
            step = 0
            while killer.is_alive():
                try:
                    done = session.begin()["lobby"].done
                    if (number, step) not in list(done):
                        done.append((number, step))
                        session.commit()
                    session.abort()
                    step += 1
                except (ImageUnreachable, CommitFateUnknown) as wrong:
                    told.append(type(wrong).__name__)
                    session.abort()
            killer.join()
        done = list(session.begin()["lobby"].done)
    assert len(done) == len(set(done))
    assert {number for number, _ in done} == set(range(rounds))
    for number in range(rounds):
        steps = [step for found, step in done if found == number]
        assert steps == list(range(len(steps)))
    assert told


def test_an_object_that_another_client_keeps_locked_is_contention(server: Server) -> None:
    """As it does when it stands still between its vote and the end: nothing was stored, and no fate is unknown."""
    with open_image(server.uri(DATABASE, "?wait_timeout=1")) as image, image.snapshot() as root:
        oid = int.from_bytes(root["lobby"]._p_oid, "big")
        with contextlib.closing(psycopg2.connect(server.uri(DATABASE))) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (oid,))
            with pytest.raises(Contention, match="write x met a conflict in each of 2 attempts"):
                image.run(lambda root: setattr(root["lobby"], "x", 1), note="write x", attempts=2)
        image.run(lambda root: setattr(root["lobby"], "x", 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wr0ng"}, 'password authentication failed for user "mind"; correct user and password'),
        ({"user": "nobody"}, "correct user and password"),
        ({"database": "elsewhere"}, 'database "elsewhere" does not exist; make it on the server'),
    ],
)
def test_a_server_that_refuses_is_not_waited_for(server: Server, change: dict[str, str], words: str) -> None:
    """The error says what to do, and not with which password."""
    began = time.monotonic()
    parts = {"database": DATABASE, **change}
    with pytest.raises(ImageRefused) as caught:
        open_image(server.uri(parameters="?wait_timeout=60", **parts))
    assert words in str(caught.value)
    assert time.monotonic() - began < 10
    _no_password(str(caught.value), parts.get("password", PASSWORD))


@pytest.mark.parametrize("place", ["127.0.0.1:{port}", "no-such-host.invalid"])
def test_a_host_that_does_not_answer_is_named(place: str) -> None:
    """With what was found out about it."""
    host = place.format(port=free_port())
    with pytest.raises(ImageUnreachable, match="did not answer within 1 s while opening it") as caught:
        open_image(f"postgresql://mind:s3cret@{host}/x?wait_timeout=1")
    assert any(why in str(caught.value) for why in ("Connection refused", "could not translate host name"))
    assert "s3cret" not in str(caught.value)


def test_reading_only(server: Server, uri: str) -> None:
    """Nothing is made where there is nothing, and nothing is written where there is something."""
    with pytest.raises(NoImageYet):
        open_image(uri, read_only=True)
    assert server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", DATABASE) == "0"
    with open_image(uri) as writer, open_image(uri, read_only=True) as reader:
        writer.run(lambda root: setattr(root["lobby"], "x", 1))
        with reader.snapshot() as root:
            assert root["lobby"].x == 1
        with pytest.raises(ReadOnly):
            reader.run(lambda root: setattr(root["lobby"], "x", 2))


def test_a_database_without_history_is_refused(server: Server, uri: str) -> None:
    """Its tables are others."""
    server.sql("CREATE TABLE object_state (zoid bigint)", DATABASE)
    with pytest.raises(ImageRefused, match="keep no history"):
        open_image(uri)


def test_a_unix_socket_will_do(server: Server) -> None:
    """Its folder is named instead of a host."""
    with open_image(f"postgresql://mind@:{server.port}/{DATABASE}?host={server.socket}") as image:
        image.run(lambda root: setattr(root["lobby"], "x", 1))
        with image.snapshot() as root:
            assert root["lobby"].x == 1


def test_tls_is_asked_for_in_the_address(server: Server, tmp_path: Path) -> None:
    """A server that has none, or whose certificate is another's, is refused at once."""
    with pytest.raises(ImageRefused, match=r"does not support SSL.*; correct sslmode"):
        open_image(server.uri(DATABASE, "?sslmode=require"))
    ours, theirs = make_certificates(["127.0.0.1"]), make_certificates(["127.0.0.1"])
    (tmp_path / "ours.pem").write_bytes(ours.authority)
    (tmp_path / "theirs.pem").write_bytes(theirs.authority)
    server.use_tls(ours.server.certificate, ours.server.key)
    with open_image(server.uri(DATABASE, f"?sslmode=verify-full&sslrootcert={tmp_path}/ours.pem")):
        encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'mind'"
        assert server.sql(encrypted, DATABASE) == "t"
    with pytest.raises(ImageRefused, match="certificate verify failed; correct sslmode"):
        open_image(server.uri(DATABASE, f"?sslmode=verify-full&sslrootcert={tmp_path}/theirs.pem"))


def test_the_password_stands_in_no_name_and_no_line(server: Server, uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in what RelStorage logs at any level, not in what objects call themselves, not in what is raised."""
    caplog.set_level(logging.NOTSET)
    with open_image(uri) as image, image.session() as session:
        storage = session._connection._storage
        names = [repr(image._address), repr(storage), storage.getName(), storage.sortKey(), repr(storage._adapter)]
        session.begin()["lobby"].x = 1
        session.commit()
        with pytest.raises(KeyError) as missing:
            storage.load(b"\7" * 8)
        server.restart()
        session.begin()
        names += [str(missing.value), repr(missing.value), repr(storage._load_connection)]
    for text in [*names, caplog.text]:
        _no_password(text)


def test_an_outage_is_logged_in_lines(server: Server, uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a traceback for each connection that it ended."""
    with open_image(uri) as image, image.session() as session:
        session.begin()
        session.abort()
        server.restart()
        session.begin()
    told = [record for record in caplog.records if record.name == "relstorage.adapters.connections"]
    assert told
    assert not [record for record in told if record.exc_info or "\n" in record.getMessage()]


def _no_password(text: str, password: str = PASSWORD) -> None:
    for part in password.split():
        assert len(part) < 3 or part not in text, f"{part} in {text}"


def test_closing_leaves_no_threads_and_no_sessions(server: Server, uri: str) -> None:
    """However many connections were open."""
    before = set(threading.enumerate())
    image = open_image(uri)
    sessions = [image.session() for _ in range(5)]
    for number, session in enumerate(sessions):
        setattr(session.begin()["lobby"], f"x{number}", number)
    assert server.sessions(DATABASE) > 5
    image.close()
    assert _soon_none(server)
    assert not {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
