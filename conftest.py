"""What holds for every test of the repository: nothing that a test started outlives it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from leaks import nothing_left_behind


@pytest.fixture(autouse=True)
def leak_check() -> Iterator[None]:
    """Fail a test that leaves threads, sockets or child processes behind."""
    with nothing_left_behind():
        yield
