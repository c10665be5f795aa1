"""Opening an image in PostgreSQL: addresses, refusals, TLS, a password that stays hidden; and closing it."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
import ZODB
from integration.postgres_fixtures import DATABASE, must_hide_password, soon_without_sessions
from integration.postgres_server import PASSWORD, Server
from persistent import Persistent

from batos.uvm import ForeignClass, ImageRefused, ImageUnreachable, NoImageYet, ReadOnly, open_image
from batos.uvm.addresses import resolve
from batos.uvm.certificates import make_certificates
from batos.vessel import free_ports


class Stranger(Persistent):  # type: ignore[misc]
    """A class that is none of the image's."""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wr0ng"}, 'password authentication failed for user "mind"; correct user and password'),
        ({"user": "nobody"}, "correct user and password"),
        ({"database": "elsewhere"}, 'database "elsewhere" does not exist; make it on the server'),
    ],
)
def test_a_server_that_refuses_is_not_waited_for(postgres: Server, change: dict[str, str], words: str) -> None:
    """The error says what to do, and not with which password."""
    began = time.monotonic()
    parts = {"database": DATABASE, **change}
    with pytest.raises(ImageRefused) as caught:
        open_image(postgres.uri(parameters="?wait_timeout=60", **parts))
    assert words in str(caught.value)
    assert time.monotonic() - began < 10
    must_hide_password(str(caught.value), parts.get("password", PASSWORD))


@pytest.mark.parametrize("place", ["127.0.0.1:{port}", "no-such-host.invalid"])
def test_a_host_that_does_not_answer_is_named(place: str) -> None:
    """With what was found out about it."""
    host = place.format(port=free_ports(1)[0])
    with pytest.raises(ImageUnreachable, match="did not answer within 1 s while opening it") as caught:
        open_image(f"postgresql://mind:s3cret@{host}/x?wait_timeout=1")
    assert any(why in str(caught.value) for why in ("Connection refused", "could not translate host name"))
    assert "s3cret" not in str(caught.value)


def test_reading_only(postgres: Server, postgres_uri: str) -> None:
    """Nothing is made where there is nothing, and nothing is written where there is something."""
    with pytest.raises(NoImageYet):
        open_image(postgres_uri, read_only=True)
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", DATABASE) == "0"
    with open_image(postgres_uri) as writer, open_image(postgres_uri, read_only=True) as reader:
        writer.run(lambda root: setattr(root["lobby"], "x", 1))
        with reader.snapshot() as root:
            assert root["lobby"].x == 1
        with pytest.raises(ReadOnly):
            reader.run(lambda root: setattr(root["lobby"], "x", 2))


def test_a_database_without_history_is_refused(postgres: Server, postgres_uri: str) -> None:
    """Its tables are others."""
    postgres.sql("CREATE TABLE object_state (zoid bigint)", DATABASE)
    with pytest.raises(ImageRefused, match="keep no history"):
        open_image(postgres_uri)


def test_foreign_classes_are_not_loaded(postgres_uri: str) -> None:
    """What another program wrote into the same tables runs nothing here."""
    address = resolve(postgres_uri)
    database = ZODB.DB(address.open_storage(False))
    with database.transaction() as connection:
        connection.root()["stranger"] = Stranger()
    database.close()
    address.release()
    with pytest.raises(ForeignClass, match="Stranger"):
        open_image(postgres_uri)


def test_a_unix_socket_will_do(postgres: Server) -> None:
    """Its folder is named instead of a host."""
    with open_image(f"postgresql://mind@:{postgres.port}/{DATABASE}?host={postgres.socket}") as image:
        image.run(lambda root: setattr(root["lobby"], "x", 1))
        with image.snapshot() as root:
            assert root["lobby"].x == 1


def test_tls_is_asked_for_in_the_address(postgres: Server, tmp_path: Path) -> None:
    """A server that has none, or whose certificate is another's, is refused at once."""
    with pytest.raises(ImageRefused, match=r"does not support SSL.*; correct sslmode"):
        open_image(postgres.uri(DATABASE, "?sslmode=require"))
    ours, theirs = make_certificates(["127.0.0.1"]), make_certificates(["127.0.0.1"])
    (tmp_path / "ours.pem").write_bytes(ours.authority)
    (tmp_path / "theirs.pem").write_bytes(theirs.authority)
    postgres.use_tls(ours.server.certificate, ours.server.key)
    with open_image(postgres.uri(DATABASE, f"?sslmode=verify-full&sslrootcert={tmp_path}/ours.pem")):
        encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'mind'"
        assert postgres.sql(encrypted, DATABASE) == "t"
    with pytest.raises(ImageRefused, match="certificate verify failed; correct sslmode"):
        open_image(postgres.uri(DATABASE, f"?sslmode=verify-full&sslrootcert={tmp_path}/theirs.pem"))


def test_the_password_stands_in_no_name_and_no_line(
    postgres: Server, postgres_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in what RelStorage logs at any level, not in what objects call themselves, not in what is raised."""
    caplog.set_level(logging.NOTSET)
    with open_image(postgres_uri) as image, image.session() as session:
        storage = session._connection._storage
        names = [repr(image._address), repr(storage), storage.getName(), storage.sortKey(), repr(storage._adapter)]
        session.begin()["lobby"].x = 1
        session.commit()
        with pytest.raises(KeyError) as missing:
            storage.load(b"\7" * 8)
        postgres.restart()
        session.begin()
        names += [str(missing.value), repr(missing.value), repr(storage._load_connection)]
    for text in [*names, caplog.text]:
        must_hide_password(text)


def test_closing_leaves_no_threads_and_no_sessions(postgres: Server, postgres_uri: str) -> None:
    """However many connections were open."""
    before = set(threading.enumerate())
    image = open_image(postgres_uri)
    sessions = [image.session() for _ in range(5)]
    for number, session in enumerate(sessions):
        setattr(session.begin()["lobby"], f"x{number}", number)
    assert postgres.sessions(DATABASE) > 5
    image.close()
    assert soon_without_sessions(postgres)
    assert not {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
