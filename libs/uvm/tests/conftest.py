"""An image in a temporary folder, and one with a sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydantic_monty
import pytest
from uvm_sandbox_world import World, a_world

from batos.uvm import Image, Session, open_image


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/live_image.fs"


@pytest.fixture
def image(uri: str) -> Iterator[Image]:
    with open_image(uri) as opened:
        yield opened


@pytest.fixture
def session(image: Image) -> Iterator[Session]:
    with image.session() as opened:
        yield opened


@pytest.fixture(scope="session")
def first_pool() -> None:
    """The first pool of a process leaves it a pair of sockets for good (how it hears of signals): no test's leak."""
    with pydantic_monty.Monty() as begun, begun.checkout() as session:
        assert session.feed_run("1 + 1") == 2


@pytest.fixture
def sandboxed(first_pool: None, tmp_path: Path) -> Iterator[World]:  # noqa: ARG001 - it comes before the leak check
    yield from a_world(tmp_path)
