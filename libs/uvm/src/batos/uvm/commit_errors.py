"""What can go wrong at a commit beside conflicts and an image that is away."""

# ruff: noqa: N818 - errors are named for what happened

from __future__ import annotations

import errno
from pathlib import Path

from ZODB.POSException import StorageError

from batos.uvm.errors import Transient, UvmError
from batos.uvm.shown import without_password

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a file cannot grow."""


class LockHeldTooLong(Transient):
    """This client had voted, held the image's commit lock and did not go on: it was thrown out.

    Nothing of the transaction was stored: the image says so before it gives the lock to the next. So it may be tried
    again; where the same stands still again, it will be thrown out again.

    Attributes:
        uri: where the image is, without its password.
        held_s: for how long the image lets a client hold the lock.
    """

    def __init__(self, uri: str, held_s: float) -> None:
        self.uri = without_password(uri)
        self.held_s = held_s
        super().__init__(
            f"this client held the commit lock of the image at {self.uri} for more than {held_s:g} s and was thrown "
            "out: nothing of its transaction is stored; try again, and see what stood still between its vote and its "
            "end (a debugger, a stopped process, a machine that swaps)"
        )


NOT_STORED = "nothing of this transaction is stored, all that was stored stays readable"


class DiskFull(UvmError, StorageError):  # type: ignore[misc]  # ZODB has no types
    """A file on this side of the image could not grow: nothing of the transaction was committed, or no blob brought.

    Attributes:
        folder: where there is no room.
    """

    def __init__(self, folder: str, why: str, lost: str = NOT_STORED) -> None:
        self.folder = folder
        super().__init__(
            f"there is no room left in {folder} ({why}): {lost}; free space there (see `df`), where it is the image's "
            "own disk also with `batos image pack`"
        )


def no_room(wrong: BaseException, *folders: str, lost: str = NOT_STORED) -> DiskFull | None:
    """Return the image's own error for a file that could not grow; None where `wrong` says something else.

    Args:
        wrong: what was raised.
        folders: where it may have been, if it does not say so itself.
        lost: what that means, for people.
    """
    if not isinstance(wrong, OSError) or wrong.errno not in NO_ROOM:
        return None
    named = str(Path(wrong.filename).parent) if isinstance(wrong.filename, str) else ""
    where = named or " or ".join(dict.fromkeys(filter(None, folders)))
    return DiskFull(where, wrong.strerror or str(wrong), lost)
