"""What is smuggled in is stopped: when it is written, when it is committed, when it is loaded."""

from __future__ import annotations

import asyncio
import copyreg
import gc
import io
import logging
import os
import pickle
import queue
import socket
import sys
import threading
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.list import PersistentList as ForeignList
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64

from batos.uvm import (
    BatOSUVM,
    BelongsToVessel,
    ForeignClass,
    Image,
    NotStorable,
    Session,
    UvmObject,
    open_image,
)


class Foreign:
    """A class that the image does not know."""


class ForeignPersistent(Persistent):  # type: ignore[misc]  # ZODB has no types
    """A persistent class that the image does not know."""


class Evil:
    """Would run a command when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo pwned",)


class Text(str):
    """A subclass of a plain type."""

    __slots__ = ()


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - a class made at run time is the point


def _generator() -> Iterator[int]:
    yield 1


SMUGGLED: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "rlock": threading.RLock,
    "condition": threading.Condition,
    "thread": threading.Thread,
    "local": threading.local,
    "queue": queue.Queue,
    "asyncio lock": asyncio.Lock,
    "asyncio event": asyncio.Event,
    "logger": lambda: logging.getLogger("x"),
    "lambda": lambda: lambda: 1,
    "function": lambda: _generator,
    "builtin": lambda: len,
    "bound method": lambda: UvmObject()._clone_persistent_,
    "class": lambda: Foreign,
    "module": lambda: os,
    "generator": _generator,
    "iterator": lambda: iter([1]),
    "map": lambda: map(str, [1]),
    "range": lambda: range(3),
    "slice": lambda: slice(1, 2),
    "file": lambda: sys.stdout,
    "memory file": io.BytesIO,
    "path": lambda: Path("x"),
    "instance": Foreign,
    "foreign persistent": ForeignPersistent,
    "foreign list": lambda: ForeignList([1]),
    "foreign mapping": lambda: PersistentMapping({}),
    "reduce": Evil,
    "str subclass": lambda: Text("x"),
    "named tuple": lambda: Pair(1, 2),
    "ordered dict": OrderedDict,
    "default dict": lambda: defaultdict(list),
    "bytearray": lambda: bytearray(b"x"),
    "memoryview": lambda: memoryview(b"x"),
    "exception": lambda: ValueError("x"),
    "type": lambda: type(None),
    "ellipsis": lambda: ...,
    "not implemented": lambda: NotImplemented,
    "enum": lambda: socket.AF_UNIX,
    "code": lambda: compile("1", "x", "eval"),
    "frame": sys._getframe,
    "weak set": lambda: __import__("weakref").WeakSet(),
    "partial": lambda: __import__("functools").partial(print),
    "vessel": lambda: object.__new__(BatOSUVM),
}
WRAPPED: tuple[Callable[[Any], Any], ...] = (
    lambda value: value,
    lambda value: [1, value],
    lambda value: {"k": value},
    lambda value: (1, (value,)),
    lambda value: [{"a": ({"b": [value]},)}],
)


@pytest.mark.parametrize("smuggled", SMUGGLED)
def test_a_write_refuses_what_is_not_the_minds(smuggled: str) -> None:
    """Alone or in containers; the error names the type; the slot keeps what it had."""
    receiver = UvmObject(x=1)
    value = SMUGGLED[smuggled]()
    for wrap in WRAPPED:
        with pytest.raises(BelongsToVessel) as caught:
            receiver.x = wrap(value)
        assert f"{type(value).__module__}.{type(value).__qualname__}" == caught.value.kind
        assert caught.value.path.startswith("UvmObject.x")
        assert receiver.x == 1
    del value
    gc.collect()


def test_the_refusal_names_the_whole_path(session: Session) -> None:
    """From the lobby down to the value within the value."""
    lobby = session.begin()["lobby"]
    lobby.alfred_prototype_obj = UvmObject(notes=[1, 2, 3, UvmObject()])
    session.savepoint()
    with pytest.raises(
        BelongsToVessel,
        match=r"^lobby\.alfred_prototype_obj\.notes\[3\]\.lock: '_thread\.RLock' belongs to the vessel$",
    ):
        lobby.alfred_prototype_obj.notes[3].lock = threading.RLock()
    with pytest.raises(BelongsToVessel, match=r"^lobby\.alfred_prototype_obj\.jobs\[0\]\['a'\]\[1\]: '_thread\.lock'"):
        lobby.alfred_prototype_obj.jobs = [{"a": (1, threading.Lock())}]


def _into_slot(alfred: Any) -> str:
    alfred.__dict__["lock"] = threading.RLock()
    alfred._p_changed = True
    return r"^lobby\.alfred\.lock: '_thread\.RLock' belongs to the vessel$"


def _into_twin(alfred: Any) -> str:
    alfred.notes[2].data["lock"] = asyncio.Lock()
    alfred.notes[2]._p_changed = True
    return r"^lobby\.alfred\.notes\[2\]\['lock'\]: 'asyncio\.locks\.Lock' belongs to the vessel$"


def _into_tree(alfred: Any) -> str:
    alfred.index["k"] = Foreign()
    return r"^lobby\.alfred\.index\['k'\]: '.*Foreign' belongs to the vessel$"


def _into_tuple_in_tree(alfred: Any) -> str:
    alfred.index["k"] = (1, {"x": [lambda: 1]})
    return r"^lobby\.alfred\.index\['k'\]\[1\]\['x'\]\[0\]: 'builtins\.function' belongs to the vessel$"


def _as_tree_key(alfred: Any) -> str:
    alfred.index[Text("k")] = 1
    return r"^lobby\.alfred\.index<key 'k'>: '.*Text' belongs to the vessel$"


def _persistent_in_slot(alfred: Any) -> str:
    alfred.__dict__["foreign"] = ForeignPersistent()
    alfred._p_changed = True
    return r"^lobby\.alfred\.foreign: '.*ForeignPersistent' belongs to the vessel$"


def _reduce_in_slot(alfred: Any) -> str:
    alfred.__dict__["evil"] = [Evil()]
    alfred._p_changed = True
    return r"^lobby\.alfred\.evil\[0\]: '.*Evil' belongs to the vessel$"


def _class_in_slot(alfred: Any) -> str:
    alfred.__dict__["kind"] = Foreign
    alfred._p_changed = True
    return r"^lobby\.alfred\.kind: 'builtins\.type' belongs to the vessel$"


def _function_in_slot(alfred: Any) -> str:
    alfred.__dict__["run"] = os.system
    alfred._p_changed = True
    return r"^lobby\.alfred\.run: 'builtins\.builtin_function_or_method' belongs to the vessel$"


def _in_a_new_object(alfred: Any) -> str:
    child = UvmObject()
    child.__dict__["z"] = Foreign()
    alfred.child = child
    return r"^lobby\.alfred\.child\.z: '.*Foreign' belongs to the vessel$"


def _foreign_in_root(alfred: Any) -> str:
    alfred._p_jar.root()["foreign"] = ForeignPersistent()
    return r"^root\['foreign'\]: '.*ForeignPersistent' belongs to the vessel$"


def _vessel_in_root(alfred: Any) -> str:
    alfred._p_jar.root()["uvm"] = object.__new__(BatOSUVM)
    return r"^root\['uvm'\]: 'batos\.uvm\.vessel\.BatOSUVM' belongs to the vessel$"


def _plain_list_in_tree(alfred: Any) -> str:
    alfred.index["k"] = [1]
    return r"^lobby\.alfred\.index\['k'\]: changes made in place of a plain list .* PersistentList"


def _plain_dict_in_root(alfred: Any) -> str:
    alfred._p_jar.root()["table"] = {}
    return r"^root\['table'\]: changes made in place of a plain dict .* PersistentDict"


BYPASSES = (
    _into_slot, _into_twin, _into_tree, _into_tuple_in_tree, _as_tree_key, _persistent_in_slot, _reduce_in_slot,
    _class_in_slot, _function_in_slot, _in_a_new_object, _foreign_in_root, _vessel_in_root, _plain_list_in_tree,
    _plain_dict_in_root,
)  # fmt: skip


@pytest.mark.parametrize("late", [False, True], ids=["commit", "savepoint"])
@pytest.mark.parametrize("bypass", BYPASSES, ids=lambda bypass: bypass.__name__)
def test_a_commit_refuses_what_went_round_the_write(session: Session, bypass: Any, late: bool) -> None:
    """With the path from the lobby; nothing of the transaction is stored, and the session is usable after."""
    lobby = session.begin()["lobby"]
    lobby.alfred = UvmObject(notes=[1, 2, {}], index=OOBTree({"a": 1}))
    session.commit()
    lobby = session.begin()["lobby"]
    lobby.alfred.innocent = 1
    assert lobby.alfred.notes[2] == {}
    assert list(lobby.alfred.index) == ["a"]
    expected = bypass(lobby.alfred)
    with pytest.raises(NotStorable, match=expected):
        session.savepoint() if late else session.commit()
    session.abort()
    root = session.begin()
    alfred = root["lobby"].alfred
    assert not hasattr(alfred, "innocent")
    assert (list(alfred.index), alfred.notes[2], sorted(root)) == (["a"], {}, ["lobby"])
    alfred.after = True
    session.commit()
    assert session.begin()["lobby"].alfred.after


def test_a_value_deep_in_a_large_tree_is_named_by_its_key(session: Session) -> None:
    """Also where the buckets between are not in memory."""
    lobby = session.begin()["lobby"]
    lobby.index = OOBTree({f"n{number:05}": number for number in range(5000)})
    session.commit()
    lobby = session.begin()["lobby"]
    lobby.index["n02500"] = (object(),)
    with pytest.raises(BelongsToVessel, match=r"^lobby\.index\['n02500'\]\[0\]: 'builtins\.object'"):
        session.commit()


def test_an_object_of_another_session_is_refused(image: Image) -> None:
    """An object belongs to the session that it was reached through."""
    with image.session() as first, image.session() as second:
        mine, theirs = first.begin()["lobby"], second.begin()["lobby"]
        mine.friend = theirs
        with pytest.raises(NotStorable, match=r"^lobby: it refers to an object of another session"):
            first.commit()


def test_a_twin_refuses_with_its_own_path(session: Session) -> None:
    """Mutators say where the value was to stand; a container that is not stored yet knows only the inner part."""
    lobby = session.begin()["lobby"]
    lobby.notes = [1, {"jobs": []}]
    lobby.table = {}
    lobby.names = set()
    with pytest.raises(BelongsToVessel, match=r"^\[0\]\['lock'\]: '_thread\.lock'"):
        lobby.notes[1]["jobs"].append({"lock": threading.Lock()})
    session.savepoint()
    attempts: list[tuple[Callable[[], None], str]] = [
        (
            lambda: lobby.notes[1]["jobs"].append({"lock": threading.Lock()}),
            r"lobby\.notes\[1\]\['jobs'\]\[0\]\['lock'\]",
        ),
        (lambda: lobby.table.update(lock=threading.Lock()), r"lobby\.table\['lock'\]"),
        (lambda: lobby.names.add(len), r"lobby\.names<item>"),
    ]
    for attempt, path in attempts:
        with pytest.raises(BelongsToVessel, match=f"^{path}: "):
            attempt()


def test_a_refusal_loads_nothing(session: Session) -> None:
    """The search for a path stays in memory, however large the image is."""
    lobby = session.begin()["lobby"]
    lobby.large = OOBTree({number: number for number in range(5000)})
    lobby.alfred = UvmObject(jobs=[])
    session.commit()
    jobs = session.begin()["lobby"].alfred.jobs
    connection = jobs._p_jar
    connection.cacheMinimize()
    assert len(session.root["lobby"].alfred.jobs) == 0
    assert len(session.root["lobby"].large) == 5000
    connection.cacheMinimize()
    assert len(session.root["lobby"].alfred.jobs) == 0
    assert session.root["lobby"].large[2500] == 2500
    connection.getTransferCounts(clear=True)
    with pytest.raises(BelongsToVessel, match=r"^lobby\.alfred\.jobs\[0\]: "):
        jobs.append(threading.Lock())
    assert connection.getTransferCounts() == (0, 0)


def _names(module: str, name: str) -> bytes:
    return b"\x80\x03c" + module.encode() + b"\n" + name.encode() + b"\n."


OBJECT = _names("batos.uvm", "UvmObject")


def _state(value: Any) -> bytes:
    return pickle.dumps(value, 3)


FORGED: dict[str, bytes] = {
    "foreign function as class": _names("os", "system") + _state({}),
    "foreign class": _names(__name__, "Foreign") + _state({}),
    "foreign persistent class": _names(__name__, "ForeignPersistent") + _state({}),
    "reduce in the state": OBJECT + _state({"parents": (), "evil": Evil()}),
    "reconstructor in the state": OBJECT + pickle.dumps({"parents": (), "f": Foreign()}, 0),
    "class as a pair of names": _state((("os", "system"), None)) + _state({}),
    "builtins.getattr": OBJECT + b"\x80\x03cbuiltins\ngetattr\n(cos\nsystem\nX\x04\x00\x00\x00nametR.",
    "builtins.eval": OBJECT + b"\x80\x03cbuiltins\neval\n(X\x05\x00\x00\x001+1+1tR.",
    "dotted name": b"\x80\x04\x8c\x09batos.uvm\x94\x8c\x10open_image.__doc\x94\x93." + _state({}),
    "a function of our own": OBJECT + b"\x80\x03cbatos.uvm\nopen_image\n(X\x01\x00\x00\x00atR.",
    "a class of our own": _names("batos.uvm", "BatOSUVM") + _state({"image_uri": "file:///x", "identity": "x"}),
    "a shape": _names("batos.uvm.objects", "Fresh") + _state({"parents": ()}),
    "reference to a foreign class": OBJECT
    + b"\x80\x03}(X\x07\x00\x00\x00parents)X\x01\x00\x00\x00p(C\x08"
    + p64(999)
    + b"cos\nsystem\ntQu.",
    "extension code": OBJECT + b"\x80\x03\x82\x01.",
    "inst opcode": OBJECT + b"(ios\nsystem\n.",
    "obj opcode": OBJECT + b"\x80\x03(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "build on a class": OBJECT + b"\x80\x03cbatos.uvm\nUvmObject\n}X\x01\x00\x00\x00xK\x01sb.",
}


@pytest.fixture
def forged_uri(uri: str) -> str:
    """An image in which somebody else wrote records."""
    with open_image(uri):
        pass
    storage = FileStorage(uri.removeprefix("file://"))
    for number, record in enumerate(FORGED.values()):
        transaction = TransactionMetaData()
        storage.tpc_begin(transaction)
        storage.store(p64(5000 + number), p64(0), record, "", transaction)
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
    storage.close()
    return uri


def test_a_foreign_record_is_not_loaded_and_nothing_of_it_runs(
    forged_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither as an object's class nor anywhere in its state; other objects stay readable."""
    caplog.set_level(logging.CRITICAL)
    ran: list[Any] = []
    monkeypatch.setattr(os, "system", ran.append)
    copyreg.add_extension("os", "system", 1)
    try:
        with open_image(forged_uri, read_only=True) as image, image.snapshot() as root:
            jar = root["lobby"]._p_jar
            for number, what in enumerate(FORGED):
                with pytest.raises(Exception) as caught:  # noqa: PT011 - which error depends on where the forgery stands
                    jar.get(p64(5000 + number))._p_activate()
                causes = (caught.value, caught.value.__cause__)
                told = isinstance(causes[0], ForeignClass) or "pickle" in str(causes).lower() or causes[1] is not None
                assert told, what
            assert isinstance(root["lobby"], UvmObject)
    finally:
        copyreg.remove_extension("os", "system", 1)
    assert ran == []


