"""A container engine to test on: the one that answers, or one of its own that the machine's tools start.

Images of others cannot be pulled everywhere. Where a tool for it lies beside the checkout, base images are stood in for
by the machine's own Python, and whatever wheels its pip finds on disk are in them too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT.parent / "shared" / "engine"
START_TIMEOUT_S = 300
BASE_TIMEOUT_S = 300
KEPT_CACHE = "6GB"
"""Of build steps, between two runs of an engine of our own."""
SHOWN = 4000
"""Characters of each stream that a failure shows."""
CORE_BASE = "batos-test/python:3.12"
FORGE_PLAIN_BASE = "batos-test/python:3.11"
FORGE_BASE = "batos-test/python:3.11-wheels"
WHEELS_DOCKERFILE = f"FROM {FORGE_PLAIN_BASE}\nCOPY *.whl /wheels/\nENV PIP_FIND_LINKS=/wheels\n"
TORCH_WHEELS = "torch-*cp311*.whl"


class NoEngine(Exception):  # noqa: N818 - it names what is not there
    """No container engine answers, and none can be started; the text says so."""


class ContainerEngine:
    """Runs `docker`.

    Attributes:
        environment: with which `docker` reaches the engine.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path | None) -> None:
        self.environment = dict(environment)
        self._folder = folder

    @classmethod
    def find(cls, folder: Path) -> ContainerEngine:
        """Find the engine that answers, or start one whose state lies in a folder.

        Raises:
            NoEngine: there is none.
        """
        here = {name: value for name, value in os.environ.items() if not name.startswith(("BATOS_", "COMPOSE_"))}
        if shutil.which("docker") and _answers(here):
            return cls(here, None)
        start = TOOLS / "start"
        if not start.is_file():
            raise NoEngine(f"no container engine answers (`docker info`), and there is no {start} to start one")
        started = subprocess.run(
            [str(start), str(folder)], stdout=subprocess.PIPE, text=True, timeout=START_TIMEOUT_S, check=False
        )
        if started.returncode != 0:
            raise NoEngine(f"{start} ended with exit code {started.returncode}")
        exported = dict(word.split("=", 1) for word in started.stdout.removeprefix("export ").split())
        return cls({**here, **exported}, folder)

    def stop(self) -> None:
        """Stop the engine if `find` started it; what is kept for the next run is bounded."""
        if self._folder is not None:
            self.run("image", "prune", "--force", timeout=300)
            self.run("builder", "prune", "--force", "--keep-storage", KEPT_CACHE, timeout=300)
            subprocess.run([str(TOOLS / "stop"), str(self._folder)], timeout=60, check=True)

    def run(self, *arguments: str, timeout: float = 120, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `docker` with these arguments; fail unless its exit code is the expected one (None: any)."""
        return run_checked(["docker", *arguments], self.environment, timeout=timeout, expect=expect)

    def bases(self, folder: Path) -> dict[str, str]:
        """Return the base images to build on, as variables of the Compose file; made where they cannot be pulled.

        Args:
            folder: empty, for what a base image is made from.
        """
        make = TOOLS / "base-image"
        if not make.is_file():
            return {}
        for version, tag in (("3.12", CORE_BASE), ("3.11", FORGE_PLAIN_BASE)):
            if not self._has(tag):
                subprocess.run(
                    [str(make), version, tag],
                    env=self.environment,
                    stdout=subprocess.DEVNULL,
                    timeout=BASE_TIMEOUT_S,
                    check=True,
                )
        return {
            "BATOS_DEPLOY_BASE": CORE_BASE,
            "BATOS_DEPLOY_VLLM_BASE": CORE_BASE,
            "BATOS_DEPLOY_FORGE_BASE": self._with_wheels(folder),
        }

    def _with_wheels(self, folder: Path) -> str:
        """Return a base image that has the wheels that pip finds on this machine's disk."""
        wheels = [wheel for place in os.environ.get("PIP_FIND_LINKS", "").split() for wheel in _wheels(Path(place))]
        if not wheels:
            return FORGE_PLAIN_BASE
        for wheel in wheels:
            shutil.copy(wheel, folder)
        (folder / "Dockerfile").write_text(WHEELS_DOCKERFILE)
        self.run("build", "-q", "-t", FORGE_BASE, str(folder), timeout=BASE_TIMEOUT_S)
        return FORGE_BASE

    def _has(self, image: str) -> bool:
        return self.run("image", "inspect", image, expect=None).returncode == 0


def run_checked(
    command: Sequence[str], environment: Mapping[str, str], *, timeout: float, expect: int | None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; fail unless its exit code is the expected one (None: any)."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    said = f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-SHOWN:]}\n{done.stderr[-SHOWN:]}"
    assert expect in {None, done.returncode}, said
    return done


def _answers(environment: Mapping[str, str]) -> bool:
    return (
        subprocess.run(["docker", "info"], env=environment, capture_output=True, timeout=30, check=False).returncode
        == 0
    )


def _wheels(place: Path) -> list[Path]:
    return sorted(place.glob(TORCH_WHEELS)) if place.is_dir() else []
