"""Moments of the image as people write them."""

from __future__ import annotations

import datetime as dt

from persistent.TimeStamp import TimeStamp

from batos.image.errors import CareError

TID_DIGITS = 16


def tid_of(moment: str) -> tuple[bool, str]:
    """Return whether a moment is a transaction, and up to which one it reaches.

    Raises:
        CareError: it is neither a transaction nor a time.
    """
    if len(moment) == TID_DIGITS:
        try:
            return True, f"{int(moment, 16):016x}"
        except ValueError:
            pass
    try:
        when = dt.datetime.fromisoformat(moment)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise CareError(
            "moment_invalid",
            f"{moment!r} is neither a transaction nor a time with its zone",
            "give 16 hexadecimal digits, or for example 2026-01-31T12:00:00+00:00",
        )
    utc = when.astimezone(dt.UTC)
    stamp = TimeStamp(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second + utc.microsecond / 1e6)
    return False, bytes(stamp.raw()).hex()
