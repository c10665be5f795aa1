"""Where an object of the image stands, in the words of the Architect, found by its record alone.

`batos.uvm` knows the path of what is in memory; this finds the way to what may not even load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any

from persistent import Persistent
from ZODB.POSException import POSError
from ZODB.serialize import referencesf
from ZODB.utils import z64

from batos.uvm import UvmObject

MAX_NESTED = 6
"""How deep plain containers within one record are looked into."""


def paths_to(wanted: set[bytes], storage: Any, connection: Any) -> dict[bytes, str]:
    """Return the shortest path from the root to each of these objects; those that nothing leads to are left out.

    Args:
        wanted: their ids.
        storage: holds the records.
        connection: loads the objects on the way, to read the names of slots and keys.
    """
    came_from = _search(set(wanted), storage)
    return {oid: _named(_way(oid, came_from), connection) for oid in wanted if oid in came_from}


def _search(wanted: set[bytes], storage: Any) -> dict[bytes, bytes]:
    """Return who refers to whom, as far as it was needed, breadth first."""
    came_from = {z64: z64}
    queue = deque([z64])
    wanted.discard(z64)
    while queue and wanted:
        oid = queue.popleft()
        try:
            found = referencesf(storage.load(oid)[0])
        except Exception:  # noqa: BLE001, S112 - a damaged record leads nowhere; what it raises is spelt by its bytes
            continue
        for reference in found:
            if reference not in came_from:
                came_from[reference] = oid
                wanted.discard(reference)
                queue.append(reference)
    return came_from


def _way(oid: bytes, came_from: dict[bytes, bytes]) -> list[bytes]:
    way = [oid]
    while way[-1] != z64:
        way.append(came_from[way[-1]])
    return way[::-1]


def _named(way: list[bytes], connection: Any) -> str:
    """Return the words for a way of object ids that begins at the root."""
    if len(way) == 1:
        return "root"
    path = ""
    for holder, held in pairwise(way):
        try:
            step = next(_steps(connection.get(holder), held), "")
        except Exception:  # noqa: BLE001 - as above; its part of the path is then unknown
            step = ".?"
        path += step
    return _from_root(path)


def _from_root(path: str) -> str:
    """Turn `['lobby'].x` into `lobby.x`."""
    if path.startswith("['"):
        name, _, rest = path[2:].partition("']")
        return name + rest
    return path.lstrip(".")


def _steps(holder: Any, held: bytes) -> Iterator[str]:
    """Return by which names an object refers to another; a part of a tree has its tree's own path."""
    holder._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    yield from _within(_contents(holder), held, 0)


def _within(pairs: Iterator[tuple[str, Any]], held: bytes, depth: int) -> Iterator[str]:
    for step, value in pairs:
        if isinstance(value, Persistent):
            if value._p_oid == held:  # noqa: SLF001 - ZODB's public protocol has underscores
                yield step
        elif depth < MAX_NESTED:
            for rest in _within(_contents(value), held, depth + 1):
                yield step + rest


def _contents(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, UvmObject):
        yield from ((f".{name}", item) for name, item in vars(value).items())
    elif hasattr(value, "items"):
        try:
            for key, item in value.items():
                yield f"[{key!r}]", item
                yield f"<key {key!r}>", key
        except POSError:  # a tree one of whose parts is damaged: what came before it has been told
            return
    elif isinstance(value, (list, tuple)) or type(value).__name__ == "PersistentList":
        yield from ((f"[{place}]", item) for place, item in enumerate(value))
    elif isinstance(value, (AbstractSet, Persistent)) and hasattr(value, "__iter__"):
        yield from (("<item>", item) for item in value)
