"""Where something stands, in the words of the Architect: `lobby.alfred_prototype_obj.notes[3].lock`.

For a refusal they are looked for only among what is in memory; for what an undo did, in storage too, within bounds.
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
    ImageObject,
    PersistentSet,
)

MAX_VISITED = 100_000
"""How many values a search for a path looks at before it gives up."""
MAX_LOADED = 3_000
"""How many records it loads for that, where it may load any: a second or two over a network."""


def path_of(target: Any) -> str:
    """The shortest path from the image's root to a persistent object, or a name for it where none is in memory."""
    jar = target._p_jar  # noqa: SLF001 - ZODB's public protocol has underscores
    if jar is None:
        return _kind(target)
    try:
        root = jar.root()
    except KeyError:
        return _kind(target)
    return next((path for value, path in _reached(root, loads=0) if value is target), _kind(target))


def paths_of(targets: Iterable[Any]) -> dict[bytes, str]:
    """Where stored objects of one connection stand, by their ids. What is not in memory is loaded, within bounds.

    An object that is not found so has its class and its id for a name: it may be one of very many in a tree, or be
    reached from nowhere.
    """
    missing = {target._p_oid: target for target in targets}  # noqa: SLF001 - ZODB's public protocol has underscores
    found: dict[bytes, str] = {}
    if missing:
        root = next(iter(missing.values()))._p_jar.root()  # noqa: SLF001 - as above
        for value, path in _reached(root, loads=MAX_LOADED):
            oid: Any = getattr(value, "_p_oid", None)
            if missing.pop(oid, None) is not None:
                found[oid] = path
            if not missing:
                break
    return found | {oid: f"{_kind(target)} {int.from_bytes(oid, 'big'):#x}" for oid, target in missing.items()}


def _kind(target: Any) -> str:
    return "UvmObject" if isinstance(target, ImageObject) else type(target).__name__


def _reached(root: Any, *, loads: int) -> Iterator[tuple[Any, str]]:
    """What can be reached from the root, with its path: the nearest first, and what stands in trees last.

    Args:
        root: the image's root.
        loads: how many records may be loaded for it.
    """
    near = deque((value, str(name)) for name, value in root.items())
    in_trees: deque[tuple[Any, str]] = deque()
    seen = {id(value) for value, _ in near}
    yield root, "root"
    yield from list(near)
    while near or in_trees:
        queue = near or in_trees
        whole, path = queue.popleft()
        if _is_ghost(whole):
            if not loads:
                continue
            loads -= 1
            whole._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
        if type(whole) in BTREES:
            queue = in_trees
        for place, item in _inside(whole):
            if type(item) in ATOMS or id(item) in seen:
                continue
            if len(seen) >= MAX_VISITED:
                return
            seen.add(id(item))
            yield item, path + place
            queue.append((item, path + place))


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
