"""A whole fleet with the real embedded model, started and stopped by the `batos` command as a person would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from local_fleet import CHECKOUT, Fleet, running


@pytest.fixture(scope="session")
def missions() -> list[str]:
    return (CHECKOUT / "tests" / "missions.txt").read_text().splitlines()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(Fleet(tmp_path_factory.mktemp("home") / "var")) as found:
        yield found


@pytest.fixture(scope="session")
def thoughts(fleet: Fleet, missions: list[str]) -> list[dict[str, Any]]:
    """Twenty missions asked and answered: what later tests look into and learn from."""
    return fleet.ask_many(missions[:20])
