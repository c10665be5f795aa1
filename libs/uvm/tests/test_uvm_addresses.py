"""Where images are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import stamina

import batos.uvm
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
        ("postgresql:///x", "name a host, or else the folder"),
        ("postgresql://h/x?host=/run", "name a host, or else the folder"),
        ("postgresql:///x?host=run", "absolute path of a socket's folder"),
        ("postgresql://h", "write postgresql://user:password@host:port/database"),
        ("postgresql://h/x/y", "write postgresql://user:password@host:port/database"),
        ("postgresql://h:port/x", "host and port cannot be read"),
        ("postgresql://h/x?keep_history=0", "an image keeps its history"),
        ("postgresql://h/x?keep_history=maybe", "neither 1 nor 0"),
        ("postgresql://h/x?sslmode=perhaps", "sslmode is one of disable"),
        ("postgresql://h/x?blob_cache_size=1", "not between"),
        ("postgresql://h/x?wait_timeout=0", "not between 1 and 600"),
        ("postgresql://h/x?password=y", "unknown parameter password; known are blob_cache_size"),
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


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://mind:geheim@h",
        "postgresql://mind:geheim@h/x?wait_timeout=soon",
        "postgresql://mind:gehe/im@h/x",
        "postgresql://mind:gehe#im@h/x",
        "postgresql://mind:gehe[im@h/x",
        "postgresql://mind:12/geheim@h/x",
        "postgresql://h/x?password=geheim",
        "postgresql://mind:geheim",
    ],
)
def test_no_error_tells_the_password_of_an_address(uri: str) -> None:
    """However wrongly it is written."""
    with pytest.raises(BadImageUri) as caught:
        open_image(uri)
    for secret in ("geheim", "gehe", "im@"):
        assert secret not in str(caught.value)
        assert secret not in caught.value.uri


def test_an_address_of_postgresql_is_understood() -> None:
    """Its parameters are the other schemes' own."""
    address = resolve("postgres://mind@db/x?wait_timeout=5&connection_pool_size=9&keep_history=1&sslmode=verify-full")
    assert (address.wait_s, address.options) == (5, {"pool_size": 9})
    assert "mind" not in repr(address)
    assert resolve("postgresql://mind:a%40b@[::1]:5433/x").wait_s == WAIT_S


def test_without_relstorage_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet on ZEO does without it."""
    monkeypatch.setitem(sys.modules, "batos.uvm.relational", None)
    monkeypatch.delattr(batos.uvm, "relational", raising=False)
    with pytest.raises(BadImageUri, match="install batos-uvm with its extra `postgresql`"):
        open_image("postgresql://mind@db/x")


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
