"""What would be lost or could not be read again is refused at the commit, with the path of what is wrong."""

from __future__ import annotations

import copy
import datetime as dt
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from BTrees.IOBTree import IOBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet

from batos.uvm import Image, NotStorable, Root, Session, UvmObject, open_image, store_blob
from batos.uvm.values import PersistentDict, PersistentList, PersistentSet


class Text(str):
    """A subclass of a plain type."""

    __slots__ = ()


class Whole(int):
    """Another."""

    __slots__ = ()


class Zone(dt.tzinfo):
    """A time zone that the image does not know."""


def _foreign_id() -> uuid.UUID:
    return uuid.UUID(int=Whole(5))


NAMED = dt.timezone(dt.timedelta(0), Text("x"))


def _in_large_tree(root: Root) -> None:
    root["tree"] = OOBTree({n: n for n in range(1000)})
    root["tree"][777] = (1, [2])


def _set_slot(name: str, value: Any) -> Callable[[Root], None]:
    def write(root: Root) -> None:
        setattr(root["lobby"], name, value())

    return write


def _set_tree(value: Callable[[], Any]) -> Callable[[Root], None]:
    def write(root: Root) -> None:
        root["tree"] = OOBTree({"a": value()})

    return write


def _give(name: str, value: Any) -> Callable[[Root], None]:
    """Give the value in a slot an attribute."""

    def write(root: Root) -> None:
        root["lobby"].given.__dict__[name] = value
        root["lobby"].given._p_changed = True

    return write


