from __future__ import annotations

from typing import Any

import pytest

from batos.persona_inference.errors import RequestInvalid
from batos.persona_inference.schema import INTEGER_BOUND, MAX_DEPTH, NUMBER_STEP, bounded


def test_what_is_open_by_oversight_is_closed() -> None:
    """Objects take no further properties, numbers get ends and steps; titles and defaults are left out."""
    assert bounded(
        {
            "type": "object",
            "title": "Plan",
            "properties": {
                "name": {"type": "string", "maxLength": 10, "description": "of it"},
                "count": {"type": "integer"},
                "share": {"type": "number", "minimum": 0, "maximum": 1},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
                "done": {"type": "boolean", "default": False},
                "note": {"type": ["string", "null"], "maxLength": 5},
            },
            "required": ["name"],
        }
    ) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 10},
            "count": {"type": "integer", "minimum": -INTEGER_BOUND, "maximum": INTEGER_BOUND},
            "share": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": NUMBER_STEP},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
            "done": {"type": "boolean"},
            "note": {"type": ["string", "null"], "maxLength": 5},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_unions_and_constants_are_kept() -> None:
    """Each branch of a union is bounded by itself."""
    assert bounded({"oneOf": [{"const": "none"}, {"type": "string", "maxLength": 4}]}) == {
        "anyOf": [{"const": "none"}, {"type": "string", "maxLength": 4}]
    }


@pytest.mark.parametrize(
    ("schema", "code", "place"),
    [
        ({"type": "string"}, "schema_unbounded", "maxLength"),
        ({"type": "array", "items": {"type": "null"}}, "schema_unbounded", "maxItems"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "schema_unbounded", "schema.a"),
        ({"type": "object", "additionalProperties": True}, "schema_unbounded", "additional"),
        ({"type": "array", "maxItems": 3}, "schema_invalid", "items"),
        ({"type": "array", "maxItems": 3, "items": {"type": "string"}}, "schema_unbounded", "schema[]"),
        ({"type": "string", "maxLength": -1}, "schema_invalid", "maxLength"),
        ({"type": "string", "maxLength": True}, "schema_invalid", "maxLength"),
        ({"type": "string", "maxLength": 10**9}, "schema_invalid", "maxLength"),
        ({"type": "integer", "minimum": "0"}, "schema_invalid", "minimum"),
        ({"type": "nope"}, "schema_invalid", "nope"),
        ({"type": 5}, "schema_invalid", "type"),
        ({"$ref": "#/$defs/x"}, "schema_invalid", "$ref"),
        ({"type": "object", "properties": {"a": 5}}, "schema_invalid", "schema.a"),
        ({"type": "object", "properties": [], "required": []}, "schema_invalid", "properties"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "schema_invalid", "required"),
        ({"enum": []}, "schema_invalid", "enum"),
        ({"anyOf": "x"}, "schema_invalid", "anyOf"),
        ({"description": "of nothing"}, "schema_invalid", "type"),
        ([], "schema_invalid", "schema"),
    ],
)
def test_what_would_not_end_or_is_no_schema_is_refused(schema: Any, code: str, place: str) -> None:
    """The error names the place and says what to do."""
    with pytest.raises(RequestInvalid) as refused:
        bounded(schema)
    assert refused.value.code == code
    assert place in refused.value.message
    assert refused.value.hint


def test_a_schema_without_bottom_is_refused() -> None:
    """Deeper than any plan needs."""
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(MAX_DEPTH + 1):
        schema = {"type": "array", "maxItems": 1, "items": schema}
    with pytest.raises(RequestInvalid, match="levels deep"):
        bounded(schema)
