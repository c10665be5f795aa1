"""A bus without sockets."""

from __future__ import annotations

import pytest
from bus_exchange_scene import Scene, card


@pytest.fixture
def scene() -> Scene:
    found = Scene()
    found.hello(card("console"))
    return found
