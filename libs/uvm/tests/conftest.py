"""An image in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
