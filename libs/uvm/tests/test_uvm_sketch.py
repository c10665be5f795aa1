"""What is written of values, whatever they are."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet
from ZODB.blob import Blob

from batos.uvm import (
    PersistentDict,
    PersistentList,
    PersistentSet,
    UvmObject,
    open_image,
    place_at,
    portray,
    store_blob,
)
from batos.uvm.sketch import SHORT_CHARS, WHOLE_CHARS, lines_text, short_text, whole_text


def around(value: Any, depth: int) -> PersistentList:
    """A value within as many lists."""
    found = PersistentList([value])
    for _ in range(depth - 1):
        found = PersistentList([found])
    return found


def loop() -> PersistentList:
    found = PersistentList([1])
    found.append(found)
    return found


def doubled(times: int) -> PersistentList:
    """A list that stands twice in a list, which stands twice in a list, and so on."""
    found = PersistentList(["x"])
    for _ in range(times):
        found = PersistentList([found, found])
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (PersistentDict({"a": [1, (2, 3)], 4: None}), "{'a': [1, (2, 3)], 4: None}"),
        (PersistentSet([1]), "{1}"),
        (frozenset({"a"}), "frozenset({'a'})"),
        (OOBTree({"a": PersistentList([1])}), "{'a': [1]}"),
        (OOTreeSet(["a", "b"]), "['a', 'b']"),
        (Length(3), "3"),
        (PersistentList([store_blob(b"bytes")]), "[<a blob>]"),
        (UvmObject(), "<UvmObject, not stored yet>"),
        (PersistentDict({UvmObject(): 1}), "{<UvmObject, not stored yet>: 1}"),
        (Decimal("1.50"), "Decimal('1.50')"),
        (dt.date(2026, 1, 31), "datetime.date(2026, 1, 31)"),
        (10**5000, "<an integer of 16610 bits>"),
        (PersistentList([-(10**5000)]), "[<an integer of 16610 bits>]"),
        (OOBTree({10**5000: 1}), "{<an integer of 16610 bits>: 1}"),
        (loop(), "[1, <itself>]"),
        (PersistentList(["\ud800"]), "['\\ud800']"),
        (b"\x00", "b'\\x00'"),
        (float("nan"), "nan"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_as_python_writes_it(value: Any, text: str) -> None:
    """In full and in one line; what Python cannot write, or writes with an address in memory, in words."""
    assert (whole_text(value), short_text(value)) == (text, text)


def test_only_of_a_blob_by_itself_the_bytes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown with its size and hash; in a list it is a blob, however many bytes it has, and wherever they are."""
    blob = store_blob(b"bytes")
    assert whole_text(blob) == lines_text(blob) == "<a blob of 5 bytes, SHA-256 277089d91c0b…>"
    monkeypatch.setattr(Blob, "open", None)
    assert short_text(blob) == "<a blob>"


def test_a_blob_whose_bytes_are_missing_is_shown(tmp_path: Path) -> None:
    """By itself, and among the slots of its object; now and in the past."""
    with open_image(f"file://{tmp_path}/live_image.fs?blob_dir={tmp_path}/blobs") as image:
        with image.transaction() as root:
            root["lobby"].x = store_blob(b"bytes")
        for bytes_ in (tmp_path / "blobs").rglob("*.blob"):
            bytes_.unlink()
        for view in (image.snapshot(), image.at(image.last_tid())):
            with view as root:
                assert [entry.shown for entry in portray(place_at(root, "lobby")).entries] == ["<a blob>"]
                shown = portray(place_at(root, "lobby.x"))
                assert shown.text == "<a blob whose bytes are missing>"
                assert int(shown.tid, 16) > 0


def test_a_text_by_itself_is_shown_as_it_is() -> None:
    """Among other values it is quoted. Half of a surrogate pair can be in no text that is sent."""
    assert (whole_text("it's"), lines_text("it's"), short_text("it's")) == ("it's", "it's", '"it\'s"')
    assert (whole_text("a\ud800"), lines_text("a\ud800")) == ("a\\ud800", "a\\ud800")
    assert whole_text("x" * (WHOLE_CHARS + 1)) == "x" * WHOLE_CHARS + f"… ({WHOLE_CHARS + 1} characters)"


@pytest.mark.parametrize(
    "value",
    [
        around("x", 2000),
        doubled(200),
        loop(),
        PersistentList(["x" * 1_000_000] * 3),
        PersistentDict({"x" * 1_000_000 + str(number): number for number in range(3)}),
        PersistentList(range(100_000)),
        OOBTree(dict.fromkeys(range(100_000), "x" * 10)),
        PersistentDict({(("x",) * 50,) * 50: 1}),
    ],
    ids=["deep", "doubled", "loop", "texts", "keys", "list", "tree", "tuples"],
)
def test_what_is_written_is_bounded(value: Any) -> None:
    """However deep or large a value is, or in how many places its parts stand; more is said to be there."""
    assert len(short_text(value)) <= SHORT_CHARS
    assert len(whole_text(value)) <= WHOLE_CHARS
    assert len(lines_text(value)) <= WHOLE_CHARS
    assert "…" in short_text(value) or "<itself>" in short_text(value)


def test_lines_do_not_depend_on_the_order_in_which_a_dict_was_filled() -> None:
    """Two that are compared line by line differ in what they hold alone."""
    one = PersistentDict({("b", 2): 1, ("a", 1): 2, "x": 3, 7: 4})
    other = PersistentDict({7: 4, ("a", 1): 2, "x": 3, ("b", 2): 1})
    assert lines_text(one) == lines_text(other)
