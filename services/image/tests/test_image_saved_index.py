"""The index beside the image's file: one that is not as it was written leads nobody to other records."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest
from image_files import ImageFiles
from ZODB.fsIndex import fsIndex

from batos.image.errors import StorageUnusable
from batos.image.saved_index import index_path, is_sealed, saved_index, seal, unsealed_position
from batos.image.storage import ImageStorage, open_storage


@pytest.fixture
def index(files: ImageFiles) -> Path:
    """The index of a closed image whose first object was changed once."""
    files.change(lambda root: setattr(root["things"]["first"], "text", "changed"))
    open_storage(files.folder).close()
    found = index_path(files.file)
    assert is_sealed(found)
    return found


def misleading(files: ImageFiles) -> bytes:
    """Let the index lead to an older record of an object; return the object's id."""
    content = fsIndex.load(str(index_path(files.file)))
    storage = open_storage(files.folder)
    try:
        for oid in content["index"]:
            header = storage._read_data_header(content["index"][oid], oid)
            if header.prev:
                content["index"][oid] = header.prev
                break
        else:
            raise AssertionError("no object has a former record")
    finally:
        storage.close()
    content["index"].save(content["pos"], str(index_path(files.file)))
    return bytes(oid)


def records(files: ImageFiles) -> dict[bytes, int]:
    storage = open_storage(files.folder)
    try:
        return dict(storage._index.items())
    finally:
        storage.close()


def test_a_flipped_bit(files: ImageFiles, index: Path) -> None:
    """Wherever it is: every record is found, nothing is refused, and the index is made anew."""
    whole, expected = index.read_bytes(), records(files)
    chosen = random.Random(3)
    for place in chosen.sample(range(len(whole)), 40):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << chosen.randrange(8)
        index.write_bytes(spoilt)
        assert saved_index(files.file) is None
        assert records(files) == expected
        assert index.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_no_index(files: ImageFiles, index: Path, content: bytes | None) -> None:
    """One that is none, or none at all: the file is read."""
    expected = records(files)
    if content is None:
        index.unlink()
    else:
        index.write_bytes(content)
    assert records(files) == expected
    assert is_sealed(index)


def test_one_that_leads_to_a_former_record(files: ImageFiles, index: Path) -> None:
    """Written by another program it is not used: the newest is served; checks and backups do not use it either."""
    expected, root_hash = records(files), files.verify().root_hash
    misleading(files)
    found = files.verify()
    assert (found.faults_found, found.root_hash) == (0, root_hash)
    assert [note for note in found.notes if f"{index} is not as the image vessel wrote it" in note]
    assert files.back_up().root_hash == root_hash
    assert records(files) == expected


def test_a_file_that_is_shorter_than_an_index_of_zodb_says(files: ImageFiles, index: Path) -> None:
    """The index of an earlier version, or of a client of the file: whole transactions that are gone are missed."""
    size = files.file.stat().st_size
    files.put("fourth", "4")
    grown = files.file.stat().st_size
    assert not is_sealed(index)
    assert unsealed_position(files.file) == grown
    os.truncate(files.file, size)
    with pytest.raises(StorageUnusable, match=f"has {size} bytes, its index knows {grown}") as caught:
        open_storage(files.folder)
    assert caught.value.code == "image_truncated"
    index.unlink()
    open_storage(files.folder).close()
    assert "fourth" not in files.texts()


@pytest.mark.parametrize("number", [4, 300, 70_000, 5_000_000_000])
def test_the_length_in_an_index_of_zodb(files: ImageFiles, number: int) -> None:
    """However large it is."""
    fsIndex({b"\0" * 8: 4}).save(number, str(index_path(files.file)))
    assert unsealed_position(files.file) == number


@pytest.mark.parametrize("first", [b"", b"nonsense", b"cposix\nmkdir\n(S'sprung'\ntR.", pickle.dumps("9", 3)])
def test_no_length_in_an_index_of_zodb(files: ImageFiles, index: Path, first: bytes) -> None:
    """What stands there is no number: nothing is called, nothing is refused, the file is read."""
    expected = records(files)
    index.write_bytes(first + b"." * 40 + pickle.dumps(None, 3))
    assert unsealed_position(files.file) == 0
    assert records(files) == expected


def test_one_that_was_written_wrong(files: ImageFiles, index: Path) -> None:
    """Only a check finds it: it names the object and the command that heals, and sees the image as it is."""
    root_hash = files.verify().root_hash
    oid = misleading(files)
    seal(index)
    found = files.verify()
    assert [(fault.kind, fault.oid) for fault in found.faults] == [("index", oid.hex())]
    assert f"`rm {index}`" in found.faults[0].hint
    assert found.root_hash == root_hash
    assert files.back_up().root_hash == root_hash
    index.unlink()
    assert files.verify().faults_found == 0


def test_an_index_that_cannot_be_written(
    files: ImageFiles, index: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It only spares the next start some reading: the image opens and closes, and that is said."""
    expected = records(files)
    index.unlink()

    def full(_self: object, _position: int, _path: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fsIndex, "save", full)
        assert records(files) == expected
    assert "was not saved" in caplog.text
    assert not index.exists()
    storage = open_storage(files.folder)
    assert isinstance(storage, ImageStorage)
    storage.close()
    assert is_sealed(index)
