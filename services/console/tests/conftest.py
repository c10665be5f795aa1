"""A fleet that answers from a script, in the place where commands find the real one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from console_fake_fleet import FakeFleet
from typer.testing import CliRunner

from batos.console import fleet as fleet_module
from batos.console.errors import FleetUnreachable


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working directory of the test's own, no settings from outside."""
    for name in list(os.environ):
        if name.startswith("BATOS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BATOS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    found = FakeFleet()

    @asynccontextmanager
    async def reach(settings: object) -> AsyncIterator[FakeFleet]:
        del settings
        if not found.up:
            raise FleetUnreachable("fleet_down", "no fleet runs", "start it with `batos up`")
        yield found

    monkeypatch.setattr(fleet_module, "reach", reach)
    return found


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()
