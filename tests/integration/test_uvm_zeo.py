"""The image over real ZEO: several clients, blobs, a server that dies."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from integration.uvm_servers import clean_environment, server_here, server_process, short_folder
from ZODB.POSException import ConflictError

from batos.uvm import (
    BatOSUVM,
    BelongsToVessel,
    Image,
    ImageUnreachable,
    PersistentList,
    ReadOnly,
    Root,
    UvmObject,
    open_image,
    read_blob,
    store_blob,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def uri(folder: Path) -> Iterator[str]:
    with server_here(folder) as socket:
        yield f"zeo://{socket}?wait_timeout=10"


@pytest.fixture
def pair(uri: str) -> Iterator[tuple[Image, Image]]:
    with open_image(uri) as first, open_image(uri) as second:
        yield first, second


def test_what_one_client_saw_acknowledged_every_other_client_sees(pair: tuple[Image, Image]) -> None:
    """Read after acknowledgement, in both directions, each time."""
    for number in range(100):
        writer, reader = pair[number % 2], pair[1 - number % 2]
        with writer.transaction() as root:
            root["lobby"].n = number
        with reader.snapshot() as root:
            assert root["lobby"].n == number


def test_several_clients_open_a_new_image_at_once(uri: str) -> None:
    """There is one lobby in the end."""
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(open_image, [uri] * 4))
    try:
        oids = set()
        for image in images:
            with image.snapshot() as root:
                oids.add(root["lobby"]._p_oid)
        assert len(oids) == 1
    finally:
        for image in images:
            image.close()


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
        assert second.snapshot_tid == tid


@pytest.mark.parametrize("shared", [False, True], ids=["cache", "shared"])
def test_blobs_go_from_client_to_client(uri: str, folder: Path, shared: bool) -> None:
    """Through the server, or through its own folder where that can be reached."""
    data = bytes(range(256)) * 4096
    where = f"{uri}&shared_blob_dir=1&blob_dir={folder}/blobs" if shared else uri
    with open_image(where) as first, open_image(where) as second:
        with first.transaction() as root:
            root["lobby"].weights = store_blob(data)
        with second.snapshot() as root:
            assert read_blob(root["lobby"].weights) == data
        with second.transaction() as root, root["lobby"].weights.open("w") as target:
            target.write(b"new")
        with first.snapshot() as root:
            assert read_blob(root["lobby"].weights) == b"new"


def test_the_past_is_readable_through_the_server(pair: tuple[Image, Image]) -> None:
    """A tid that one client was told opens the past at the other one at once."""
    tids = []
    with pair[0].session() as session:
        for number in range(20):
            session.begin()["lobby"].n = number
            tids.append(session.commit())
            with pair[1].at(tids[-1]) as root:
                assert root["lobby"].n == number
    with pair[1].at(tids[3]) as root:
        assert root["lobby"].n == 3
        with pytest.raises(ReadOnly):
            root["lobby"].n = 0
    with pair[1].at(dt.datetime.now(dt.UTC)) as root:
        assert root["lobby"].n == 19


def test_a_refused_commit_leaves_nothing_at_the_server(pair: tuple[Image, Image]) -> None:
    """And the server takes the next commit of anybody."""
    with pair[0].session() as session:
        lobby = session.begin()["lobby"]
        lobby.honest = 1
        lobby.notes = [1]
        lobby.notes.data.append(threading.Lock())
        with pytest.raises(BelongsToVessel, match=r"lobby\.notes\[1\]: '_thread\.lock' belongs to the vessel"):
            session.commit()
        with pair[1].transaction() as root:
            assert not hasattr(root["lobby"], "honest")
            root["lobby"].other = 1
        assert session.begin()["lobby"].other == 1


def test_a_client_that_only_reads_cannot_write(uri: str) -> None:
    """The view refuses before the server has to."""
    with open_image(uri), open_image(uri, read_only=True) as image, pytest.raises(ReadOnly):
        image.run(lambda root: setattr(root["lobby"], "x", 1))


def test_closing_leaves_no_threads(uri: str) -> None:
    """ZEO's client thread ends with its image."""
    before = set(threading.enumerate())
    image = open_image(uri)
    assert set(threading.enumerate()) - before
    image.close()
    assert not set(threading.enumerate()) - before


