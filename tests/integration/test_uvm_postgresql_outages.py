"""The image in PostgreSQL while its server restarts, stops or is killed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from integration.postgres_fixtures import DATABASE
from integration.postgres_server import Server

from batos.uvm import CommitFateUnknown, ImageUnreachable, PersistentList, UvmObject, open_image


def test_a_restarted_server_is_found_again(postgres: Server, postgres_uri: str) -> None:
    """By the same sessions, with the same objects."""
    with open_image(postgres_uri) as image, image.session() as session:
        session.begin()["lobby"].top = UvmObject(x=1)
        session.root["lobby"].leaf = UvmObject([session.root["lobby"].top])
        session.commit()
        postgres.restart()
        assert session.begin()["lobby"].leaf.x == 1
        session.root["lobby"].top.x = 2
        session.commit()
        postgres.restart()
        assert image.run(lambda root: root["lobby"].leaf.x) == 2
        assert image.last_tid() > session.snapshot_tid
    with open_image(postgres_uri) as image, image.snapshot() as root:
        assert root["lobby"].leaf.x == 2


def test_a_server_that_comes_back_in_time_is_waited_for(postgres: Server, postgres_uri: str) -> None:
    """As a vessel that starts before its database does."""
    with open_image(postgres_uri):
        pass
    postgres.stop()
    starter = threading.Timer(1.0, postgres.start)
    starter.start()
    try:
        with open_image(postgres_uri) as image, image.snapshot() as root:
            assert root["lobby"]
    finally:
        starter.join()


def test_a_dead_server_is_named_at_each_step(postgres: Server, postgres_uri: str) -> None:
    """Beginning, reading and committing tell that nothing was stored, within the time that the address allows."""
    with open_image(postgres_uri) as image, image.transaction() as root:
        root["lobby"].x = 1
    postgres_uri = postgres.uri(DATABASE, "?wait_timeout=1")
    with open_image(postgres_uri) as image, image.session() as session, image.session() as other:
        lobby = session.begin()["lobby"]
        lobby._p_deactivate()
        image._database.storage._cache.clear(load_persistent=False)
        other.begin()["lobby"].x = 2
        postgres.kill()
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
            open_image(postgres_uri)
        assert time.monotonic() - began < 10
        assert "did not answer within 1 s" in str(caught.value)
        assert "check that PostgreSQL runs" in str(caught.value)
        session.abort()
        postgres.start()
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


def test_a_server_that_dies_in_the_last_step_leaves_the_fate_unknown(postgres: Server, postgres_uri: str) -> None:
    """Nobody may take it for a failure, nor for a success."""
    with open_image(postgres_uri) as image, image.session() as session:
        session.begin()["lobby"].x = 1
        session._manager.get().join(Saboteur(postgres, session._manager))
        with pytest.raises(CommitFateUnknown, match="may or may not be stored"):
            session.commit()
        postgres.start()
        assert not hasattr(session.begin()["lobby"], "x")


def test_a_killed_server_loses_nothing_that_was_acknowledged(postgres: Server, postgres_uri: str) -> None:
    """Commits that it cut off are told as such; those are looked up, and made again where they are missing."""
    told: list[str] = []
    with open_image(postgres_uri) as image, image.session() as session:
        session.begin()["lobby"].done = PersistentList()
        session.commit()
        rounds = 5
        for number in range(rounds):
            killer = threading.Timer(0.1 + 0.013 * number, lambda: (postgres.kill(), postgres.start()))
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


def test_an_outage_is_logged_in_lines(postgres: Server, postgres_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a traceback for each connection that it ended."""
    with open_image(postgres_uri) as image, image.session() as session:
        session.begin()
        session.abort()
        postgres.restart()
        session.begin()
    told = [record for record in caplog.records if record.name == "relstorage.adapters.connections"]
    assert told
    assert not [record for record in told if record.exc_info or "\n" in record.getMessage()]
