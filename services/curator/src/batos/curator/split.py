"""Two sides of a data set, so that nothing held out has a near-duplicate that was trained on.

Rows that are alike, or that come from one cycle, form a cluster; a cluster stands on one side as a whole. Alike means
that the words of the questions or of the answers overlap: measured on shingles (runs of words), without those that most
rows share, because a persona's prompts are made from the same templates.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from batos.mind.datasets import Row

SHINGLE_WORDS = 3
"""Words a shingle."""
TEMPLATE_SHARE = 0.3
"""A shingle in more than this share of all rows is part of a template and says nothing about likeness."""
TEMPLATE_MIN_ROWS = 5
"""A shingle in so few rows is never taken for a template."""
ALIKE = 0.5
"""Jaccard index of two rows' shingles from which on they are near-duplicates."""

OWN_SHARE = 0.35
"""Texts with a smaller share of shingles of their own say much the same as most: they are compared as a whole."""
TEMPLATE_ALIKE = 0.8
"""Jaccard index of two whole texts from which on those are near-duplicates."""

QUESTION, ANSWER = -2, -1
"""The turns of a row that are compared: earlier ones are a template's."""

_WORD = re.compile(r"\w+")


class Sides(NamedTuple):
    """The two sides of a data set, each in the order in which the rows came."""

    train: list[Row]
    held_out: list[Row]


def normalized(text: str) -> tuple[str, ...]:
    """Return the words of a text without case, punctuation or spacing."""
    return tuple(_WORD.findall(text.casefold()))


def row_key(row: Row) -> tuple[tuple[str, ...], ...]:
    """Return what makes two rows the same example: roles and words of all messages."""
    return tuple((message.role, *normalized(message.content)) for message in row.messages)


def deduplicated(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without repeated examples; of several the first stays."""
    seen: set[Hashable] = set()
    kept = []
    for row in rows:
        key = row_key(row)
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return kept


def clusters(rows: Sequence[Row]) -> list[list[int]]:
    """Return the indices of rows that belong together, each cluster in ascending order, by its first row."""
    parent = list(range(len(rows)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(pairs: Iterable[tuple[int, int]]) -> None:
        for one, other in pairs:
            low, high = sorted((find(one), find(other)))
            parent[high] = low

    first_of_cycle: dict[str, int] = {}
    join((first_of_cycle.setdefault(row.cycle_id, index), index) for index, row in enumerate(rows))
    for turn in (QUESTION, ANSWER):
        join(_alike([row.messages[turn].content for row in rows]))
    found: dict[int, list[int]] = defaultdict(list)
    for index in range(len(rows)):
        found[find(index)].append(index)
    return [found[root] for root in sorted(found)]


def split(rows: Sequence[Row], *, held_out_share: float, min_held_out: int) -> Sides | None:
    """Divide rows by cluster; the same rows are divided the same way, in whatever order they come.

    Args:
        rows: different examples.
        held_out_share: share of rows to hold out, between 0 and 1; met as closely as whole clusters allow.
        min_held_out: rows to hold out at least, 1 or more.

    Returns:
        The two sides, or None where the clusters leave one of them too small.
    """
    target = max(min_held_out, round(held_out_share * len(rows)))
    groups = sorted(clusters(rows), key=lambda group: _digest(rows, group))
    chosen: set[int] = set()
    for group in groups:
        if len(chosen) + len(group) <= target:
            chosen.update(group)
    for group in sorted(groups, key=len):
        if len(chosen) >= min_held_out:
            break
        if chosen.isdisjoint(group):
            chosen.update(group)
    if len(chosen) < min_held_out or len(chosen) >= len(rows) - len(chosen):
        return None
    return Sides(
        train=[row for index, row in enumerate(rows) if index not in chosen],
        held_out=[row for index, row in enumerate(rows) if index in chosen],
    )


def _digest(rows: Sequence[Row], group: Sequence[int]) -> str:
    """Return a cluster's place in the draw: it depends on what its rows say, not on where they stand."""
    return min(hashlib.sha256(msgspec.json.encode(rows[index])).hexdigest() for index in group)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = normalized(text)
    if len(words) <= SHINGLE_WORDS:
        return {words} if words else set()
    return {words[start : start + SHINGLE_WORDS] for start in range(len(words) - SHINGLE_WORDS + 1)}


def _alike(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of texts that are near-duplicates, found through the shingles that they share."""
    every = [_shingles(text) for text in texts]
    pairs: list[tuple[int, int]] = []
    same: dict[frozenset[tuple[str, ...]], int] = {}
    for index, found in enumerate(every):
        pairs.append((same.setdefault(frozenset(found), index), index))
    frequency = Counter(shingle for found in every for shingle in found)
    common = max(TEMPLATE_MIN_ROWS, TEMPLATE_SHARE * len(texts))
    own = [{shingle for shingle in found if frequency[shingle] <= common} for found in every]
    pairs += _overlapping(own, ALIKE)
    template = [found if len(own[index]) < OWN_SHARE * len(found) else set() for index, found in enumerate(every)]
    return pairs + _overlapping(template, TEMPLATE_ALIKE)


def _overlapping(sets: Sequence[set[tuple[str, ...]]], least: float) -> list[tuple[int, int]]:
    """Return the pairs of sets whose Jaccard index is at least so high."""
    pairs = []
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, found in enumerate(sets):
        shared: Counter[int] = Counter()
        for shingle in found:
            shared.update(holders[shingle])
            holders[shingle].append(index)
        for other, overlap in shared.items():
            if overlap >= least * (len(found) + len(sets[other]) - overlap):
                pairs.append((other, index))
    return pairs