def test_the_refusal_to_load_names_the_foreign_class(forged_uri: str) -> None:
    """So that its writer can be found."""
    with open_image(forged_uri, read_only=True) as image, image.snapshot() as root:
        with pytest.raises(ForeignClass, match=r"names os\.system, which is not one of the image's classes") as caught:
            root["lobby"]._p_jar.get(p64(5000))
        assert (caught.value.module, caught.value.name) == ("os", "system")


def test_any_zodb_connection_can_read_the_image(uri: str) -> None:
    """A tool without shapes reads by the definition, slowly and right."""
    with open_image(uri) as image, image.transaction() as root:
        root["lobby"].leaf = UvmObject([UvmObject([UvmObject(x=1)])])
    database = DB(FileStorage(uri.removeprefix("file://"), read_only=True))
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(manager)
    manager.begin()
    leaf = connection.root()["lobby"].leaf
    assert leaf.x == 1
    leaf._p_deactivate()
    assert leaf.x == 1
    manager.abort()
    connection.close()
    database.close()


def test_records_name_only_the_universal_class(session: Session) -> None:
    """Whatever shape an object wears, its record can be loaded where shapes are other ones."""
    lobby = session.begin()["lobby"]
    lobby.top = UvmObject(x=1)
    lobby.leaf = UvmObject([lobby.top])
    session.commit()
    leaf = session.begin()["lobby"].leaf
    assert leaf.x == 1
    assert type(leaf) is not UvmObject
    leaf.y = 2
    session.commit()
    session.begin()
    record, _ = leaf._p_jar._storage.load(leaf._p_oid)
    assert record.startswith(b"\x80\x03cbatos.uvm\nUvmObject\n")
