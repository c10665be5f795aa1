"""What stands at a path, in the words of the Architect: `lobby.alfred_prototype_obj.codex['covenants']`.

A path begins with a name of the image's root. `.name` reads a slot or live method of an object as the object itself
would read it, inherited or not; `[key]` reads an item of a mapping, tree, list or tuple. Nothing is called.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from persistent import Persistent

from batos.uvm.errors import BadPath, MessageNotUnderstood
from batos.uvm.methods import LiveMethod, method_of
from batos.uvm.objects import UvmObject, find
from batos.uvm.session import Root
from batos.uvm.sketch import short_text
from batos.uvm.values import BTREES

MAX_PATH_CHARS = 1000


@dataclass(frozen=True)
class Place:
    """What a path leads to.

    Attributes:
        path: the path.
        value: the object or value; None where it is a live method.
        holder: what has the record in which it stands: the object whose slot or method it is, the container whose item
            it is; of a tree's item the part of that tree in which it lies.
        method: the live method in force, where it is one.
    """

    path: str
    value: Any
    holder: Any = None
    method: LiveMethod | None = None


def place_at(root: Root, path: str) -> Place:
    """Return what stands at a path.

    Raises:
        BadPath: it is no path, or leads nowhere; the error says how far it led.
    """
    if len(path) > MAX_PATH_CHARS:
        raise BadPath(f"{path[:40]}…", f"a path has at most {MAX_PATH_CHARS} characters")
    name, *steps = _steps(path)
    if name not in root:
        raise BadPath(path, f"the image has no {name!r}; it has {', '.join(sorted(map(str, root)))}")
    place = Place(name, root[name], root)
    for attribute, key in steps:
        place = _slot(place, key) if attribute else _item(place, key)
    return place


def _steps(path: str) -> list[Any]:
    """Return the root's name, then pairs of whether it is a slot and which."""
    try:
        node: ast.expr = ast.parse(path.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadPath(path, "write it like lobby.alfred_prototype_obj.codex['covenants']") from None
    steps: list[Any] = []
    while not isinstance(node, ast.Name):
        match node:
            case ast.Attribute():
                steps.append((True, node.attr))
                node = node.value
            case ast.Subscript():
                steps.append((False, _key(path, node.slice)))
                node = node.value
            case _:
                raise BadPath(path, "a path has names, slots and [keys] only")
    return [node.id, *reversed(steps)]


def _key(path: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise BadPath(path, "a key is a text, a number, or a tuple of them") from None


def _slot(place: Place, name: str) -> Place:
    path = f"{place.path}.{name}"
    if not isinstance(place.value, UvmObject):
        raise BadPath(path, f"{place.path} is no object with slots, but {_kind(place)}")
    if name == "parents":
        return Place(path, place.value.parents, place.value)
    try:
        holder, value, record = find(place.value, name)
    except MessageNotUnderstood:
        raise BadPath(path, f"{place.path} has no slot or method {name!r}, nor inherits one") from None
    method = method_of(holder, name)[1] if record is not None else None
    return Place(path, value, holder, method)


def _item(place: Place, key: Any) -> Place:
    path = f"{place.path}[{key!r}]"
    whole = place.method is not None or isinstance(place.value, UvmObject | str | bytes)
    if whole or not hasattr(place.value, "__getitem__"):
        raise BadPath(path, f"{place.path} has no items, it is {_kind(place)}")
    try:
        return Place(path, place.value[key], _part_with(key, place))
    except (LookupError, TypeError):
        raise BadPath(path, f"{place.path} has no item {key!r}{_near(place.value)}") from None


def _part_with(key: Any, whole: Place) -> Any:
    """Return what has the record in which an item stands."""
    node = whole.value
    if not isinstance(node, Persistent):
        return whole.holder
    while type(node) in BTREES and not hasattr(node, "_next"):
        state = node.__getstate__()
        if len(state) == 1:  # so small a tree holds its only bucket itself
            break
        children, keys = state[0][::2], state[0][1::2]
        node = children[0 if key is None else bisect_right(keys, key)]
    return node


def _near(value: Any) -> str:
    """Return some of the keys that there are."""
    if not hasattr(value, "keys"):
        return f"; it has {len(value)}"
    found: list[str] = []
    keys: Iterator[Any] = iter(value.keys())
    for key in keys:
        if len(found) == _SHOWN_KEYS:
            found.append("…")
            break
        found.append(short_text(key))
    return f"; it has {', '.join(found) or 'none'}"


def _kind(place: Place) -> str:
    if place.method is not None:
        return "a live method"
    return "an object" if isinstance(place.value, UvmObject) else f"a {type(place.value).__name__}"


_SHOWN_KEYS = 12
