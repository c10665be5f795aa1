"""Where images are."""

from __future__ import annotations

from pathlib import Path

import pytest
import stamina

from batos.uvm import BadImageUri, open_image
from batos.uvm.addresses import WAIT_S, resolve


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("live_image.fs", "no scheme"),
        ("file://live_image.fs", "absolute path"),
        ("file://", "absolute path"),
        ("file:///x/live_image.fs?speed=9", "unknown parameter speed; known are blob_dir"),
        ("zeo://", "neither a socket nor a host"),
        ("zeo:///" + "x" * 120, "more than 107 bytes"),
        ("zeo://localhost:port", "ort"),
        ("zeo://localhost:1/path", "no path"),
        ("zeo:///s?wait_timeout=soon", "not a number"),
        ("zeo:///s?wait_timeout=0", "not between 1 and 600"),
        ("zeo:///s?wait_timeout=601", "not between 1 and 600"),
        ("zeo:///s?shared_blob_dir=maybe", "neither 1 nor 0"),
        ("zeo:///s?shared_blob_dir=1", "needs blob_dir"),
        ("zeo:///s?wait", "bad query"),
        ("nosuch:///x", "no storage"),
    ],
)
def test_an_address_that_cannot_be_understood_says_why(uri: str, why: str) -> None:
    """Before anything is opened."""
    with pytest.raises(BadImageUri, match=why):
        open_image(uri)


def test_an_address_says_how_long_to_wait() -> None:
    """Every wait is bounded, also where the address says nothing."""
    assert resolve("zeo:///run/image.sock").wait_s == WAIT_S
    assert resolve("zeo:///run/image.sock?wait_timeout=5").wait_s == 5
    assert resolve("file:///x/live_image.fs?connection_pool_size=7").options == {"pool_size": 7}


def test_other_schemes_are_resolved_by_zodburi() -> None:
    """What zodburi can open, an image can be."""
    with stamina.set_testing(True), open_image("memory://test") as image:
        with image.transaction() as root:
            root["lobby"].x = 1
        with image.snapshot() as root:
            assert root["lobby"].x == 1


def test_the_blob_folder_can_be_named(tmp_path: Path) -> None:
    """Beside the file by default."""
    with open_image(f"file://{tmp_path}/a.fs?blob_dir={tmp_path}/elsewhere"):
        pass
    with open_image(f"file://{tmp_path}/b.fs"):
        pass
    assert {"elsewhere", "blobs"} <= {path.name for path in tmp_path.iterdir()}
