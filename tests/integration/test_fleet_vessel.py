"""The life of one process: signals, exit codes, and what its last line says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from batos.vessel import free_ports

SCRIPT = Path(__file__).with_name("fleet_stubborn_vessel.py")


@dataclass
class Plank:
    process: subprocess.Popen[bytes]
    log: Path

    def words(self) -> str:
        return self.log.read_text()

    def await_words(self, words: str) -> None:
        until(f"{words!r}", lambda: words in self.words())

    def end(self, *signals: int, timeout: float = 20) -> int:
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(timeout)


def until(what: str, condition: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def plank(home: Path, name: str, **settings: str) -> Iterator[Plank]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BATOS_")}
    bus = {f"BATOS_BUS_{key}": f"ipc://{home}/{key}" for key in ("WORK", "CONTROL", "PUBLISH", "SUBSCRIBE")}
    environ = {**kept, **bus, "BATOS_BUS_SERVER_KEY": "off", "BATOS_HOME": str(home), "BATOS_NAME": name, **settings}
    log = home / "words"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, str(SCRIPT)], env=environ, stderr=file, cwd=home)
    try:
        yield Plank(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_order(tmp_path: Path, number: int) -> None:
    """SIGTERM and SIGINT drain, stop, exit 0."""
    with plank(tmp_path, "well") as found:
        found.await_words("started")
        assert found.end(number) == 0
    assert "drained" in found.words()
    assert found.words().endswith("stopped\n")


def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    """A drain that takes long is cut short by a second SIGTERM; what is held is still let go."""
    with plank(tmp_path, "endless") as found:
        found.await_words("started")
        found.process.send_signal(signal.SIGTERM)
        found.await_words("draining, for at most 120.0 s")
        assert found.end(signal.SIGTERM) == 0
    assert "cut short" in found.words()
    assert "stopped" in found.words()


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    """A drain longer than its time is left; that is no failure."""
    with plank(tmp_path, "endless", BATOS_DRAIN_TIMEOUT_S="0.2") as found:
        found.await_words("started")
        assert found.end(signal.SIGTERM) == 0
    assert "took longer than 0.2 s" in found.words()


def test_a_stop_has_an_end(tmp_path: Path) -> None:
    """A vessel that never lets go is left, with exit code 1 and the setting's name."""
    with plank(tmp_path, "stuck", BATOS_STOP_TIMEOUT_S="0.3") as found:
        found.await_words("started")
        assert found.end(signal.SIGTERM) == 1
    assert "BATOS_STOP_TIMEOUT_S" in found.words()


def test_threads_do_not_keep_a_process(tmp_path: Path) -> None:
    """A thread that does not end is named and left behind."""
    with plank(tmp_path, "lingering", BATOS_STOP_TIMEOUT_S="0.3") as found:
        found.await_words("started")
        assert found.end(signal.SIGTERM) == 1
    assert "threads that will not end: moss" in found.words()


def test_a_signal_during_the_start(tmp_path: Path) -> None:
    """A vessel that is still starting ends in order, too."""
    with plank(tmp_path, "slow") as found:
        found.await_words("starting slowly")
        assert found.end(signal.SIGTERM) == 0
    assert "stopped" in found.words()


def test_a_start_that_fails(tmp_path: Path) -> None:
    """Exit code 1, one line that says what is wrong and what to do, no traceback."""
    with plank(tmp_path, "broken") as found:
        assert found.process.wait(20) == 1
    assert "broken cannot start: the engine has no fuel; fill it up" in found.words()
    assert "Traceback" not in found.words()


def test_a_fault_shows_where_it_arose(tmp_path: Path) -> None:
    """A fault of the program itself is one line, too, with the traceback below it."""
    with plank(tmp_path, "faulty") as found:
        assert found.process.wait(20) == 1
    assert "faulty cannot start: KeyError: 'fuel'" in found.words()
    assert "Traceback" in found.words()


def test_a_vessel_that_fails(tmp_path: Path) -> None:
    """What fails after its start lets go and exits 1 with its reason."""
    with plank(tmp_path, "dying") as found:
        assert found.process.wait(20) == 1
    assert "dying failed: the engine has died" in found.words()
    assert "stopped" in found.words()


def test_settings_that_are_wrong(tmp_path: Path) -> None:
    """Bad settings: exit code 2 and one line."""
    with plank(tmp_path, "well", BATOS_METRICS_PORT="x") as found:
        assert found.process.wait(20) == 2
    assert found.words().startswith("batos stubborn: BATOS_METRICS_PORT: ")
    assert len(found.words().splitlines()) == 1


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """An occupied port for the pages: exit code 1 and the setting's name."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with plank(tmp_path, "well", BATOS_METRICS_PORT=port) as found:
            assert found.process.wait(20) == 1
    assert f"cannot serve /metrics on 127.0.0.1:{port}" in found.words()
    assert "BATOS_METRICS_PORT" in found.words()


def test_not_ready_while_it_starts(tmp_path: Path) -> None:
    """/readyz is 503 with the reason before the vessel is ready; /healthz is 200; logs can be JSON."""
    (port,) = free_ports(1)
    with plank(tmp_path, "slow", BATOS_METRICS_PORT=str(port), BATOS_LOG_FORMAT="json") as found:
        found.await_words("starting slowly")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
        with caught.value as refusal:
            assert refusal.code == 503
            assert refusal.read() == b"not ready: starting\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            assert answer.status == 200
        assert found.words().startswith('{"timestamp":')
