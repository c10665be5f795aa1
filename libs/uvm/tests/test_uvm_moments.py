"""Moments as people write them, and how far they reach."""

from __future__ import annotations

import datetime as dt

import pytest
from ZODB.utils import p64, u64

from batos.uvm import BadMoment, NoSuchMoment, moment_of, reached, tid_at

NEWEST = "040d464692910133"
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize("text", [NEWEST, NEWEST.upper()])
def test_a_transaction(text: str) -> None:
    """Sixteen hexadecimal digits, however they are written."""
    assert moment_of(text) == NEWEST
    assert reached(text, NEWEST) == NEWEST


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T13:00+01:00", "2026-01-31 12:00:00+00:00"])
def test_a_time(text: str) -> None:
    """With its zone."""
    assert moment_of(text) == NOON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "040d",
        " 40d464692910133",
        "+40d464692910133",
        "0x0d464692910133",
        "04_0d46469291013",
        f"{NEWEST}\n",
        "\u0660" * 16,
        "\ud800",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-13-01T00:00:00Z",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    """Is refused, with both ways to write one."""
    with pytest.raises(BadMoment, match=r"neither a transaction \(16 hexadecimal digits\) nor a time with its zone"):
        moment_of(text)


def test_a_time_reaches_to_the_end_of_its_microsecond() -> None:
    """What was committed within it is included, what was committed in the next one is not."""
    found = reached(NOON, NEWEST)
    assert tid_at(NOON).hex() < found < tid_at(NOON + dt.timedelta(microseconds=1)).hex()
    assert u64(bytes.fromhex(found)) + 1 == u64(tid_at(NOON + dt.timedelta(microseconds=1)))


@pytest.mark.parametrize("moment", ["f" * 16, "2300-01-01T00:00:00Z", "9917-03-01T00:00:00Z", "9999-12-31T23:59-14:00"])
def test_the_future(moment: str) -> None:
    """Is refused, also where the time in a transaction has begun again."""
    with pytest.raises(NoSuchMoment, match="it lies in the future"):
        reached(moment, NEWEST)


def test_a_time_that_has_come_may_be_later_than_the_newest_transaction() -> None:
    """Then nothing was committed since."""
    assert reached(NOON, "03ff000000000000") > "03ff000000000000"


def test_times_that_no_transaction_can_have() -> None:
    """Count as the first or the last one that can."""
    early = [dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14)))]
    assert [tid_at(when) for when in early] == [p64(0), p64(0)]
    assert [reached(when, NEWEST) for when in early] == ["0" * 16, "0" * 16]
    assert tid_at(dt.datetime.max.replace(tzinfo=dt.UTC)) == tid_at(dt.datetime(9917, 1, 1, tzinfo=dt.UTC))
