"""The migrations that this release knows, each with the shape of the image that it leads to."""

from __future__ import annotations

from batos.kernel.mission_shape import make_whole
from batos.kernel.missions import MISSIONS
from batos.mind.migrations import Cursor, Migrations, Step, count, walk
from batos.uvm import Root

BATCH = 250
"""Missions that one transaction looks at."""


class WholeMissions:
    """Version 2: a mission's record has every slot from its beginning, and names its transactions.

    Missions that come in meanwhile are made whole by every kernel that understands version 2.
    """

    number = 2
    title = "missions with every slot, and the transactions of their thoughts by name"

    def __init__(self, batch: int = BATCH) -> None:
        self._batch = batch

    def total(self, root: Root) -> int | None:
        """Return how many missions there are."""
        return count(root[MISSIONS].shards) if MISSIONS in root else 0

    def step(self, root: Root, cursor: Cursor) -> Step:
        """Make some missions whole."""
        if MISSIONS not in root:
            return Step(None, 0, 0)
        records, after = walk(root[MISSIONS].shards, cursor, self._batch)
        return Step(after, len(records), sum(make_whole(record) for record in records))


MIGRATIONS = Migrations([WholeMissions()])
