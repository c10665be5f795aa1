"""No pickle runs anything in a process of the image, whoever wrote it and wherever it stands."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zodbpickle.pickle
from ZEO.asyncio import marshal
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.Connection import TransactionMetaData
from ZODB.fsIndex import fsIndex
from ZODB.POSException import ConflictError
from ZODB.serialize import get_refs, referencesf

from batos.uvm import BelongsToVessel, ForeignClass, Image, Root, open_image
from batos.uvm.loading import LOADABLE, class_named
from batos.uvm.values import PersistentList

PROTOCOL = 3


class Trap:
    """Makes a folder where it is loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def _reduced(folder: Path) -> bytes:
    return bytes(zodbpickle.pickle.dumps(Trap(folder), PROTOCOL))


def _instance(folder: Path) -> bytes:
    """The same in the words of old pickles, which a search for a class's name does not see."""
    text = str(folder).encode()
    return b"\x80\x02(X" + struct.pack("<I", len(text)) + text + b"iposix\nmkdir\n."


def _built_in(folder: Path) -> bytes:
    """By a module that ZEO lets every client name."""
    text = f"__import__('os').mkdir({str(folder)!r})".encode()
    return b"\x80\x03cbuiltins\neval\nX" + struct.pack("<I", len(text)) + text + b"\x85R."


DOORS: dict[str, Callable[[bytes, Path], object]] = {
    "a conflict": lambda data, _: ConflictResolvingStorage().tryToResolveConflict(b"o", b"c", b"f", data),
    "words of a conflict": lambda data, _: ConflictError(data=data),
    "an index": lambda _, path: fsIndex.load(str(path)),
    "what a transaction says of itself": lambda data, _: TransactionMetaData(extension=data).extension,
    "a message to a server": lambda data, _: marshal.server_decoder(b"Z5")(data),
    "a message to a client": lambda data, _: marshal.decoder(b"Z5")(data),
    "a search for references": lambda data, _: referencesf(data + data),
    "a search for references and classes": lambda data, _: get_refs(data + data),
}


@pytest.mark.parametrize("spelled", [_reduced, _instance, _built_in])
@pytest.mark.parametrize("door", DOORS)
def test_whatever_is_loaded_runs_nothing(door: str, spelled: Callable[[Path], bytes], tmp_path: Path) -> None:
    """Through every way by which ZODB and ZEO load."""
    trap, file = tmp_path / "sprung", tmp_path / "index"
    data = spelled(trap)
    file.write_bytes(data)
    with contextlib.suppress(Exception):  # whether it is refused or passed over is the library's affair
        DOORS[door](data, file)
    assert not trap.exists()


def test_an_index_that_was_forged_is_made_anew(uri: str) -> None:
    """The image opens, and has all that it had."""
    with open_image(uri) as image, image.transaction() as root:
        root["lobby"].n = 1
    index = Path(uri.removeprefix("file://") + ".index")
    trap = index.with_name("sprung")
    index.write_bytes(_reduced(trap))
    with open_image(uri) as image, image.snapshot() as root:
        assert root["lobby"].n == 1
    assert not trap.exists()
    assert fsIndex.load(str(index))["pos"]


def test_an_index_is_read(uri: str) -> None:
    """Nothing in one has to be named."""
    with open_image(uri):
        pass
    with open_image(uri) as image:
        assert image._database.storage._used_index


def test_only_the_images_own_classes_are_found_by_name() -> None:
    """Those that a record may name; no module is imported for another."""
    for (module, name), found in LOADABLE.items():
        assert class_named(module, name) is found
    for module, name in (("builtins", "int"), ("no_such_module", "x"), ("antigravity", "fly"), ("batos.uvm", "Image")):
        with pytest.raises(ForeignClass, match=f"{module}.{name}"):
            class_named(module, name)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("module", ["batos.uvm.address", "batos.uvm.zeo_client", "batos.uvm.shown"])
def test_no_module_of_the_image_can_be_imported_with_the_ways_open(module: str) -> None:
    """Not even one that has nothing to do with loading."""
    asked = (
        f"import {module}, ZODB.ConflictResolution as found; "
        "from ZODB._compat import loads; "
        "print(found.find_global.__name__); loads(b'cposix\\nmkdir\\n.')"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["class_named"]
    assert "ForeignClass" in done.stderr.splitlines()[-1]


def _into_slot(root: Root, kind: type) -> None:
    root["lobby"].x = kind


def _into_root(root: Root, kind: type) -> None:
    root["x"] = kind


def _into_tuple(root: Root, kind: type) -> None:
    root["x"] = (1, (kind,))


def _into_items(root: Root, kind: type) -> None:
    root["lobby"].notes = PersistentList()
    root["lobby"].notes.data.append(kind)


@pytest.mark.parametrize("put", [_into_slot, _into_root, _into_tuple, _into_items])
def test_no_class_is_stored_as_a_value(image: Image, put: Callable[[Root, type], None]) -> None:
    """Neither those that a record may name nor others, however it comes in."""
    for kind in (*LOADABLE.values(), int, str, float, bytes, bool, type(None), object):
        with pytest.raises(BelongsToVessel):
            image.run(partial(put, kind=kind))
    with image.snapshot() as root:
        assert list(root) == ["lobby"]
