"""`docker compose` over the shipped file, as a test uses it: a project of its own, nothing left of it afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from containers.container_engine import CHECKOUT, ContainerEngine, run_checked

COMPOSE_FILE = CHECKOUT / "deploy" / "docker-compose.yml"
OVERRIDE = Path(__file__).with_name("compose.test.yml")
LABEL = "com.docker.compose.project"
TAG = "test"


class ComposeFleet:
    """One Compose project."""

    def __init__(self, engine: ContainerEngine, project: str, variables: Mapping[str, str]) -> None:
        self.engine = engine
        self.project = project
        files = [COMPOSE_FILE, OVERRIDE]
        self._command = ["docker", "compose", "-p", project, *(part for file in files for part in ("-f", str(file)))]
        self._environment = {
            **engine.environment,
            "COMPOSE_PROGRESS": "plain",
            "BATOS_DEPLOY_TAG": TAG,
            **variables,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `docker compose` with these arguments."""
        return subprocess.Popen(
            [*self._command, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 180, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` with these arguments; fail unless its exit code is the expected one (None: any)."""
        return run_checked([*self._command, *arguments], self._environment, timeout=timeout, expect=expect)

    def batos(self, *arguments: str, timeout: float = 300) -> dict[str, Any]:
        """Run a `batos` command in the console's container; return its JSON."""
        return answer(self.run(*console(*arguments), timeout=timeout).stdout)

    def config(self, *options: str) -> dict[str, Any]:
        """Return the project as Compose understands it."""
        found = json.loads(self.run(*options, "config", "--format", "json").stdout)
        assert isinstance(found, dict)
        return found

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return what `docker compose ps --all` says, by service."""
        lines = self.run("ps", "--all", "--format", "json").stdout.splitlines()
        return {found["Service"]: found for found in map(json.loads, lines)}

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        name = self.containers()[service]["Name"]
        (found,) = json.loads(self.engine.run("inspect", name).stdout)
        assert isinstance(found, dict)
        return found

    def inside(self, service: str, *command: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a program in a service's container."""
        return self.run("exec", "-T", service, *command, expect=expect)

    def left(self) -> dict[str, str]:
        """Return what the engine still has of this project."""
        label = f"label={LABEL}={self.project}"
        looks = {
            "containers": ("ps", "--all", "--quiet", "--filter", label),
            "volumes": ("volume", "ls", "--quiet", "--filter", label),
            "networks": ("network", "ls", "--quiet", "--filter", label),
        }
        found = {what: self.engine.run(*look).stdout.strip() for what, look in looks.items()}
        return {what: names for what, names in found.items() if names}


def console(*arguments: str) -> tuple[str, ...]:
    """Return how a `batos` command is run in the console's container."""
    return ("run", "--rm", "--no-deps", "-T", "console", *arguments, "--json")


def answer(stdout: str) -> dict[str, Any]:
    """Return the one JSON object that a command printed."""
    found = json.loads(stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found
