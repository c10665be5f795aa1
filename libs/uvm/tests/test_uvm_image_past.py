"""The past of an image: by transaction and by time, before a pack, with a clock that was set back."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest

from batos.uvm import Image, NoSuchMoment, ReadOnly, UvmObject, changes_of, note_packed, place_at, reached, seen_tid


def test_the_past_can_be_read_by_tid_and_by_time(image: Image) -> None:
    """Whatever happened since, and read only."""
    with image.session() as session:
        tids = []
        for number in range(3):
            session.begin()["lobby"].n = number
            tids.append(session.commit())
    for number, tid in enumerate(tids):
        with image.at(tid) as root:
            assert root["lobby"].n == number
            with pytest.raises(ReadOnly):
                root["lobby"].n = 7
    with image.at(dt.datetime.now(dt.UTC)) as root:
        assert root["lobby"].n == 2


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        ("7fffffffffffffff", "future"),
        ("0000000000000001", "had not begun"),
        (dt.datetime(2001, 1, 1, tzinfo=dt.UTC), "had not begun"),
        (dt.datetime(2001, 1, 1), "with its zone"),  # noqa: DTZ001 - that is the point
        (dt.datetime(1000, 1, 1, tzinfo=dt.UTC), "had not begun"),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))), "had not begun"),
        (dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=14))), "future"),
        ("ffffffffffffffff", "future"),
        ("9999-12-31T23:59:59Z", "future"),
        ("yesterday", "16 hexadecimal digits"),
    ],
)
def test_a_moment_that_does_not_exist_is_refused(image: Image, moment: Any, why: str) -> None:
    """The error says why."""
    with pytest.raises(NoSuchMoment, match=why), image.at(moment):
        pass


def test_what_a_view_sees_is_said(image: Image) -> None:
    """The tid that was asked for, that of a time's very moment, or the newest one; the view does not change."""
    first = image.last_tid()
    with image.transaction() as root:
        root["lobby"].n = 1
    now = dt.datetime.now(dt.UTC)
    for moment, seen in ((first, first), (first.upper(), first), (now, image.last_tid())):
        with image.at(moment) as root:
            assert seen_tid(root) == seen
    with image.snapshot() as root:
        assert seen_tid(root) == image.last_tid()
    with image.transaction() as root:
        root["lobby"].n = 2
    with image.at(now) as root:
        assert seen_tid(root) == reached(now, image.last_tid())


def test_the_time_that_a_history_tells_shows_that_change(image: Image) -> None:
    """Cut to microseconds, as people see it, and given back as a text."""
    for number in range(30):
        with image.transaction() as root:
            root["lobby"].n = number
    with image.snapshot() as root:
        changes = changes_of(place_at(root, "lobby"), 30)
    for number, change in enumerate(reversed(changes)):
        with image.at(dt.datetime.fromtimestamp(change.time, dt.UTC).isoformat()) as root:
            assert root["lobby"].n == number


def test_a_history_ends_where_the_view_does(image: Image) -> None:
    """However few changes are asked for, and however many came since."""
    tids = []
    for number in range(40):
        with image.session() as session:
            session.begin()["lobby"].n = number
            tids.append(session.commit())
    for limit in (1, 3, 100):
        with image.at(tids[4]) as root:
            found = [change.tid for change in changes_of(place_at(root, "lobby"), limit)]
        assert found[:5] == tids[4::-1][:limit]
        assert len(found) <= 6


def test_the_past_before_a_pack_is_refused(image: Image) -> None:
    """Once it is noted what a pack left, no view begins before that, by transaction or by time."""
    before, time_before = image.last_tid(), dt.datetime.now(dt.UTC)
    with image.transaction() as root:
        root["lobby"].n = 1
    kept = image.last_tid()
    with image.transaction() as root:
        assert note_packed(root, kept) == kept
    with image.transaction() as root:
        assert note_packed(root, before) == kept
    for moment in (before, time_before):
        with pytest.raises(NoSuchMoment, match=f"packed away; the earliest .* is {kept}"), image.at(moment):
            pass
    with image.at(kept) as root:
        assert root["lobby"].n == 1


def test_a_view_that_lost_a_record_says_so(image: Image) -> None:
    """Where a storage was packed and nobody noted it, a read of what is gone is refused, too."""
    with image.transaction() as root:
        root["lobby"].thing = UvmObject(n=1)
        root["lobby"].other = UvmObject(n=1)
    before = image.last_tid()
    with image.transaction() as root:
        root["lobby"].thing.n = 2
    database: Any = image._database
    database.pack(time.time() + 1)
    with image.at(before) as root:
        assert root["lobby"].other.n == 1
        with pytest.raises(NoSuchMoment, match="packed away"):
            _ = root["lobby"].thing.n


def test_a_time_where_the_clock_was_set_back(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time means the order of transactions: what was committed after the jump follows the last one before it.

    The hours that the clock goes through twice show what was committed when it went through them first; what the
    newest transaction calls its time is never the future.
    """
    began = time.time()
    noon = began + 86_400.0
    clock = [began]
    monkeypatch.setattr(time, "time", lambda: clock[0])

    def commit(at: float, number: int) -> str:
        clock[0] = at
        with image.session() as session:
            session.begin()["lobby"].n = number
            return session.commit()

    def seen(at: float) -> int:
        with image.at(dt.datetime.fromtimestamp(at, dt.UTC)) as root:
            return int(root["lobby"].n)

    tids = [commit(noon - 3600, 1), commit(noon, 2), commit(noon - 3600 * 2, 3), commit(noon - 1800, 4)]
    assert tids == sorted(tids)
    with image.snapshot() as root:
        changes = changes_of(place_at(root, "lobby"), 4)
    assert [change.tid for change in changes] == tids[::-1]
    assert [round(change.time - noon, 3) for change in changes] == [0, 0, 0, -3600]
    assert seen(noon - 1801) == 1
    for number, tid in enumerate(tids, 1):
        with image.at(tid) as root:
            assert root["lobby"].n == number
    assert seen(noon - 0.001) == 1, "later than the clock, and yet no future"
    with pytest.raises(NoSuchMoment, match="future"):
        seen(noon + 1)
    assert commit(noon + 10, 5) > tids[-1]
    clock[0] = noon + 11
    assert (seen(noon + 0.001), seen(noon + 9), seen(noon + 10.5)) == (4, 4, 5)
