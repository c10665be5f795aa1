"""A look at everything finds what is wrong and says where it stands. No sockets, no server."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from image_files import ImageFiles
from ZODB.Connection import TransactionMetaData

from batos.image.reporting import untold
from batos.image.storage import open_storage
from batos.image.verify import verify
from batos.mind import datasets
from batos.mind.collections import create_collections
from batos.protocol import ImageFault, ImageVerified
from batos.uvm import open_image

PATH = "things['second']"
LENGTH_BYTES = 4
"""Before a text in a record its length stands, the lowest byte first."""


def only(found: ImageVerified) -> ImageFault:
    """Return the only fault."""
    assert found.faults_found == len(found.faults) == 1, found.faults
    return found.faults[0]


def test_a_whole_image(files: ImageFiles) -> None:
    """Nothing is wrong, everything was counted, and what could not be compared is said."""
    found = files.verify()
    assert found.faults_found == 0, found.faults
    assert (found.blobs, found.transactions, found.tid) == (1, 5, files.snapshot().tid)
    assert found.objects > 5
    assert found.references > 4
    assert [note for note in found.notes if "batos image backup" in note]
    assert [note for note in found.notes if "not awakened" in note]
    made = files.back_up()
    again = files.verify()
    assert again.root_hash == made.root_hash
    assert (again.blobs_compared, again.bytes_compared) == (1, files.file.stat().st_size)
    assert not [note for note in again.notes if "batos image backup" in note]


def test_nothing_is_changed(files: ImageFiles) -> None:
    """Not one file of the image is touched."""
    before = {path: path.stat().st_mtime_ns for path in files.folder.rglob("*")}
    files.verify()
    assert {path: path.stat().st_mtime_ns for path in files.folder.rglob("*")} == before


def test_a_flipped_bit_that_breaks_a_record(files: ImageFiles) -> None:
    """An object that does not load is named, without any backup."""
    with files.file.open("r+b") as file:
        file.seek(files.file.read_bytes().index(b"the second one") - LENGTH_BYTES)
        file.write(b"\xff")
    fault = only(files.verify())
    assert (fault.kind, fault.path) == ("record", PATH)
    assert "batos image restore" in fault.hint


def test_a_flipped_bit_that_breaks_nothing(files: ImageFiles) -> None:
    """Another letter in a text: only the hashes of the last backup tell, and the objects that stand there are named."""
    made = files.back_up()
    files.flip(b"the second one", b"the sec/nd one")
    found = files.verify()
    assert {fault.kind for fault in found.faults} == {"hash"}
    assert PATH in {fault.path for fault in found.faults}
    assert made.name in found.faults[0].message
    assert str(files.backups) in found.faults[0].hint


def test_after_a_pack_the_bytes_are_not_compared(files: ImageFiles) -> None:
    """They have moved; that is said, and is no fault. Blobs are still compared."""
    files.back_up()
    files.change(lambda root: setattr(root["things"]["first"], "text", "new"))
    files.pack(time.time())
    found = files.verify()
    assert found.faults_found == 0, found.faults
    assert (found.bytes_compared, found.blobs_compared) == (0, 1)
    assert [note for note in found.notes if "packed" in note]


def test_a_header_in_the_middle(files: ImageFiles) -> None:
    """A transaction whose length is wrong: the byte is named after which the file is damaged.

    Where the index is as it was written all objects are still found by it.
    """
    objects = files.verify().objects
    open_storage(files.folder).close()
    with files.file.open("r+b") as file:
        file.seek(4 + 8)
        file.write(b"\x00\x00\x00\x00\x00\x00\x00\x07")
    found = files.verify()
    assert "damaged after byte 4" in only(found).message
    assert (found.faults[0].kind, found.objects) == ("file", objects)
    files.file.with_name("live_image.fs.index").unlink()
    found = files.verify()
    assert "damaged at byte 4" in only(found).message
    assert found.faults[0].kind == "file"


def test_a_truncated_file(files: ImageFiles) -> None:
    """A part is missing that the index knows of: said with the command that helps."""
    os.truncate(files.file, files.file.stat().st_size - 40)
    fault = only(files.verify())
    assert (fault.kind, "a part of it is missing" in fault.message) == ("file", True)
    assert "batos image restore" in fault.hint


def test_a_truncated_file_without_an_index(files: ImageFiles) -> None:
    """A transaction that was finished says what is missing; where whole ones are gone the last backup does."""
    content, last = files.file.read_bytes(), files.back_up()
    files.put("fourth", "the last of all")
    whole = files.file.read_bytes()
    files.file.with_name("live_image.fs.index").unlink()
    files.file.write_bytes(whole[:-40])
    fault = only(files.verify())
    assert (fault.kind, "a part of it is missing" in fault.message) == ("file", True)
    assert f"truncate -s {len(content)} {files.file}" in fault.hint
    files.file.write_bytes(content)
    assert files.verify().tid == last.tid
    end_of_first = 12 + int.from_bytes(content[12:20], "big")
    files.file.write_bytes(content[:end_of_first])
    assert "were there at the last backup" in only(files.verify()).message
    (files.folder / "last_backup.json").unlink()
    assert files.verify().transactions == 1


def test_nothing_there_yet(tmp_path: Path) -> None:
    """An image without any transaction, as the very first start leaves it that was cut off, has no fault."""
    folder = tmp_path / "image"
    open_storage(folder).close()
    for content in (b"FS30", b""):
        (folder / "live_image.fs").write_bytes(content)
        found = verify(folder, "", untold)
        assert (found.faults_found, found.notes) == (0, ("there is nothing in the image yet",))


def test_what_a_cut_off_commit_left_is_a_note(files: ImageFiles) -> None:
    """Nobody was told that it is stored: no fault."""
    whole = files.file.read_bytes()
    files.file.write_bytes(whole + whole[-500:][:10])
    found = files.verify()
    assert found.faults_found == 0
    assert [note for note in found.notes if "the last 10 bytes" in note]


def test_a_missing_blob(files: ImageFiles) -> None:
    """Its path and its file are named; where the last backup has its bytes, the command that copies them back."""
    blob = files.blob()
    blob.unlink()
    fault = only(files.verify())
    assert (fault.kind, fault.path) == ("blob", "things['third'].blob")
    assert str(blob) in fault.message


def test_a_blob_of_other_bytes(files: ImageFiles) -> None:
    """Only the last backup tells; the command that copies the right bytes back heals it."""
    files.back_up()
    blob = files.blob()
    blob.chmod(0o600)
    blob.write_bytes(b"x" + b"b" * 4999)
    fault = only(files.verify())
    assert (fault.kind, fault.path) == ("hash", "things['third'].blob")
    source, target = fault.hint.partition("cp ")[2].split(" ")
    assert target == str(blob)
    shutil.copyfile(source, target)
    assert files.verify().faults_found == 0


def test_a_foreign_class(files: ImageFiles) -> None:
    """A record that names a class which is none of the image's is named, and nothing of it runs."""
    evil = pickle.dumps((("os.path", "join"), None), 2) + pickle.dumps({}, 2)
    overwrite(files, "second", lambda storage, oid, meta: storage.store(oid, storage.load(oid)[1], evil, "", meta))
    fault = only(files.verify())
    assert (fault.kind, fault.path) == ("class", PATH)
    assert "os.path.join" in fault.message


