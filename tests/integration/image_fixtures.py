"""A fleet of bus and image with the `batos` command, and what is put into its image."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from BTrees.OOBTree import OOBTree
from integration.console_fixtures import Batos
from integration.image_process import until
from integration.uvm_servers import short_folder

from batos.image import ImageServer, UnixSocket
from batos.kernel.genesis.seed import seed
from batos.mind.collections import create_collections
from batos.uvm import Image, Root, UvmObject, open_image, store_blob


@dataclass(frozen=True)
class Care(Batos):
    """A fleet of bus and image, and the command."""

    @property
    def environment(self) -> dict[str, str]:
        here = {"BATOS_INFERENCE_ENV_PYTHON": sys.executable, "BATOS_FORGE_PYTHON": sys.executable}  # made or not
        return {**super().environment, "BATOS_CONSOLE_KEEPER": "integration.console_image_keeper", **here}

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
def awakened(care: Care) -> Care:
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


def rewritten(opened: Image, text: str) -> str:
    """Write another text into `n1`; return the transaction."""
    opened.run(lambda root: setattr(root["things"]["n1"], "text", text))
    return opened.last_tid()


def fill(root: Root, part: int) -> None:
    things = root.setdefault("things", OOBTree())
    for number in range(200):
        things[f"{part}-{number}"] = thing = UvmObject()
        thing.text = "x" * 500


def names(uri: str) -> set[str]:
    with open_image(uri, read_only=True) as opened, opened.snapshot() as root:
        return set(root["things"])


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


@pytest.fixture
def socket() -> Iterator[Path]:
    """Where a server in this process listens."""
    with short_folder() as folder:
        yield folder / "s"


@pytest.fixture
def server(tmp_path: Path, socket: Path) -> Iterator[ImageServer]:
    """An image served in this process."""
    found = ImageServer(tmp_path / "image", UnixSocket(socket), print)
    found.open()
    try:
        yield found
    finally:
        found.close()
