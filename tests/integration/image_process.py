"""The image vessel as a process of its own, without a bus."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class ImageProcess:
    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    def words(self) -> str:
        return self.log.read_text()

    @property
    def socket(self) -> str:
        return str(self.home / "run" / "image.sock")

    def await_ready(self) -> None:
        until("the image to serve", lambda: "serving" in self.words() or self.process.poll() is not None)
        assert self.process.poll() is None, self.words()

    def metrics(self) -> str:
        return self.page("metrics")

    def page(self, name: str) -> str:
        (address,) = [word for word in self.words().split() if word.endswith("/metrics")]
        with urllib.request.urlopen(address.removesuffix("metrics") + name, timeout=5) as answer:
            return str(answer.read().decode())


def until(what: str, condition: Callable[[], bool], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def image(home: Path, **settings: str) -> Iterator[ImageProcess]:
    """An image vessel without a bus: it serves all the same."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / f"image-{time.monotonic_ns()}.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATOS_")}
    bus = {f"BATOS_BUS_{name}": f"ipc://{home}/{name}" for name in ("WORK", "CONTROL", "PUBLISH", "SUBSCRIBE")}
    environ = {**kept, **bus, "BATOS_BUS_SERVER_KEY": "off", "BATOS_HOME": str(home), **settings}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "batos.image"], env=environ, stderr=file, stdin=subprocess.DEVNULL, cwd=home
        )
    try:
        yield ImageProcess(home, process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
