"""Opening and closing an image: new, damaged, held by another, for reading only."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from batos.uvm import (
    Image,
    ImageInUse,
    ImageUnusable,
    NoImageYet,
    ReadOnly,
    UvmObject,
    open_image,
    read_blob,
    store_blob,
)


def test_an_empty_storage_gets_an_empty_lobby(uri: str) -> None:
    """Opening twice makes it once."""
    with open_image(uri) as image, image.snapshot() as root:
        oid = root["lobby"]._p_oid
        assert isinstance(root["lobby"], UvmObject)
    with open_image(uri) as image, image.snapshot() as root:
        assert root["lobby"]._p_oid == oid


@pytest.mark.usefixtures("image")
def test_a_file_that_another_holds_is_reported(uri: str) -> None:
    """With what to do instead."""
    with pytest.raises(ImageInUse, match="zeo://"):
        open_image(uri)
    with open_image(uri, read_only=True) as reader, reader.snapshot() as root:
        assert isinstance(root["lobby"], UvmObject)


@pytest.mark.parametrize("damage", [b"no image at all, but long enough to look at", b"FS30" + b"\xff" * 200])
def test_a_damaged_file_is_reported(uri: str, tmp_path: Path, damage: bytes) -> None:
    """In one error that names the file and what helps."""
    (tmp_path / "live_image.fs").write_bytes(damage)
    with pytest.raises(ImageUnusable, match=r"live_image\.fs cannot be opened: .*restore the latest backup"):
        open_image(uri)


def test_reading_only_makes_nothing(uri: str, tmp_path: Path) -> None:
    """What is not there is an error, and stays away."""
    with pytest.raises(NoImageYet, match="batos up"):
        open_image(uri, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_an_image_opened_for_reading_only_refuses_to_write(uri: str) -> None:
    """In every kind of transaction."""
    with open_image(uri):
        pass
    with open_image(uri, read_only=True) as image:
        with pytest.raises(ReadOnly), image.transaction() as root:
            root["lobby"].x = 1
        with pytest.raises(ReadOnly):
            image.run(lambda root: setattr(root["lobby"], "x", 1))


def test_blobs_are_stored_with_their_object(image: Image, uri: str) -> None:
    """And are there after reopening."""
    data = bytes(range(256)) * 100
    with image.transaction() as root:
        root["lobby"].weights = store_blob(data)
    image.close()
    with open_image(uri) as again, again.snapshot() as root:
        assert read_blob(root["lobby"].weights) == data


def test_closing_an_image_ends_what_still_runs(uri: str) -> None:
    """An open session does not keep the file."""
    image = open_image(uri)
    session = image.session()
    session.begin()["lobby"].x = 1
    image.close()
    image.close()
    session.close()
    with open_image(uri) as again, again.snapshot() as root:
        assert not hasattr(root["lobby"], "x")


def test_nothing_is_left_open(uri: str) -> None:
    """Opening and closing makes no ResourceWarning (they are errors in this suite)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = open_image(uri)
        with image.transaction() as root:
            root["lobby"].x = store_blob(b"x")
        image.close()
        del image, root
        gc.collect()
