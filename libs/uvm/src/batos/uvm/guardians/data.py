"""The DataGuardian: every artifact has a schema, and a schema is a bounded subset of JSON Schema.

From a schema a pydantic model is made at run time; what the model refuses is not stored. The subset is small so that it
means the same to the model, to the engine that decodes under it and to the reader, and bounded so that decoding ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from keyword import iskeyword
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)
from pydantic import create_model as make_model

from batos.uvm.errors import CovenantBroken, NotStorable
from batos.uvm.values import plain

MAX_SCHEMA_DEPTH = 16
MAX_PROPERTIES = 100
MAX_ENUM = 1000
MAX_STRING_CHARS = 1_000_000
"""The largest `maxLength` that a schema may allow."""
MAX_ITEMS = 10_000
"""The largest `maxItems` that a schema may allow."""
MAX_REPORTED = 20
"""How many errors of one artifact are reported."""
MODELS_KEPT = 256

COVENANT = "data covenant"
_KEYWORDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "string": frozenset({"enum", "minLength", "maxLength"}),
    "integer": frozenset({"enum", "minimum", "maximum"}),
    "number": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "array": frozenset({"items", "minItems", "maxItems"}),
}
_ANYWHERE = frozenset({"type", "description"})


def model_from_schema(name: str, schema: Mapping[str, Any]) -> type[BaseModel]:
    """The pydantic model of a schema; the same one for the same name and schema.

    Args:
        name: the model's name, for people.
        schema: types object, string, integer, number, boolean, array; keywords properties, required,
            additionalProperties (false), enum, minLength, maxLength, minItems, maxItems, minimum, maximum,
            description. Its top is an object; every object says `additionalProperties: false`, every string
            `maxLength` (or `enum`), every array `items` and `maxItems`.

    Raises:
        CovenantBroken: the schema says something else; the errors name the places.
    """
    try:
        text = json.dumps(plain(schema), allow_nan=False)
    except (NotStorable, TypeError, ValueError) as wrong:
        raise CovenantBroken("schema", [f"it is not JSON: {wrong}"]) from wrong
    return _model(name, text)


def validate(schema: Mapping[str, Any], data: Any) -> Any:
    """The data as plain dicts and lists, after making sure that it is what the schema says.

    Raises:
        CovenantBroken: it is not; the errors name the places.
    """
    model = model_from_schema("Artifact", schema)
    try:
        artifact = model.model_validate(plain(data))
    except NotStorable as wrong:
        raise CovenantBroken(COVENANT, [f"{_place(())}: {wrong}"]) from None
    except ValidationError as wrong:
        raise CovenantBroken(COVENANT, _sentences(wrong)) from None
    return artifact.model_dump(by_alias=True, exclude_unset=True)


class DataGuardian:
    """The guardian as one object, for those who hold guardians by name."""

    model_from_schema = staticmethod(model_from_schema)
    validate = staticmethod(validate)


def _sentences(wrong: ValidationError) -> list[str]:
    found = wrong.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{_place(error['loc'])}: {error['msg']}" for error in found[:MAX_REPORTED]]
    return told if len(found) <= MAX_REPORTED else [*told, f"and {len(found) - MAX_REPORTED} more"]


def _place(location: tuple[int | str, ...]) -> str:
    told = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return told.removeprefix(".") or "the artifact"


@lru_cache(maxsize=MODELS_KEPT)
def _model(name: str, text: str) -> type[BaseModel]:
    schema = json.loads(text)
    errors: list[str] = []
    _check(schema, "schema", errors, depth=0)
    if not errors and schema["type"] != "object":
        errors.append("schema.type: the top of a schema is an object")
    if errors:
        raise CovenantBroken("schema", errors)
    return _object(name, schema)


def _check(schema: Any, path: str, errors: list[str], *, depth: int) -> None:
    if not isinstance(schema, dict):
        errors.append(f"{path}: a schema is an object")
        return
    if depth > MAX_SCHEMA_DEPTH:
        errors.append(f"{path}: nested more than {MAX_SCHEMA_DEPTH} deep")
        return
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        errors.append(f"{path}.type: {kind!r} is none of {', '.join(_KEYWORDS)}")
        return
    errors.extend(
        f"{path}.{keyword}: this keyword is not known for type {kind}"
        for keyword in schema
        if keyword not in _KEYWORDS[kind] | _ANYWHERE
    )
    if not isinstance(schema.get("description", ""), str):
        errors.append(f"{path}.description: it is not a string")
    _CHECKS[kind](schema, path, errors, depth)


def _check_object(schema: dict[str, Any], path: str, errors: list[str], depth: int) -> None:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        errors.append(f"{path}.properties: an object names its properties")
        return
    if len(properties) > MAX_PROPERTIES:
        errors.append(f"{path}.properties: {len(properties)} properties are more than {MAX_PROPERTIES}")
    if schema.get("additionalProperties") is not False:
        errors.append(f"{path}.additionalProperties: it must be false, so that decoding ends")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        errors.append(f"{path}.required: it is not a list of names")
    else:
        errors.extend(
            f"{path}.required: {name!r} is none of the properties" for name in required if name not in properties
        )
    for name, inner in properties.items():
        _check(inner, f"{path}.properties.{name}", errors, depth=depth + 1)


def _check_string(schema: dict[str, Any], path: str, errors: list[str], _depth: int) -> None:
    if "enum" in schema:
        _check_enum(schema["enum"], str, path, errors)
    elif "maxLength" not in schema:
        errors.append(f"{path}.maxLength: every string is bounded")
    _check_sizes(schema, path, errors, ("minLength", "maxLength", MAX_STRING_CHARS))


def _check_array(schema: dict[str, Any], path: str, errors: list[str], depth: int) -> None:
    if "maxItems" not in schema:
        errors.append(f"{path}.maxItems: every list is bounded")
    _check_sizes(schema, path, errors, ("minItems", "maxItems", MAX_ITEMS))
    if "items" not in schema:
        errors.append(f"{path}.items: a list says what its items are")
    else:
        _check(schema["items"], f"{path}.items", errors, depth=depth + 1)


def _check_integer(schema: dict[str, Any], path: str, errors: list[str], _depth: int) -> None:
    if "enum" in schema:
        _check_enum(schema["enum"], int, path, errors)
    _check_range(schema, path, errors, (int,))


def _check_number(schema: dict[str, Any], path: str, errors: list[str], _depth: int) -> None:
    _check_range(schema, path, errors, (int, float))


def _check_boolean(_schema: dict[str, Any], _path: str, _errors: list[str], _depth: int) -> None:
    """A boolean has no bounds."""


def _check_enum(given: Any, kind: type, path: str, errors: list[str]) -> None:
    if not isinstance(given, list) or not 0 < len(given) <= MAX_ENUM:
        errors.append(f"{path}.enum: it is a list of 1 to {MAX_ENUM} values")
    elif any(type(value) is not kind for value in given) or len(set(given)) != len(given):
        errors.append(f"{path}.enum: its values are different {'strings' if kind is str else 'integers'}")


def _check_sizes(schema: dict[str, Any], path: str, errors: list[str], names: tuple[str, str, int]) -> None:
    low_name, high_name, most = names
    low, high = schema.get(low_name, 0), schema.get(high_name, most)
    for name, value in ((low_name, low), (high_name, high)):
        if type(value) is not int or not 0 <= value <= most:
            errors.append(f"{path}.{name}: {value!r} is no whole number from 0 to {most}")
            return
    if low > high:
        errors.append(f"{path}.{low_name}: {low} is more than {high_name} {high}")


def _check_range(schema: dict[str, Any], path: str, errors: list[str], kinds: tuple[type, ...]) -> None:
    for name in ("minimum", "maximum"):
        if name in schema and type(schema[name]) not in kinds:
            errors.append(f"{path}.{name}: {schema[name]!r} is no {'whole ' if kinds == (int,) else ''}number")
            return
    if schema.get("minimum", float("-inf")) > schema.get("maximum", float("inf")):
        errors.append(f"{path}.minimum: it is more than maximum")


_CHECKS: Mapping[str, Callable[[dict[str, Any], str, list[str], int], None]] = {
    "object": _check_object,
    "string": _check_string,
    "integer": _check_integer,
    "number": _check_number,
    "boolean": _check_boolean,
    "array": _check_array,
}


def _object(name: str, schema: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    required = set(schema.get("required", ()))
    for place, (title, inner) in enumerate(schema["properties"].items()):
        own_name = title if _is_field_name(title) else f"{_MADE}{place}"
        settings: dict[str, Any] = {"alias": title, "description": inner.get("description")}
        if title not in required:
            settings["default"] = None
        fields[own_name] = (_type(f"{name}_{own_name}", inner), Field(**settings))
    model: type[BaseModel] = make_model(
        name,
        __config__=ConfigDict(
            extra="forbid", strict=True, frozen=True, populate_by_name=False, protected_namespaces=()
        ),
        __doc__=schema.get("description"),
        **fields,
    )
    return model


def _whole(value: Any) -> Any:
    """To Python, and so to `Literal`, True and 1.0 are 1; to the covenant they are not."""
    if type(value) is not int:
        raise ValueError("Input should be a valid integer")
    return value


_MADE = "property_"
"""Begins the names of fields whose properties have none that a field could have; and so no others."""


def _is_field_name(title: str) -> bool:
    usable = title.isidentifier() and title.isascii() and not title.startswith(("_", _MADE)) and not iskeyword(title)
    return usable and not hasattr(BaseModel, title)


def _type(name: str, schema: dict[str, Any]) -> Any:
    kind = schema["type"]
    if kind == "object":
        return _object(name, schema)
    if "enum" in schema:
        choice: Any = Literal[tuple(schema["enum"])]
        return Annotated[choice, BeforeValidator(_whole)] if kind == "integer" else choice
    if kind == "string":
        return Annotated[StrictStr, Field(min_length=schema.get("minLength"), max_length=schema["maxLength"])]
    if kind == "array":
        items = _type(f"{name}_item", schema["items"])
        return Annotated[list[items], Field(min_length=schema.get("minItems"), max_length=schema["maxItems"])]  # type: ignore[valid-type]  # made at run time
    bare = {"boolean": StrictBool, "integer": StrictInt, "number": StrictInt | StrictFloat}[kind]
    finite = False if kind == "number" else None
    return Annotated[bare, Field(ge=schema.get("minimum"), le=schema.get("maximum"), allow_inf_nan=finite)]
