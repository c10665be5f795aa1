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
        queue.extend((item, path + place) for place, item in _inside(value))
    return kind


def records_of(value: Any) -> Iterator[Any]:
    """The records of their own that a slot's value consists of: lists, dicts, sets and trees, all the way down.

    They are loaded for it. Other objects of the image that stand in them are not followed.
    """
    stack = [value]
    seen: dict[int, Any] = {}  # keeps what it names, so that no id is used twice
    while stack:
        found = stack.pop()
        if isinstance(found, ImageObject) or type(found) in ATOMS or id(found) in seen:
            continue
        seen[id(found)] = found
        if type(found) in PERSISTENT_VALUES:
            found._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
            yield found
        stack.extend(item for _, item in _inside(found))


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


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    """What stands directly in a value, with its place. Nothing is loaded for it."""
    if isinstance(value, ImageObject):
        return [(f".{name}", item) for name, item in value.__dict__.items()]
    if type(value) in BTREES:
        return _inside_tree(value)
    if isinstance(value, dict | _MappingBase):
        return _places(value.items())
    if isinstance(value, list | tuple | _ListBase):
        return [(f"[{place}]", item) for place, item in enumerate(value)]
    if isinstance(value, set | frozenset | PersistentSet):
        return [("<item>", item) for item in value]
    return ()


def _inside_tree(node: Any) -> list[tuple[str, Any]]:
    """A node of a tree: its children, which have the tree's own path, or its items."""
    maps = hasattr(node, "items")
    if hasattr(node, "_next"):
        return _places(node.items() if maps else ((key, None) for key in node))
    state = node.__getstate__()
    if state is None:
        return []
    if len(state) == 1:  # so small a tree holds its only bucket itself
        content = state[0][0][0]
        return _places(zip(content[::2], content[1::2], strict=True) if maps else ((key, None) for key in content))
    children, keys = state[0][::2], state[0][1::2]
    return [("", child) for child in children] + [(f"<key {key!r}>", key) for key in keys]


def _places(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[str, Any]]:
    found = list(pairs)
    return [(f"[{key!r}]", item) for key, item in found] + [(f"<key {key!r}>", key) for key, _ in found]
