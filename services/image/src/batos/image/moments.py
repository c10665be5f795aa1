"""Moments of the image as people write them, refused in words of this vessel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batos.image.errors import CareError
from batos.uvm import BadMoment, NoSuchMoment


@contextmanager
def moment_refused(hint: str) -> Iterator[None]:
    """Turn what the image says of a moment into an error of this vessel.

    Args:
        hint: what to do where the moment is one, and cannot be looked at.

    Raises:
        CareError: it is no moment, or cannot be looked at.
    """
    try:
        yield
    except BadMoment as error:
        raise CareError("moment_invalid", str(error), "name it in one of these ways") from error
    except NoSuchMoment as error:
        raise CareError("moment_unknown", str(error), hint) from error
