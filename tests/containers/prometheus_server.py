"""A real Prometheus on loopback, as a child of the test."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_fleet import wait_for

from batos.vessel import free_ports

STOP_S = 20


@dataclass(frozen=True)
class Prometheus:
    """Its HTTP interface."""

    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; a refusal fails with the reason."""
        address = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            with refused:
                raise AssertionError(f"{path} {parameters}: {refused.read().decode()}") from None

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("targets", state="active")["activeTargets"]
        return found

    def now(self, expression: str) -> list[tuple[Mapping[str, str], list[float]]]:
        """Labels and value of every series at this moment."""
        found = self.ask("query", query=expression)["result"]
        return [(series["metric"], [float(series["value"][1])]) for series in found]

    def over(
        self, expression: str, start: float, end: float, step_s: int
    ) -> list[tuple[Mapping[str, str], list[float]]]:
        """Labels and values of every series in a span of time."""
        found = self.ask("query_range", query=expression, start=str(start), end=str(end), step=str(step_s))["result"]
        return [(series["metric"], [float(value) for _, value in series["values"]]) for series in found]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def serving(config: Path, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with a configuration; everything that it writes lies in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Prometheus(f"127.0.0.1:{free_ports(1)[0]}")
    log = folder / "prometheus.log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={found.address}",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
        )
    try:
        wait_for("Prometheus to be ready", lambda: process.poll() is not None or found.is_ready(), timeout=30)
        assert process.poll() is None, log.read_text()
        yield found
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()
