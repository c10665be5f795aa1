"""The `batos` command on a home whose fleet is real but for what thinks in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

TESTS = Path(__file__).resolve().parents[1]
BATOS = str(Path(sys.executable).with_name("batos"))
SECONDS = 40


@dataclass(frozen=True)
class Batos:
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BATOS_")}
        return {
            **kept, "BATOS_HOME": str(self.home), "BATOS_HEARTBEAT_S": "0.3", "PYTHONPATH": str(TESTS), "TERM": "xterm",
            "BATOS_CONSOLE_KEEPER": "integration.console_keeper",
        }  # fmt: skip

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BATOS, *arguments], env={**self.environment, **settings}, cwd=self.home.parent, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BATOS, *arguments], env=self.environment, cwd=self.home.parent, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def json(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    @contextlib.contextmanager
    def terminal(self, *arguments: str) -> Iterator[pexpect.spawn[str]]:
        """Run a command at a terminal of its own, where Ctrl-C counts even if the tests run in a background job."""
        child = pexpect.spawn(
            BATOS, list(arguments), env=self.environment, cwd=str(self.home.parent), encoding="utf-8", timeout=SECONDS,
            dimensions=(40, 160), preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            yield child
        finally:
            child.close(force=True)

    def processes(self) -> list[psutil.Process]:
        """Every process of this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("BATOS_HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@pytest.fixture
def batos(tmp_path: Path) -> Iterator[Batos]:
    """The command on a home of the test's own; nothing of its fleet may be left."""
    found = Batos(tmp_path / "home")
    yield found
    found.run("down")
    left = found.processes()
    for process in left:
        process.kill()
    assert not left, [process.cmdline() for process in left]


@pytest.fixture
def fleet(batos: Batos) -> Batos:
    """The same with a fleet that runs."""
    up = batos.run("up", "--detach")
    assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
    return batos
