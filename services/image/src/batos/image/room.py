"""Whether the image's disk has room, as its commits find out: nobody asks the disk, which may be full for some only."""

from __future__ import annotations

from collections.abc import Callable


class Room:
    """Remembers the last refusal until a commit is stored again. Told in the storage server's thread.

    Attributes:
        refused: how many commits found no room.
        lacking: where and why the last one did; empty once a commit was stored after it.
    """

    def __init__(self, changed: Callable[[str], None] = lambda _lacking: None) -> None:
        """Begin with room.

        Args:
            changed: called, in the server's thread, with `lacking` whenever that is another.
        """
        self._changed = changed
        self.refused = 0
        self.lacking = ""

    def missing(self, where: str, error: OSError) -> None:
        """A commit was refused, because a file could not grow."""
        self.refused += 1
        self._now(f"{where}: {error.strerror or error}")

    def found(self) -> None:
        """A commit was stored."""
        self._now("")

    def _now(self, lacking: str) -> None:
        if lacking != self.lacking:
            self.lacking = lacking
            self._changed(lacking)
