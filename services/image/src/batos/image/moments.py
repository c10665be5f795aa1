"""Moments of the image as people write them."""

from __future__ import annotations

import datetime as dt

from batos.image.errors import CareError
from batos.uvm import NoSuchMoment, tid_at

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
        found = tid_at(when).hex() if when.tzinfo is not None else ""
    except (ValueError, NoSuchMoment):
        found = ""
    if not found:
        raise CareError(
            "moment_invalid",
            f"{moment!r} is neither a transaction nor a time with its zone",
            "give 16 hexadecimal digits, or for example 2026-01-31T12:00:00+00:00",
        )
    return False, found
