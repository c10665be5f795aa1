"""The closed set of slot values, and their twins."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
import zoneinfo
from typing import Any

import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet

from batos.uvm import (
    BelongsToVessel,
    Image,
    NotStorable,
    PersistentDict,
    PersistentList,
    PersistentSet,
    UvmObject,
    open_image,
    plain,
    read_blob,
    store_blob,
)

HONEST: list[Any] = [
    None,
    True,
    10**40,
    1.5,
    1 + 2j,
    "text",
    b"bytes",
    (1, ("a", b"c")),
    frozenset({1, (2, 3)}),
    dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    dt.datetime(2026, 1, 2),  # noqa: DTZ001 - a naive one is storable too
    dt.date(2026, 1, 2),
    dt.time(3, 4, tzinfo=dt.UTC),
    dt.timedelta(days=1, microseconds=3),
    decimal.Decimal("1.50"),
    uuid.UUID(int=7),
    uuid.uuid1(),
    [1, [2, {"a": {3}}]],
    {"k": [1], (1, 2): "tuple key"},
    {1, "two"},
    [],
    {},
    set(),
]


@pytest.mark.parametrize("value", HONEST, ids=lambda value: type(value).__name__)
def test_plain_values_come_back_as_they_were(image: Image, value: Any) -> None:
    """Every storable value survives a commit and a fresh connection."""
    with image.transaction() as root:
        root["lobby"].value = value
    image.close()
    with open_image(image.uri) as again, again.snapshot() as root:
        stored = root["lobby"].value
        assert plain(stored) == value
        assert type(plain(stored)) is type(value)


def test_trees_counters_and_blobs_may_stand_in_slots(image: Image) -> None:
    """The persistent containers of ZODB that grow without bound are storable."""
    with image.transaction() as root:
        lobby = root["lobby"]
        lobby.tree = OOBTree({"k": UvmObject(n=1), "t": (1, 2)})
        lobby.names = OOTreeSet(["a", "b"])
        lobby.count = Length(3)
        lobby.weights = store_blob(b"\x00" * 1000)
    with image.snapshot() as root:
        lobby = root["lobby"]
        assert lobby.tree["k"].n == 1
        assert list(lobby.names) == ["a", "b"]
        assert lobby.count() == 3
        assert read_blob(lobby.weights) == b"\x00" * 1000


def test_a_clone_copies_trees_counters_and_blobs(image: Image) -> None:
    """What can be changed in place is never shared between an object and its clone."""
    with image.transaction() as root:
        original = UvmObject(
            tree=OOBTree({"k": (1,)}), names=OOTreeSet(["a"]), count=Length(3), data=store_blob(b"one")
        )
        root["lobby"].original = original
        clone = original._clone_persistent_()
        root["lobby"].clone = clone
        clone.tree["l"] = 2
        clone.names.add("b")
        clone.count.change(1)
    with image.snapshot() as root:
        original, clone = root["lobby"].original, root["lobby"].clone
        assert (list(original.tree), list(original.names), original.count()) == (["k"], ["a"], 3)
        assert (list(clone.tree), list(clone.names), clone.count()) == (["k", "l"], ["a", "b"], 4)
        assert read_blob(clone.data) == b"one"


def test_list_mutators_convert_and_refuse() -> None:
    """Whatever way a value enters a list, it is checked and becomes a twin."""
    items = PersistentList([[0]])
    items.append([1])
    items.insert(0, [2])
    items.extend([[3], {"a": []}])
    items += [{4}]
    items[0] = [5]
    items[1:2] = [[6], [7]]
    assert items == [[5], [6], [7], [1], [3], {"a": []}, {4}]
    assert all(type(item) in {PersistentList, PersistentDict, PersistentSet} for item in items)
    assert type(items[1:3]) is PersistentList
    assert type(items + [[8]]) is PersistentList  # noqa: RUF005 - the operator is what is tested
    before = list(items)
    for attempt in (
        lambda: items.append(object()),
        lambda: items.insert(0, object()),
        lambda: items.extend([1, object()]),
        lambda: items.__iadd__([object()]),
        lambda: items.__setitem__(0, object()),
        lambda: items.__setitem__(slice(0, 1), [object()]),
        lambda: PersistentList([object()]),
    ):
        with pytest.raises(BelongsToVessel):
            attempt()
    assert list(items) == before


def test_dict_mutators_convert_and_refuse() -> None:
    """Whatever way a value or key enters a dict, it is checked and becomes a twin."""
    table = PersistentDict({"a": [1]}, b=[2])
    table["c"] = [3]
    table.update({"d": [4]}, e=[5])
    table |= {"f": [6]}
    assert table.setdefault("g", [7]) == [7]
    assert table.setdefault("g", [8]) == [7]
    assert all(type(value) is PersistentList for value in table.values())
    assert type(table | {"h": 1}) is PersistentDict
    assert type(table.copy()) is PersistentDict
    assert table.copy() == table
    before = dict(table)
    for attempt in (
        lambda: table.__setitem__("x", object()),
        lambda: table.__setitem__(object(), 1),
        lambda: table.update(x=1, y=object()),
        lambda: table.setdefault("x", object()),
        lambda: table.__ior__({"x": object()}),
        lambda: PersistentDict({"x": object()}),
    ):
        with pytest.raises(BelongsToVessel):
            attempt()
    assert dict(table) == before


def test_set_mutators_refuse() -> None:
    """Sets hold hashable storable values."""
    items = PersistentSet([1, (2, 3)])
    items.add("x")
    items |= {4}
    items.discard(1)
    items.remove("x")
    assert items == {(2, 3), 4}
    assert type(items | {5}) is PersistentSet
    with pytest.raises(BelongsToVessel):
        items.add(object())
    with pytest.raises(BelongsToVessel):
        PersistentSet([object()])
    assert "PersistentSet" in repr(items)


def test_copying_a_dict_does_not_mark_it_changed(image: Image) -> None:
    """Reading never writes."""
    with image.transaction() as root:
        root["lobby"].table = {"a": 1}
    with image.snapshot() as root:
        table = root["lobby"].table
        assert table.copy() == {"a": 1}
        assert not table._p_changed


def test_a_value_that_contains_itself_is_refused() -> None:
    """A plain list within itself has no end; the error says so instead of overflowing the stack."""
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(NotStorable, match="containing itself"):
        UvmObject(knot=knot)


def test_time_zones_that_are_objects_of_the_vessel_are_refused() -> None:
    """A zone is a fixed offset in the image; a zone database is the vessel's."""
    moment = dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))
    with pytest.raises(BelongsToVessel, match=r"UvmObject\.at\.tzinfo: 'zoneinfo\.ZoneInfo'"):
        UvmObject(at=moment)


def test_plain_undoes_twins_all_the_way_down() -> None:
    """What leaves the image as data is plain."""
    value = PersistentDict({"a": [1, {"b": {2}}], "t": ([3],)})
    bare = plain(value)
    assert bare == {"a": [1, {"b": {2}}], "t": ([3],)}
    assert [type(bare), type(bare["a"]), type(bare["a"][1]["b"]), type(bare["t"][0])] == [dict, list, set, list]


def test_plain_keeps_what_stands_in_several_places() -> None:
    """It is made once, so that a value that doubles with every level stays as small as it is."""
    found: Any = PersistentList(["x"])
    for _ in range(90):
        found = PersistentList([found, (found,)])
    bare = plain(found)
    assert bare[0] is bare[1][0]


@pytest.mark.parametrize("kind", [PersistentList, PersistentDict, list])
def test_plain_refuses_what_has_no_end(kind: Any) -> None:
    """A value that contains itself, by whatever way, or is so deep that nobody could read it."""
    loop = PersistentList()
    loop.append((loop,))
    deep: Any = "x"
    for _ in range(3000):
        deep = kind([("k", deep)])
    for endless in (loop, deep):
        with pytest.raises(NotStorable, match="nested more than 100 deep, or containing itself"):
            plain(endless)
