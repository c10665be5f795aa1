"""Images whose files nobody serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_files import ImageFiles


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """An image with three objects and one blob of 5000 bytes."""
    found = ImageFiles(tmp_path / "home")
    found.put("first", "the first of all")
    found.put("second", "the second one")
    found.put_blob("third", b"b" * 5000)
    return found
