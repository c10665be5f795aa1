"""What a migration is, and the ordered list of those that a release knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from batos.mind.compatibility import FIRST_VERSION
from batos.mind.errors import MindError
from batos.uvm import Root

Cursor = tuple[int | str, ...]
"""Where a migration goes on: plain, so that it stands in the image beside what was done."""
START: Cursor = ()


class Step(NamedTuple):
    """What one batch did."""

    cursor: Cursor | None
    """Where the next one begins; None where there is nothing more to do."""
    looked: int
    """Objects that were looked at."""
    changed: int
    """Objects among them that were changed."""


class Migration(Protocol):
    """Brings an image from the version before its number to its number, one bounded batch after another.

    Kernels work on while it runs. What they add meanwhile behind the cursor is not looked at: a release that
    understands a version has to write new objects so that nothing is left to do for them.
    """

    @property
    def number(self) -> int:
        """The version of the image that it leads to."""
        ...

    @property
    def title(self) -> str:
        """What becomes of what, in a few words."""
        ...

    def total(self, root: Root) -> int | None:
        """Return about how many objects it will look at; None where counting them would be as long as doing it."""
        ...

    def step(self, root: Root, cursor: Cursor) -> Step:
        """Do a bounded part within the caller's transaction, from `cursor` on; the first one begins at `START`.

        The same step may be done several times, on fresh states: it has no effect but in the image.
        """
        ...


class Migrations:
    """The migrations of a release, in the order of their numbers."""

    def __init__(self, known: Iterable[Migration]) -> None:
        """Take them, in any order.

        Raises:
            MindError: a number is there twice, or one between two of them is not there.
        """
        self._known = sorted(known, key=lambda migration: migration.number)
        for before, after in zip(self._known, self._known[1:], strict=False):
            if before.number == after.number:
                raise MindError("migration_twice", f"two migrations lead to image version {after.number}")
            if before.number + 1 != after.number:
                raise MindError(
                    "migration_gap", f"no migration leads to image version {before.number + 1}, but one on from there"
                )
        if self._known and self._known[0].number <= FIRST_VERSION:
            raise MindError(
                "migration_number", f"nothing leads to image version {self._known[0].number}: images began with it"
            )

    def __iter__(self) -> Iterator[Migration]:
        return iter(self._known)

    @property
    def newest(self) -> int:
        """The version that the last one leads to."""
        return self._known[-1].number if self._known else FIRST_VERSION

    def after(self, version: int) -> list[Migration]:
        """Return what an image of a version still needs.

        Raises:
            MindError: it is so old that this release has no way from there.
        """
        pending = [migration for migration in self._known if migration.number > version]
        if pending and pending[0].number != version + 1:
            raise MindError(
                "migration_gap",
                f"the image has version {version}, and this release migrates from version {pending[0].number - 1} on",
                "migrate it with the release before this one first: batos image migrate",
            )
        return pending
