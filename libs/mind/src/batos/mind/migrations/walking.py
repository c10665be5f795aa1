"""Going through many trees in parts of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from batos.mind.migrations.migration import Cursor


def walk(trees: Sequence[Any], cursor: Cursor, limit: int) -> tuple[list[Any], Cursor | None]:
    """Return the next values of a row of BTrees with text keys, and where to go on.

    Args:
        trees: one after another.
        cursor: from the call before, or `START`.
        limit: how many values at most.

    Returns:
        The values, and the cursor for the next call; None where these were the last ones.
    """
    place = int(cursor[0]) if cursor else 0
    behind: Cursor = cursor[1:]
    found: list[Any] = []
    while place < len(trees):
        for key, value in _items(trees[place], behind):
            if len(found) == limit:
                return found, (place, *behind)
            found.append(value)
            behind = (key,)
        place, behind = place + 1, ()
    return found, None


def count(trees: Sequence[Any]) -> int:
    """Return how many values stand in a row of BTrees, without having them all in memory at a time."""
    counted = 0
    for tree in trees:
        counted += len(tree)
        if tree._p_jar is not None:  # noqa: SLF001 - ZODB's public protocol has underscores
            tree._p_jar.cacheGC()  # noqa: SLF001 - as above
    return counted


def _items(tree: Any, behind: Cursor) -> Iterator[tuple[str, Any]]:
    return iter(tree.items(min=behind[0], excludemin=True) if behind else tree.items())