def test_a_reference_into_nothing(files: ImageFiles) -> None:
    """Who refers to an object that is not there is named."""
    gone = overwrite(files, "second", lambda storage, oid, meta: storage.deleteObject(oid, storage.load(oid)[1], meta))
    fault = only(files.verify())
    assert (fault.kind, fault.path) == ("reference", "things")
    assert gone in fault.message


def overwrite(files: ImageFiles, name: str, work: Callable[[Any, bytes, Any], object]) -> str:
    """Do something to an object's record that no client could; return the object's id."""
    with open_image(files.uri) as image, image.snapshot() as root:
        oid: bytes = root["things"][name]._p_oid
    storage = open_storage(files.folder)
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    work(storage, oid, meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    storage.close()
    return oid.hex()


def test_covenants(files: ImageFiles) -> None:
    """Where the mind has awakened and a persona is missing, its path is told."""
    files.change(lambda root: setattr(root["lobby"], "anything", 1))
    found = files.verify()
    assert {fault.kind for fault in found.faults} == {"covenant"}
    assert "lobby.alfred_prototype_obj" in {fault.path for fault in found.faults}


def test_data_sets_are_compared_with_their_own_hashes(files: ImageFiles) -> None:
    """The parts of a data set have hashes in the image itself, so no backup is needed."""
    files.change(create_collections)
    files.change(
        lambda root: datasets.add(
            root, dataset_id="d1", persona="BRICK", query="q", train=[], held_out=[], counts=COUNTS, records_ingested=0
        )
    )
    whole = files.verify()
    assert whole.contents_compared == 3
    for path in files.folder.rglob("*.blob"):
        if path.read_bytes().startswith(b"{"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes().replace(b"BRICK", b"BRACK"))
    spoilt = files.verify()
    assert {fault.path for fault in spoilt.faults if fault.kind == "hash"} == {"datasets['d1']"}
    assert spoilt.contents_compared < 3


COUNTS: dict[str, int] = {}
