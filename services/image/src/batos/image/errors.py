"""Why the storage cannot be served."""

from __future__ import annotations

from batos.vessel import StartFailed


class StorageUnusable(StartFailed):
    """The image's files or its socket cannot be used.

    Attributes:
        path: the file that is in the way.
    """

    def __init__(self, code: str, path: str, message: str, hint: str) -> None:
        super().__init__(code, message, hint)
        self.path = path