def test_an_image_that_is_not_there_is_a_transient_error(folder: Path) -> None:
    """The error names address and wait; nothing is left behind."""
    uri = f"zeo://{folder}/nobody?wait_timeout=1"
    with pytest.raises(ImageUnreachable, match=r"did not answer within 1 s while opening it") as caught:
        open_image(uri)
    assert (caught.value.uri, caught.value.waited_s) == (uri, 1)


def test_a_killed_server_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    """Clients that wait go on by themselves with the same objects; what is asked meanwhile fails as transient."""
    with server_process(folder) as server:
        uri = f"zeo://{server.socket}?wait_timeout=30"
        with open_image(uri) as image, image.session() as session:
            lobby = session.begin()["lobby"]
            lobby.top = UvmObject(x=1)
            lobby.leaf = UvmObject([lobby.top])
            lobby.done = PersistentList()
            session.commit()
            acknowledged = []
            for number in range(3):
                for step in range(5):
                    session.begin()["lobby"].done.append((number, step))
                    session.commit()
                    acknowledged.append((number, step))
                server.kill()
                server.start()
                root = session.begin()
                assert list(root["lobby"].done) == acknowledged
                assert root["lobby"].leaf.x == 1
                session.abort()
            server.kill()
    with (
        server_here(folder) as socket,
        open_image(f"zeo://{socket}?wait_timeout=10") as image,
        image.snapshot() as root,
    ):
        assert list(root["lobby"].done) == acknowledged


def test_a_dead_server_is_named_at_each_step(folder: Path) -> None:
    """Beginning, reading and committing tell that nothing was stored, within the time that the address allows."""
    with server_process(folder) as server:
        with open_image(f"zeo://{server.socket}?wait_timeout=20") as image, image.transaction() as root:
            root["lobby"].x = 1
        uri = f"zeo://{server.socket}?wait_timeout=1"
        with open_image(uri) as image, image.session() as session, image.session() as other:
            lobby = session.begin()["lobby"]
            lobby._p_deactivate()
            other.begin()["lobby"].x = 2
            server.kill()
            with pytest.raises(ImageUnreachable, match="committing"):
                other.commit()
            with pytest.raises(ImageUnreachable, match="beginning a transaction"):
                other.begin()
            with pytest.raises(ImageUnreachable, match="asking for its newest state"):
                image.last_tid()
            session.abort()


WRITER = """
import sys
from batos.uvm import UvmObject, open_image
with open_image(sys.argv[1]) as image, image.session() as session:
    for number in range(100_000):
        lobby = session.begin()["lobby"]
        lobby.count = number
        setattr(lobby, f"n{number % 7}", UvmObject([lobby], number=number, notes=[number]))
        session.commit()
        print(number, flush=True)
"""


READER = """
import sys
from batos.uvm import open_image
with open_image(sys.argv[1]) as image, image.snapshot() as root:
    print(root["lobby"].count)
"""


def test_the_image_of_a_killed_writer_opens_elsewhere_on_another_path(folder: Path) -> None:
    """All that it acknowledged is there, in a fresh process too, and nothing that belonged to it."""
    uri = f"file://{folder}/live_image.fs"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, uri], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    assert writer.stdout is not None
    with writer.stdout as acknowledged:
        seen = [int(acknowledged.readline()) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        seen += [int(line) for line in acknowledged]
    writer.wait(30)
    moved = folder / "moved"
    moved.mkdir()
    shutil.copy(folder / "live_image.fs", moved / "other.fs")
    for place in (uri, f"file://{moved}/other.fs"):
        with BatOSUVM(place) as vessel, vessel.image.snapshot() as root:
            lobby: Any = root["lobby"]
            assert lobby.count >= seen[-1]
            newest = getattr(lobby, f"n{lobby.count % 7}")
            assert (newest.number, newest.notes, newest.count) == (lobby.count, [lobby.count], lobby.count)
    reader = subprocess.run(
        [sys.executable, "-c", READER, uri],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=clean_environment(),
    )
    assert int(reader.stdout) >= seen[-1]
