"""The image vessel on a port with TLS: who has a certificate of the fleet reads and writes, nobody else does."""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.bus_fixtures import BusUnderTest
from integration.image_process import ImageProcess, image
from integration.test_image_timeout import stalled

from batos.console.keys import make_keys
from batos.uvm import ImageUnreachable, open_image, read_blob, store_blob
from batos.uvm.zeo_client import EndingLoop
from batos.vessel import free_ports

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def served(tmp_path: Path, keys: Path, port: int) -> Iterator[ImageProcess]:
    with image(tmp_path / "home", **settings(keys, port)) as process:
        process.await_ready()
        yield process


def settings(keys: Path, port: int) -> dict[str, str]:
    return {
        "BATOS_IMAGE_LISTEN": f"127.0.0.1:{port}",
        "BATOS_KEYS": str(keys / "image"),
        "BATOS_KEY_NAME": "image",
    }


def check(home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batos.image.check"],
        env={"BATOS_HOME": str(home), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.usefixtures("served")
def test_clients_of_the_fleet_share_objects_and_blobs(keys: Path, port: int) -> None:
    """What one commits another sees, blobs included, which travel over the connection."""
    uri = f"zeo://localhost:{port}?wait_timeout=10&tls={keys}"
    with open_image(f"{uri}/kernel") as kernel, open_image(f"{uri}/curator") as curator:
        with kernel.transaction() as root:
            root["lobby"].greeting = "hello"
            root["lobby"].weights = store_blob(b"\x01" * 200_000)
        with curator.snapshot() as root:
            assert root["lobby"].greeting == "hello"
            assert read_blob(root["lobby"].weights) == b"\x01" * 200_000


@pytest.mark.parametrize("how", ["stopped", "waiting"])
def test_a_stalled_client_is_told_by_tls_as_well(how: str, tmp_path: Path, keys: Path, port: int) -> None:
    """The last words of the image reach it: it knows that nothing of its commit is stored."""
    uri = f"zeo://localhost:{port}?wait_timeout=20&tls={keys / 'kernel'}"
    with image(tmp_path / "h", **settings(keys, port), BATOS_IMAGE_TRANSACTION_TIMEOUT_S="1") as server:
        server.await_ready()
        with stalled(uri, how) as staller, open_image(uri) as other:
            other.run(lambda root: setattr(root["lobby"], "other", True))
            if how == "stopped":
                staller.send_signal(signal.SIGCONT)
            first, second = staller.communicate("go on\n", timeout=60)[0].splitlines()
        assert first.startswith("LockHeldTooLong: this client held the commit lock"), first
        assert second == "committed"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("how", ["plain", "foreign"])
def test_nobody_else_is_admitted(how: str, keys: Path, port: int, tmp_path: Path) -> None:
    """Neither without TLS nor with a certificate of another fleet; the image goes on serving its own."""
    other = tmp_path / "other"
    make_keys(other)
    shutil.copy(keys / "kernel" / "image-ca.pem", other / "kernel")
    query = f"&tls={other / 'kernel'}" if how == "foreign" else ""
    with pytest.raises(ImageUnreachable, match="did not answer"):
        open_image(f"zeo://localhost:{port}?wait_timeout=1{query}")
    with open_image(f"zeo://localhost:{port}?wait_timeout=10&tls={keys / 'kernel'}") as own:
        assert own.last_tid()


def test_who_gives_up_on_a_silent_image_leaves_nothing_open(keys: Path) -> None:
    """A connection that is still shaking hands when its client gives up is closed with it (unclosed ones warn)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ImageUnreachable, match="did not answer"):
            open_image(f"zeo://localhost:{port}?wait_timeout=1&tls={keys / 'kernel'}")
    gc.collect()


def test_the_loop_of_a_client_leaves_no_connection_open() -> None:
    """Whatever ZEO forgets to close is closed with its loop: connections that are made, and those in the making."""
    loop = EndingLoop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        made, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, host, port))
        shaking = loop.create_task(
            loop.create_connection(asyncio.Protocol, host, port, ssl=ssl.create_default_context(), server_hostname="x")
        )
        silent.setblocking(False)
        peers = [loop.run_until_complete(loop.sock_accept(silent))[0] for _ in range(2)]
        assert not shaking.done()
        loop.close()
    for peer in peers:
        peer.close()
    assert shaking.cancelled()
    assert made.get_extra_info("socket").fileno() == -1
    del made, shaking
    gc.collect()


def test_the_check_asks_over_the_real_protocol(served: ImageProcess, keys: Path, port: int) -> None:
    """It succeeds while the image serves, and says in one line that nobody answers when it does not."""
    environ = settings(keys, port)
    good = check(served.home, **environ)
    assert (good.returncode, good.stderr) == (0, "")
    served.process.terminate()
    assert served.process.wait(30) == 0
    bad = check(served.home, **environ)
    assert bad.returncode == 1
    assert f"nobody answers at zeo://localhost:{port}" in bad.stderr
    assert len(bad.stderr.splitlines()) == 1


def test_the_check_asks_over_a_unix_socket_as_well(tmp_path: Path) -> None:
    """Where the image has no port."""
    with image(tmp_path / "h") as process:
        process.await_ready()
        assert check(process.home).returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda home: (home / "keys" / "image-server.key").unlink(), "image-server.key cannot be used for TLS"),
        (lambda home: shutil.rmtree(home / "keys"), "batos keys make"),
    ],
)
def test_missing_certificates_end_the_vessel_with_one_line(
    change: Callable[[Path], None], words: str, tmp_path: Path, keys: Path, port: int
) -> None:
    """It does not serve without them; the line says what to make and to mount."""
    home = tmp_path / "home"
    shutil.copytree(keys / "image", home / "keys")
    change(home)
    with image(home, **settings(keys, port) | {"BATOS_KEYS": str(home / "keys")}) as process:
        assert process.process.wait(30) == 1
    assert words in process.words().splitlines()[-1]


def test_a_port_that_is_taken_ends_the_vessel_with_one_line(tmp_path: Path, keys: Path) -> None:
    """The line names the port and the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with image(tmp_path / "home", **settings(keys, number)) as process:
            assert process.process.wait(30) == 1
    last = process.words().splitlines()[-1]
    assert f"cannot listen on 127.0.0.1:{number}: Address already in use" in last
    assert "BATOS_IMAGE_LISTEN" in last


def test_the_bus_can_be_checked_by_its_own_protocol(bus: BusUnderTest) -> None:
    """Over CURVE with the bus's own key; without a bus one line says so."""

    def checked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "batos.bus.check"],
            env=bus.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    good = checked()
    assert (good.returncode, good.stderr) == (0, "")
    bus.kill()
    bad = checked()
    assert bad.returncode == 1
    assert len(bad.stderr.splitlines()) == 1
    assert "batos bus check" in bad.stderr
