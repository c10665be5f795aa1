"""JSON Schemas for structured output: what is accepted, and how it is made to end.

A small model fills an unbounded string until its tokens are gone. So every string and list must be bounded by whoever
wrote the schema; what a schema's author rarely means to leave open (further properties, digits of a number) is closed
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from batos.persona_inference.errors import RequestInvalid

MAX_DEPTH = 32
"""Levels of a schema."""
MAX_LENGTH = 20_000
"""Largest `maxLength`, in characters."""
MAX_ITEMS = 1_000
INTEGER_BOUND = 1_000_000_000
"""An integer without bounds stays within this on both sides."""
NUMBER_STEP = 0.001
"""A number without `multipleOf` has this many decimals."""

_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_COMMON = frozenset({"type", "title", "description", "default", "examples", "enum", "const", "anyOf", "oneOf"})
_KEYWORDS = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with everything bounded, so that decoding always ends.

    Raises:
        RequestInvalid: it is no such schema, or leaves a string or list open; the message names the place.
    """
    return _node(schema, "schema", 0)


def _node(node: Any, path: str, depth: int) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        _refuse("schema_invalid", path, f"is {node!r:.80}, not a schema")
    if depth > MAX_DEPTH:
        _refuse("schema_invalid", path, f"is more than {MAX_DEPTH} levels deep")
    kinds = _kinds(node, path)
    known = _COMMON.union(*(_KEYWORDS[kind] for kind in kinds))
    unknown = next((keyword for keyword in node if keyword not in known), None)
    if unknown is not None:
        _refuse("schema_invalid", path, f"has the keyword {unknown!r}, which engines do not enforce here")
    if "const" in node:
        return {"const": node["const"]}
    if "enum" in node:
        return {"enum": _list(node, "enum", path)}
    for union in ("anyOf", "oneOf"):
        if union in node:
            branches = _list(node, union, path)
            return {"anyOf": [_node(branch, f"{path}.{union}[{i}]", depth + 1) for i, branch in enumerate(branches)]}
    if not kinds:
        _refuse("schema_invalid", path, "names no type")
    result: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else list(kinds)}
    for kind in kinds:
        result.update(_BOUND[kind](node, path, depth))
    return result


def _list(node: Mapping[str, Any], name: str, path: str) -> list[Any]:
    found = node[name]
    if not isinstance(found, list | tuple) or not found:
        _refuse("schema_invalid", f"{path}.{name}", "is not a list of at least one")
    return list(found)


def _kinds(node: Mapping[str, Any], path: str) -> tuple[str, ...]:
    found = node.get("type", ())
    kinds = tuple(found) if isinstance(found, list | tuple) else (found,)
    for kind in kinds:
        if not isinstance(kind, str) or kind not in _TYPES:
            _refuse("schema_invalid", f"{path}.type", f"is {kind!r}, not one of {', '.join(sorted(_TYPES))}")
    return kinds


def _object(node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    properties = node.get("properties", {})
    required = node.get("required", [])
    if not isinstance(properties, Mapping):
        _refuse("schema_invalid", f"{path}.properties", "is not an object")
    if not isinstance(required, list | tuple) or not all(name in properties for name in required):
        _refuse("schema_invalid", f"{path}.required", "names what `properties` does not have")
    if node.get("additionalProperties", False) is not False:
        _refuse("schema_unbounded", path, "allows additional properties: name each one")
    return {
        "properties": {name: _node(value, f"{path}.{name}", depth + 1) for name, value in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _array(node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    if "items" not in node:
        _refuse("schema_invalid", path, "is a list without `items`")
    return {
        "items": _node(node["items"], f"{path}[]", depth + 1),
        **_whole(node, path, "minItems", MAX_ITEMS),
        **_whole(node, path, "maxItems", MAX_ITEMS, wanted=True),
    }


def _string(node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    del depth
    kept = {name: node[name] for name in ("pattern", "format") if name in node}
    return {
        **kept,
        **_whole(node, path, "minLength", MAX_LENGTH),
        **_whole(node, path, "maxLength", MAX_LENGTH, wanted=True),
    }


def _integer(node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    del depth
    return _range(node, path)


def _number(node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    del depth
    return {"multipleOf": NUMBER_STEP, **_range(node, path)}


def _nothing(node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    del node, path, depth
    return {}


_BOUND = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _nothing,
    "null": _nothing,
}


def _range(node: Mapping[str, Any], path: str) -> dict[str, Any]:
    found = {name: node[name] for name in _KEYWORDS["number"] if name in node}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse("schema_invalid", f"{path}.{name}", f"is {value!r:.80}, not a number")
    if not {"minimum", "exclusiveMinimum"} & found.keys():
        found["minimum"] = -INTEGER_BOUND
    if not {"maximum", "exclusiveMaximum"} & found.keys():
        found["maximum"] = INTEGER_BOUND
    return found


def _whole(node: Mapping[str, Any], path: str, name: str, most: int, *, wanted: bool = False) -> dict[str, int]:
    if name not in node:
        if wanted:
            _refuse("schema_unbounded", path, f"has no `{name}`")
        return {}
    value = node[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        _refuse("schema_invalid", f"{path}.{name}", f"is {value!r:.80}, not a whole number from 0 to {most}")
    return {name: value}


def _refuse(code: str, path: str, what: str) -> NoReturn:
    raise RequestInvalid(code, f"{path} {what}", "bound every string (maxLength) and list (maxItems) of the schema")
