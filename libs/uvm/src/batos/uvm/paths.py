"""Where something stands, in the words of the Architect: `lobby.alfred_prototype_obj.notes[3].lock`.

Paths are looked for only after a refusal, and only among what is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from persistent import Persistent
from persistent.list import PersistentList as _ListBase
from persistent.mapping import PersistentMapping as _MappingBase

from batos.uvm.values import (
    ATOMS,
    BTREES,
    PERSISTENT_VALUES,
    ZONED,
    ImageObject,
    PersistentSet,
)

MAX_VISITED = 100_000
"""How many values a search for a path looks at before it gives up."""

_CONTAINERS = (dict, list, tuple, set, frozenset)


def path_of(target: Any) -> str:
    """The shortest path from the image's root to a persistent object, or a name for it where none is in memory."""
    jar = target._p_jar  # noqa: SLF001 - ZODB's public protocol has underscores
    kind = "UvmObject" if isinstance(target, ImageObject) else type(target).__name__
    if jar is None:
        return kind
    try:
        root = jar.root()
    except KeyError:
        return kind
    if target is root:
        return "root"
    queue: deque[tuple[Any, str]] = deque((value, str(name)) for name, value in root.items())
    seen: set[int] = set()
    while queue and len(seen) < MAX_VISITED:
        value, path = queue.popleft()
        if value is target:
            return path
        if type(value) in ATOMS or id(value) in seen or _is_ghost(value):
            continue
        seen.add(id(value))
        if type(value) in BTREES and _has_bucket(value, target):
            return path
        queue.extend((item, path + place) for place, item in _inside(value))
    return kind


def first_refused(record: Any) -> str:
    """Where in an object's own record the first value stands that may not be stored; empty where none does."""
    return next(_refused(record, seen=set(), depth=0), "")


def _refused(value: Any, *, seen: set[int], depth: int) -> Iterator[str]:
    kind = type(value)
    known = kind in ATOMS or kind in ZONED
    separate = depth > 0 and (isinstance(value, ImageObject) or kind in PERSISTENT_VALUES)
    if known or separate or id(value) in seen:
        return
    seen.add(id(value))
    if depth > 0 and kind not in _CONTAINERS:
        yield ""
        return
    for place, item in _inside(value):
        for rest in _refused(item, seen=seen, depth=depth + 1):
            yield place + rest


def _is_ghost(value: Any) -> bool:
    return isinstance(value, Persistent) and value._p_changed is None  # noqa: SLF001 - ZODB's public protocol has underscores


def _has_bucket(tree: Any, target: Any) -> bool:
    """Whether `target` is one of the tree's own buckets. Loads the chain: buckets are records of their own."""
    bucket = getattr(tree, "_firstbucket", None)
    while bucket is not None:
        if bucket is target:
            return True
        bucket._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
        bucket = bucket._next  # noqa: SLF001 - the only way along the chain
    return False


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    """What stands directly in a value, with its place."""
    if isinstance(value, ImageObject):
        return [(f".{name}", item) for name, item in value.__dict__.items() if name[:1] != "_" or name[-1:] != "_"] + [
            (f".{name}", item) for name, item in value.__dict__.items() if name[:1] == "_" and name[-1:] == "_"
        ]
    if isinstance(value, dict | _MappingBase) or (type(value) in BTREES and hasattr(value, "items")):
        items = list(value.items())
        return [(f"[{key!r}]", item) for key, item in items] + [(f"<key {key!r}>", key) for key, _ in items]
    if isinstance(value, list | tuple | _ListBase):
        return [(f"[{place}]", item) for place, item in enumerate(value)]
    if isinstance(value, set | frozenset | PersistentSet) or type(value) in BTREES:
        return [("<item>", item) for item in value]
    return ()
