"""A client that stalls while it holds the commit lock of a real image vessel; and the loop that the vessel runs on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.image_process import ImageProcess, image, until
from ZEO.asyncio.client import ClientIO
from ZEO.Exceptions import ClientDisconnected

from batos.uvm import CommitFateUnknown, open_image

pytestmark = pytest.mark.timeout(120)

STALLER = Path(__file__).with_name("image_staller.py")
TIMEOUT_S = 2
LONG_S = 600


def served(home: Path, timeout_s: float) -> contextlib.AbstractContextManager[ImageProcess]:
    return image(home, BATOS_IMAGE_TRANSACTION_TIMEOUT_S=str(timeout_s))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "h"


@contextlib.contextmanager
def stalled(address: str, how: str) -> Iterator[subprocess.Popen[str]]:
    """A client that has the commit lock and does nothing."""
    process = subprocess.Popen(
        [sys.executable, str(STALLER), address, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "voted\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def uri(server: ImageProcess) -> str:
    return f"zeo://{server.socket}?wait_timeout=20"


def commit(server: ImageProcess, name: str) -> float:
    """Commit as a new client; return when that was done."""
    with open_image(uri(server)) as client:
        client.run(lambda root: setattr(root["lobby"], name, True))
    return time.monotonic()


@pytest.mark.parametrize("how", ["stopped", "waiting"])
def test_a_stalled_client_is_thrown_out(home: Path, how: str) -> None:
    """Waiting writers and new clients commit once the time is up; the stalled one is told; nothing of it is stored."""
    with served(home, TIMEOUT_S) as server:
        server.await_ready()
        with open_image(uri(server)) as early, stalled(uri(server), how) as staller:
            began = time.monotonic()
            done: list[float] = []
            writer = threading.Thread(target=lambda: done.append(commit(server, "waited")))
            writer.start()
            early.run(lambda root: setattr(root["lobby"], "early", True))
            writer.join()
            took = max(time.monotonic(), done[0]) - began
            assert TIMEOUT_S / 2 < took < TIMEOUT_S + 10
            assert f"process {staller.pid} held the commit lock" in server.words()
            assert "('staller', 'a slow thought')" in server.words()
            commit(server, "new")

            with early.snapshot() as root:
                assert not hasattr(root["lobby"], "said")
                assert root["lobby"].waited
                assert root["lobby"].new
            if how == "stopped":
                staller.send_signal(signal.SIGCONT)
            assert staller.stdin is not None
            said, _ = staller.communicate("go on\n", timeout=30)
            first, second = said.splitlines()
            assert first.startswith("LockHeldTooLong: this client held the commit lock of the image at"), first
            assert f"for more than {TIMEOUT_S} s and was thrown out: nothing of its transaction is stored" in first
            assert second == "committed"
            with early.snapshot() as root:
                assert root["lobby"].said == "by the staller, later"
        assert "batos_image_clients_expelled_total 1.0" in server.metrics()
        assert "Traceback" not in server.words()


def test_the_vessel_dies_before_the_finish_is_asked_for(home: Path) -> None:
    """Nothing can be stored of what was only voted for: the client says so, and not that nobody knows."""
    with served(home, LONG_S) as server:
        server.await_ready()
        with stalled(uri(server), "waiting") as staller:
            server.process.kill()
            server.process.wait()
            with served(home, LONG_S) as second:
                second.await_ready()
                said, _ = staller.communicate("go on\n", timeout=60)
                first, later = said.splitlines()
                assert first.startswith("ImageUnreachable: the image at"), first
                assert "nothing of it is stored" in first
                assert later == "committed"
                with open_image(uri(second)) as client, client.snapshot() as root:
                    assert root["lobby"].said == "by the staller, later"


def test_where_nobody_can_know_that_is_said(home: Path) -> None:
    """The connection is lost after the finish was asked for: the fate of the commit is unknown, as it was before."""
    with served(home, LONG_S) as server:
        server.await_ready()
        with open_image(uri(server)) as client, unanswered_finish(), pytest.raises(CommitFateUnknown):
            client.run(lambda root: setattr(root["lobby"], "said", True))


@contextlib.contextmanager
def unanswered_finish() -> Iterator[None]:
    """The connections of this process end with the last word of a commit, whose answer never comes."""

    async def lost(*_given: object) -> bytes:
        raise ClientDisconnected("lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientIO, "tpc_finish_co", lost)
        yield


def test_who_holds_no_lock_may_be_silent(home: Path) -> None:
    """A client that is open for longer than that and commits nothing keeps its connection."""
    with served(home, 1) as server:
        server.await_ready()
        with open_image(uri(server)) as quiet, open_image(uri(server)) as other, quiet.session() as session:
            session.begin()
            began = time.monotonic()
            number = 0
            while time.monotonic() < began + 2.5:
                with other.transaction() as root:
                    root["lobby"].number = number
                number += 1
            session.root["lobby"].quiet = True
            with pytest.raises(Exception, match="conflict"):
                session.commit()
        assert "batos_image_clients_expelled_total 0.0" in server.metrics()


def test_a_dead_client_frees_the_lock_at_once(home: Path) -> None:
    """Killed while it holds the lock: the others need not wait for the time to be over."""
    with served(home, LONG_S) as server:
        server.await_ready()
        with stalled(uri(server), "waiting") as staller:
            staller.kill()
            assert commit(server, "after") > 0


def test_the_vessel_ends_in_order_while_a_client_stalls(home: Path) -> None:
    """SIGTERM: exit 0, nothing of the unfinished commit is stored."""
    with served(home, LONG_S) as server:
        server.await_ready()
        with stalled(uri(server), "waiting"):
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0
    with served(home, LONG_S) as server:
        server.await_ready()
        with open_image(uri(server)) as client, client.snapshot() as root:
            assert not hasattr(root["lobby"], "said")


def test_the_server_runs_on_plain_asyncio(home: Path, tmp_path: Path) -> None:
    """Although uvloop could be imported, and although ZEO takes it wherever it can be."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "uvloop.py").write_text(
        "import asyncio, pathlib\n"
        "def new_event_loop():\n"
        "    pathlib.Path(__file__).with_name('used').touch()\n"
        "    return asyncio.new_event_loop()\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    check = "import ZEO.asyncio.compat as c; c.new_event_loop().close()"
    subprocess.run([sys.executable, "-c", check], env=environ, check=True, timeout=60)
    assert (folder / "used").exists(), "the stand-in is not what ZEO would take"
    (folder / "used").unlink()
    with image(home, PYTHONPATH=str(folder)) as server:
        server.await_ready()
        commit(server, "anything")
        assert not (folder / "used").exists()
        until("the metrics", lambda: "batos_image_clients " in server.metrics())
