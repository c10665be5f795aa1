"""Why the storage cannot be served, and why care for it failed."""

from __future__ import annotations

import errno

from batos.vessel import StartFailed, VesselError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a file cannot grow."""


class StorageUnusable(StartFailed):
    """The image's files or its socket cannot be used.

    Attributes:
        path: the file that is in the way.
    """

    def __init__(self, code: str, path: str, message: str, hint: str) -> None:
        super().__init__(code, message, hint)
        self.path = path


class CareError(VesselError):
    """A backup, a restore, a look at everything or a pack could not be done; what was there before still is."""


def disk_full(where: str, why: str, hint: str) -> CareError:
    """Return the error of a disk without room."""
    return CareError("disk_full", f"there is no room left for {where}: {why}", hint)
