"""The `batos` command on one home, as a test uses it: the way a person does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parents[1]
BATOS = Path(sys.executable).parent / "batos"


@dataclass(frozen=True)
class Fleet:
    """The `batos` command on one home."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """`BATOS_…` names and values beside BATOS_HOME."""

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BATOS_")}
        return {**kept, **self.settings, "BATOS_HOME": str(self.home)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BATOS), *arguments],
            cwd=CHECKOUT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 180, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BATOS), *arguments],
            cwd=CHECKOUT,
            env=dict(self.environment),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str, timeout: float = 180, expect: int = 0) -> dict[str, Any]:
        done = self.run(*arguments, "--json", timeout=timeout)
        assert done.returncode == expect, (
            f"batos {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def ask_many(
        self, missions: list[str], *options: str, at_a_time: int = 3, timeout: float = 300
    ) -> list[dict[str, Any]]:
        """Ask missions side by side, each through a `batos ask --json` of its own; exit codes 0 and 1 are answers."""

        def ask(text: str) -> dict[str, Any]:
            done = self.run("ask", text, "--json", *options, timeout=timeout)
            assert done.returncode in {0, 1}, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            found = json.loads(done.stdout)
            assert (found["outcome"] == "COMPLETE") == (done.returncode == 0)
            assert isinstance(found, dict)
            return found

        with ThreadPoolExecutor(at_a_time) as pool:
            return list(pool.map(ask, missions))

    def vessels(self) -> dict[str, dict[str, Any]]:
        return {vessel["name"]: vessel for vessel in self.json("status")["vessels"]}

    def processes(self) -> list[psutil.Process]:
        """Every process on this machine that runs for this home."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("BATOS_HOME") == str(self.home) and process.pid != os.getpid():
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return found

    def records(self) -> list[dict[str, Any]]:
        """Every record of every kernel's metacognition log."""
        lines: list[dict[str, Any]] = []
        for path in sorted((self.home / "log").rglob("metacognition*.jsonl")):
            lines += [json.loads(line) for line in path.read_text().splitlines()]
        return lines


def wait_for(what: str, condition: Callable[[], bool], timeout: float = 60) -> None:
    """Poll until the condition holds; the failure names what was awaited."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.1)


@contextmanager
def running(fleet: Fleet, *, up_s: float = 180, down_s: float = 90) -> Iterator[Fleet]:
    """The fleet, up; at the end it is down, and nothing of it may be left."""
    try:
        up = fleet.run("up", "--detach", timeout=up_s)
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
        yield fleet
    finally:
        down = fleet.run("down", timeout=down_s)
        left = fleet.processes()
        for process in left:
            process.kill()
    assert down.returncode == 0, f"{down.stdout}\n{down.stderr}"
    assert not left, [process.cmdline() for process in left]
