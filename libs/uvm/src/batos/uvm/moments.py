"""Moments of an image's past: how people write them, and up to which transaction each of them reaches."""

from __future__ import annotations

import datetime as dt
import re
import time

from persistent.TimeStamp import TimeStamp
from ZODB.utils import p64, u64

from batos.uvm.errors import BadMoment, NoSuchMoment

_TID = re.compile(r"[0-9a-fA-F]{16}")
_STEP = dt.timedelta(microseconds=1)
"""The least difference of two times that can be written."""
_FIRST = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)
_LAST = dt.datetime(9917, 1, 1, tzinfo=dt.UTC)
"""The time in a tid counts minutes since 1900 in 32 bits: it begins again in the course of 9917."""


def moment_of(text: str) -> str | dt.datetime:
    """Return the transaction or the time that a text means.

    Raises:
        BadMoment: it is neither a transaction nor a time with its zone.
    """
    if _TID.fullmatch(text):
        return text.lower()
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadMoment(text) from None
    if when.tzinfo is None:
        raise BadMoment(text)
    return when


def reached(moment: str | dt.datetime, newest: str) -> str:
    """Return the last tid that a moment includes, whether there is such a transaction or not: 16 hexadecimal digits.

    A time means the whole microsecond that it names: what was committed within it is included. That of a time which
    has come may be later than the newest transaction.

    Args:
        moment: a transaction or a time, as a text of `moment_of`; or a time with its zone.
        newest: the newest transaction.

    Raises:
        BadMoment: it is none.
        NoSuchMoment: it lies in the future.
    """
    when = moment_of(moment if isinstance(moment, str) else moment.isoformat())
    if isinstance(when, str):
        if when > newest:
            raise NoSuchMoment(moment, f"it lies in the future; the newest transaction is {newest}")
        return when
    tid = _last_within(when)
    # A clock that was set back is behind the newest transaction: what that one calls its time is no future.
    if tid > newest and when.timestamp() > time.time():
        raise NoSuchMoment(moment, "it lies in the future")
    return tid


def tid_at(moment: dt.datetime) -> bytes:
    """Return the tid that a transaction of this very time would have; the first or last one beyond what a tid can say.

    Args:
        moment: a time with its time zone.
    """
    utc = max(_FIRST, min(moment, _LAST)).astimezone(dt.UTC)
    seconds = utc.second + utc.microsecond / 1e6
    return bytes(TimeStamp(utc.year, utc.month, utc.day, utc.hour, utc.minute, seconds).raw())


def _last_within(moment: dt.datetime) -> str:
    """Return the last tid of the microsecond that a time names."""
    following = u64(tid_at(min(moment, _LAST) + _STEP))
    return bytes(p64(max(0, following - 1))).hex()