REFUSED: dict[str, tuple[Callable[[Root], None], str]] = {
    "list in a tuple in a tree": (_set_tree(lambda: (0, [1])), "tree['a'][1]: changes made in place of a plain list"),
    "dict in a tuple in a tree": (
        _set_tree(lambda: ({"k": 1},)),
        "tree['a'][0]: changes made in place of a plain dict",
    ),
    "set in a large tree": (_in_large_tree, "tree[777][1]: changes made in place of a plain list"),
    "list of a counter": (_set_slot("n", lambda: Length([1])), "lobby.n.value: changes made in place"),
    "lock of a counter": (_set_slot("n", lambda: Length(threading.Lock())), "lobby.n.value: '_thread.lock' belongs"),
    "attribute of a list": (_give("extra", [1]), "lobby.given.extra: a PersistentList keeps no attributes"),
    "lock of a list": (_give("lock", threading.Lock()), "lobby.given.lock: a PersistentList keeps no attributes"),
    "items of a list": (_give("data", [1, [2]]), "lobby.given[1]: changes made in place of a plain list"),
    "no items of a list": (_give("data", (1,)), "lobby.given.data: 'builtins.tuple' belongs"),
    "foreign zone in a tree": (
        _set_tree(lambda: dt.datetime(2026, 1, 1, tzinfo=Zone())),
        f"tree['a'].tzinfo: '{__name__}.Zone' belongs",
    ),
    "foreign name of a zone in a tree": (
        _set_tree(lambda: (dt.time(1, tzinfo=NAMED),)),
        f"tree['a'][0].tzinfo.tzname(): '{__name__}.Text' belongs",
    ),
    "foreign name of a zone in a slot": (_set_slot("z", lambda: NAMED), f"lobby.z.tzname(): '{__name__}.Text' belongs"),
    "foreign number of an id in a slot": (_set_slot("z", _foreign_id), f"lobby.z.int: '{__name__}.Whole' belongs"),
    "foreign number of an id in a tree": (_set_tree(_foreign_id), f"tree['a'].int: '{__name__}.Whole' belongs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_commit_refuses_what_would_be_lost_or_not_be_read_again(image: Image, name: str) -> None:
    """Nothing of the transaction is stored."""
    write, words = REFUSED[name]
    with image.transaction() as root:
        root["lobby"].given = [1]

    def work(root: Root) -> None:
        root["lobby"].innocent = 1
        write(root)

    with pytest.raises(NotStorable, match=f"^{re.escape(words)}"):
        image.run(work)
    with image.snapshot() as root:
        assert not hasattr(root["lobby"], "innocent")
        assert root["lobby"].given == [1]


def _let_in(image: Image) -> None:
    """Store what an earlier release took, in a tree, the root, a slot and a dict."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("batos.uvm.gate._faults", lambda _record, _content: ())
        with image.transaction() as root:
            root["x"] = (1, [2])
            root["tree"] = OOBTree({"a": (1, [2]), "b": 1})
            root["lobby"].x = PersistentDict(a=1)
            root["lobby"].x.__dict__["note"] = "n"


def test_what_an_earlier_release_took_stops_nobody(image: Image) -> None:
    """What stands beside it can be written, also after a savepoint, and it stays as it is."""
    _let_in(image)
    for number in range(2):
        with image.session() as session:
            root = session.begin()
            root["y"] = root["tree"]["b"] = root["lobby"].x["b"] = number
            session.savepoint()
            root["z"] = root["tree"]["c"] = root["lobby"].x["c"] = number
            session.commit()
    with image.transaction() as root:
        assert (root["x"], root["tree"]["a"], root["lobby"].x.note) == ((1, [2]), (1, [2]), "n")
        assert (root["z"], root["tree"]["c"], root["lobby"].x["c"]) == (1, 1, 1)
        root["x"] = root["tree"]["a"] = (1, (2,))


CHANGED: dict[str, tuple[Callable[[Root], None], str]] = {
    "in place": (lambda root: root["x"][1].append(3), "root['x'][1]"),
    "for an equal one of another kind": (lambda root: root.update(x=(1, [2.0])), "root['x'][1]"),
    "in a tree": (lambda root: root["tree"].update({"a": (1, [3])}), "tree['a'][1]"),
    "beside it": (lambda root: root["tree"].update({"c": (1, [2])}), "tree['c'][1]"),
    "an attribute": (lambda root: root["lobby"].x.__dict__.update(note="other"), "lobby.x.note"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_an_earlier_release_took_is_refused_once_it_is_changed(image: Image, name: str) -> None:
    """It would be lost from then on as anything else."""
    _let_in(image)
    change, path = CHANGED[name]

    def work(root: Root) -> None:
        change(root)
        root["y"] = root["lobby"].x["b"] = 1

    with pytest.raises(NotStorable, match=f"^{re.escape(path)}: "):
        image.run(work)


@pytest.mark.parametrize("kept", [PersistentList, PersistentDict, PersistentSet])
def test_a_twin_takes_no_attributes(image: Image, kept: type) -> None:
    """It says so when one is written, with its path where it has one; what it holds stays as it was."""
    twin = kept()
    with pytest.raises(NotStorable, match=rf"^{kept.__name__}\.lock: a {kept.__name__} keeps no attributes"):
        twin.lock = threading.Lock()
    with image.transaction() as root:
        root["lobby"].notes = twin
    with pytest.raises(NotStorable, match=r"^lobby\.notes\.lock: "), image.transaction() as root:
        root["lobby"].notes.lock = threading.Lock()
    assert not vars(twin).keys() - {"data"}


def test_a_blob_and_a_counter_take_no_attributes(session: Session) -> None:
    """ZODB would drop them and say nothing."""
    for value in (store_blob(b"x"), Length(1)):
        session.begin()["lobby"].x = value
        value.lock = threading.Lock()
        with pytest.raises(NotStorable, match=rf"^lobby\.x\.lock: a {type(value).__name__} keeps no attributes"):
            session.commit()


def test_what_may_stand_in_trees_and_the_root_comes_back(uri: str) -> None:
    """Immutable values of every kind, twins, trees and objects, in tuples as well."""
    values = (
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=9), "JST")), dt.time(1), dt.UTC, uuid.uuid1(),
        frozenset({(1, 2), "a"}), 1j, None, b"x",
    )  # fmt: skip
    with open_image(uri) as image, image.transaction() as root:
        root["tree"] = OOBTree(dict.fromkeys(range(100), values))
        root["set"] = OOTreeSet([(n, "x") for n in range(100)])
        root["numbers"] = IOBTree({n: (PersistentList([n]), UvmObject(n=n)) for n in range(100)})
        root["values"] = values
        root["counter"] = Length(3)
    with open_image(uri) as image, image.snapshot() as root:
        assert root["tree"][77] == root["values"] == values
        assert (77, "x") in root["set"]
        assert (root["numbers"][77][0], root["numbers"][77][1].n) == ([77], 77)
        assert root["counter"]() == 3


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {1, 2}], ids=["list", "dict", "set"])
def test_a_copy_of_a_twin_that_was_not_loaded_yet_is_whole(uri: str, value: Any) -> None:
    """It is a twin of its own, new in this transaction; the original is left as it is."""
    with open_image(uri) as image, image.transaction() as root:
        root["lobby"].x = value
    for copied in (copy.copy, copy.deepcopy):
        with open_image(uri) as image, image.transaction() as root:
            original = root["lobby"].x
            made = copied(original)
            assert (type(made), made._p_jar) == (type(original), None)
            assert made == original
            assert not original._p_changed
