"""Data covenant and identity covenant."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from BTrees.OOBTree import OOBTree
from hypothesis import given
from hypothesis import strategies as st

from batos.uvm import (
    CovenantBroken,
    DataGuardian,
    IdentityGuardian,
    PersistentDict,
    UvmObject,
    install_method,
    model_from_schema,
    validate,
)
from batos.uvm.guardians.identity import PERSONAS, STATES


def an_object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


PLAN = an_object(
    {
        "goal": {"type": "string", "minLength": 1, "maxLength": 200, "description": "what it is for"},
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": an_object(
                {
                    "persona": {"type": "string", "enum": ["BRICK", "BABS"]},
                    "effort": {"type": "integer", "minimum": 1, "maximum": 9},
                    "class": {"type": "number", "minimum": 0},
                    "model_fields": {"type": "boolean"},
                    "level": {"type": "integer", "enum": [1, 2]},
                },
                ["persona"],
            ),
        },
        "ünüsual name": {"type": "boolean"},
    },
    ["goal", "steps"],
)
TEXT = {"type": "string", "maxLength": 5}
STEP = {"persona": "BRICK", "effort": 2, "class": 0.5, "model_fields": True, "level": 1}
GOOD = {"goal": "x", "steps": [STEP, {"persona": "BABS"}], "ünüsual name": False}


def test_data_that_keeps_its_covenant_comes_back_plain() -> None:
    """Exactly as given: no property is added for what was left out."""
    assert validate(PLAN, GOOD) == GOOD
    assert validate(PersistentDict(PLAN), PersistentDict(GOOD)) == GOOD
    assert DataGuardian.validate(PLAN, {"goal": "x", "steps": [STEP]}) == {"goal": "x", "steps": [STEP]}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"goal": ""}, "goal: "),
        ({"goal": "x" * 201}, "goal: "),
        ({"goal": 3}, "goal: "),
        ({"goal": None}, "goal: "),
        ({"steps": []}, "steps: "),
        ({"steps": [STEP] * 4}, "steps: "),
        ({"steps": {"0": STEP}}, "steps: "),
        ({"steps": [{}]}, "steps[0].persona: "),
        ({"steps": [STEP, STEP | {"persona": "ROBIN"}]}, "steps[1].persona: "),
        ({"steps": [STEP | {"effort": 10}]}, "steps[0].effort: "),
        ({"steps": [STEP | {"effort": 1.5}]}, "steps[0].effort: "),
        ({"steps": [STEP | {"effort": True}]}, "steps[0].effort: "),
        ({"steps": [STEP | {"effort": "2"}]}, "steps[0].effort: "),
        ({"steps": [STEP | {"class": -1}]}, "steps[0].class"),
        ({"steps": [STEP | {"class": float("nan")}]}, "steps[0].class"),
        ({"steps": [STEP | {"class": float("inf")}]}, "steps[0].class"),
        ({"steps": [STEP | {"class": False}]}, "steps[0].class"),
        ({"steps": [STEP | {"class": "1"}]}, "steps[0].class"),
        ({"steps": [STEP | {"model_fields": 1}]}, "steps[0].model_fields: "),
        ({"steps": [STEP | {"model_fields": None}]}, "steps[0].model_fields: "),
        ({"steps": [STEP | {"level": 3}]}, "steps[0].level: "),
        ({"steps": [STEP | {"level": True}]}, "steps[0].level: "),
        ({"steps": [STEP | {"extra": 1}]}, "steps[0].extra: "),
        ({"ünüsual name": "yes"}, "ünüsual name: "),
    ],
)
def test_data_that_breaks_its_covenant_is_refused_with_the_place(change: dict[str, Any], place: str) -> None:
    """Nothing is coerced: text is no number, one is no truth."""
    with pytest.raises(CovenantBroken) as caught:
        validate(PLAN, GOOD | change)
    assert caught.value.covenant == "data covenant"
    assert len(caught.value.errors) >= 1
    assert all(error.startswith(place) for error in caught.value.errors)


def test_a_property_may_have_a_name_that_a_model_would_make_up() -> None:
    """It is required all the same."""
    number = {"type": "integer"}
    schema = an_object({"property_1": TEXT, "_x": number, "property_": number, "class": number})
    data = {"property_1": "a", "_x": 1, "property_": 2, "class": 3}
    assert validate(schema, data) == data
    for name in data:
        with pytest.raises(CovenantBroken, match=f"{name}: Field required"):
            validate(schema, {other: value for other, value in data.items() if other != name})


def test_data_without_an_end_is_refused() -> None:
    """An artifact or schema that contains itself, or is as deep as if it did."""
    loop = PersistentDict({"goal": "x"})
    loop["steps"] = loop
    deep = PersistentDict()
    for _ in range(3000):
        deep = PersistentDict({"goal": deep})
    for data in (loop, deep):
        with pytest.raises(CovenantBroken, match="data covenant: the artifact: nested more than 100 deep") as caught:
            validate(PLAN, data)
        assert caught.value.covenant == "data covenant"
        with pytest.raises(CovenantBroken, match="schema: it is not JSON: nested more than 100 deep"):
            model_from_schema("Endless", data)


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_an_artifact_is_an_object(data: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(CovenantBroken, match="the artifact: "):
        validate(PLAN, data)


def test_an_artifact_with_many_errors_is_reported_briefly() -> None:
    """The report is bounded, and says how much more there is."""
    schema = an_object({"items": {"type": "array", "maxItems": 1000, "items": {"type": "boolean"}}})
    with pytest.raises(CovenantBroken) as caught:
        validate(schema, {"items": ["x"] * 1000})
    assert len(caught.value.errors) == 21
    assert caught.value.errors[-1] == "and 980 more"


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "string", "maxLength": 3}, "schema.type: the top"),
        ({}, "schema.type: None is none of"),
        ([], "schema: a schema is an object"),
        ({"type": ["object", "null"]}, "schema.type: "),
        ({"type": "object"}, "schema.properties: "),
        ({"type": "object", "properties": {"a": TEXT}}, "schema.additionalProperties: "),
        (an_object({"a": TEXT}) | {"additionalProperties": True}, "schema.additionalProperties: "),
        (an_object({"a": TEXT}, ["b"]), "schema.required: 'b'"),
        (an_object({"a": TEXT}) | {"required": "a"}, "schema.required: "),
        (an_object({"a": {"type": "string"}}), "schema.properties.a.maxLength: every string is bounded"),
        (an_object({"a": {"type": "array", "items": TEXT}}), "schema.properties.a.maxItems: every list is bounded"),
        (an_object({"a": {"type": "array", "maxItems": 3}}), "schema.properties.a.items: "),
        (an_object({"a": TEXT | {"pattern": "x"}}), "schema.properties.a.pattern: this keyword is not known"),
        (an_object({"a": TEXT | {"format": "date"}}), "schema.properties.a.format: "),
        (an_object({"a": {"$ref": "#"}}), "schema.properties.a.type: "),
        (an_object({"a": {"anyOf": [TEXT]}}), "schema.properties.a.type: "),
        (an_object({"a": {"type": "null"}}), "schema.properties.a.type: "),
        (an_object({"a": TEXT}) | {"$defs": {}}, "schema.$defs: "),
        (an_object({"a": TEXT | {"minLength": 6}}), "schema.properties.a.minLength: 6 is more than"),
        (an_object({"a": TEXT | {"minLength": -1}}), "schema.properties.a.minLength: "),
        (an_object({"a": TEXT | {"maxLength": True}}), "schema.properties.a.maxLength: "),
        (an_object({"a": TEXT | {"maxLength": 10**9}}), "schema.properties.a.maxLength: "),
        (an_object({"a": TEXT | {"description": 3}}), "schema.properties.a.description: "),
        (an_object({"a": {"type": "string", "enum": []}}), "schema.properties.a.enum: "),
        (an_object({"a": {"type": "string", "enum": ["x", 1]}}), "schema.properties.a.enum: "),
        (an_object({"a": {"type": "string", "enum": ["x", "x"]}}), "schema.properties.a.enum: "),
        (an_object({"a": {"type": "integer", "enum": [True]}}), "schema.properties.a.enum: "),
        (an_object({"a": {"type": "integer", "minimum": "1"}}), "schema.properties.a.minimum: "),
        (an_object({"a": {"type": "integer", "minimum": 1.5}}), "schema.properties.a.minimum: "),
        (an_object({"a": {"type": "number", "minimum": 2, "maximum": 1}}), "schema.properties.a.minimum: "),
        (an_object({"a": {"type": "boolean", "enum": [True]}}), "schema.properties.a.enum: "),
        (an_object({f"p{number}": TEXT for number in range(101)}), "schema.properties: 101 properties"),
        (an_object({"a": object()}), "it is not JSON"),
        (an_object({"a": {"type": "number", "minimum": float("nan")}}), "it is not JSON"),
    ],
)
def test_a_schema_outside_of_the_subset_is_refused_with_the_place(schema: Any, place: str) -> None:
    """Nothing is ignored silently, and everything is bounded."""
    with pytest.raises(CovenantBroken) as caught:
        model_from_schema("Bad", schema)
    assert caught.value.covenant == "schema"
    assert any(error.startswith(place) for error in caught.value.errors), caught.value.errors


def test_a_schema_nested_without_end_is_refused() -> None:
    """Depth is bounded too."""
    schema: dict[str, Any] = TEXT
    for _ in range(40):
        schema = an_object({"a": schema})
    with pytest.raises(CovenantBroken, match="nested more than 16 deep"):
        model_from_schema("Deep", schema)


def test_a_model_is_made_once_and_is_usable_by_name() -> None:
    """The same schema is the same model, with its descriptions."""
    model = model_from_schema("Plan", PLAN)
    assert model is model_from_schema("Plan", json.loads(json.dumps(PLAN)))
    plan: Any = model.model_validate(GOOD)
    assert plan.goal == "x"
    assert plan.steps[0].persona == "BRICK"
    assert model.model_fields["goal"].description == "what it is for"


def _values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = schema["type"]
    if kind == "object":
        required = {name: _values(inner) for name, inner in schema["properties"].items() if name in schema["required"]}
        optional = {
            name: _values(inner) for name, inner in schema["properties"].items() if name not in schema["required"]
        }
        return st.fixed_dictionaries(required, optional=optional)
    if kind == "array":
        return st.lists(_values(schema["items"]), max_size=4)
    if "enum" in schema:
        return st.sampled_from([*schema["enum"], "other", 7])
    return {
        "string": st.text(max_size=4),
        "integer": st.integers(-1, 11),
        "number": st.one_of(st.integers(-1, 3), st.floats(-1, 3)),
        "boolean": st.one_of(st.booleans(), st.none()),
    }[kind]


@given(_values(PLAN))
def test_the_model_judges_as_json_schema_does(data: Any) -> None:
    """An independent validator of the standard agrees about every artifact."""
    honest = jsonschema.Draft202012Validator(PLAN).is_valid(data)
    # 2.0 is an integer to JSON Schema; to the covenant it is not, as no such value survives a round trip unchanged.
    try:
        assert validate(PLAN, data) == data
        assert honest
    except CovenantBroken:
        assert not honest


def an_organization() -> dict[str, Any]:
    handler = UvmObject()
    install_method(
        handler, "_process_synthesis_", "def _process_synthesis_(self, cycle): return cycle", author="genesis"
    )
    lobby = UvmObject(
        psm_prototypes_obj=UvmObject(
            **{name: UvmObject([handler], name=name, persona="ORCHESTRATOR") for name in STATES}
        ),
        pLLM_obj=UvmObject(lora_repository=OOBTree({"brick-1": UvmObject()})),
    )
    for persona in PERSONAS:
        dna = {"temperature": 0.5, "base_model_id": "m", "version": 1, "adapters": {}, "previous": {}}
        pillars = {f"{name}_facet_": "Be brief." for name in "abc"}
        found = UvmObject(name=persona, codex="stands", dna=dna, pillars=pillars)
        setattr(lobby, f"{persona.lower()}_prototype_obj", found)
    return {"lobby": lobby}


def test_a_whole_organization_passes() -> None:
    """With or without bound adapters; parts may be dicts or objects."""
    root = an_organization()
    IdentityGuardian.check(root)
    root["lobby"].brick_prototype_obj.dna["adapters"] = {"model-hash": "brick-1", "other": "", "third": None}
    root["lobby"].babs_prototype_obj.codex = UvmObject(duty="facts")
    root["lobby"].babs_prototype_obj.pillars = UvmObject(a_facet_="x", b_facet_="y", c_facet_="z")
    IdentityGuardian.check(root)


def _no_persona(lobby: Any) -> str:
    del lobby.robin_prototype_obj
    return "lobby.robin_prototype_obj: the persona is missing"


def _no_codex(lobby: Any) -> str:
    lobby.alfred_prototype_obj.codex = "  "
    return "lobby.alfred_prototype_obj.codex: it is missing or empty"


def _no_dna(lobby: Any) -> str:
    del lobby.babs_prototype_obj.dna
    return "lobby.babs_prototype_obj.dna: it is missing or empty"


def _two_pillars(lobby: Any) -> str:
    del lobby.brick_prototype_obj.pillars["a_facet_"]
    return "lobby.brick_prototype_obj.pillars: there are 2 of 3"


def _no_machine(lobby: Any) -> str:
    lobby.psm_prototypes_obj = 3
    return "lobby.psm_prototypes_obj: the state machine is missing"


def _no_state(lobby: Any) -> str:
    del lobby.psm_prototypes_obj.VALIDATING
    return "lobby.psm_prototypes_obj.VALIDATING: the state is missing"


def _no_handler(lobby: Any) -> str:
    lobby.psm_prototypes_obj.FAILED.parents = ()
    return "lobby.psm_prototypes_obj.FAILED: it does not understand _process_synthesis_"


def _one_persona_in_anothers_place(lobby: Any) -> str:
    lobby.alfred_prototype_obj = lobby.brick_prototype_obj
    return "lobby.alfred_prototype_obj.name: it says 'BRICK', and ALFRED is to stand here"


def _one_persona_that_inherits_its_name(lobby: Any) -> str:
    lobby.alfred_prototype_obj = UvmObject([lobby.alfred_prototype_obj])
    return "lobby.alfred_prototype_obj.name: it says None, and ALFRED is to stand here"


def _one_state_in_anothers_place(lobby: Any) -> str:
    lobby.psm_prototypes_obj.VALIDATING = lobby.psm_prototypes_obj.COMPLETE
    return "lobby.psm_prototypes_obj.VALIDATING.name: it says 'COMPLETE', and VALIDATING is to stand here"


def _nobody_acts(lobby: Any) -> str:
    lobby.psm_prototypes_obj.IDLE.persona = "JOKER"
    names = "ROBIN, BRICK, BABS, ALFRED, ORCHESTRATOR"
    return f"lobby.psm_prototypes_obj.IDLE.persona: it says 'JOKER', and is one of {names}"


def _no_adapter(lobby: Any) -> str:
    lobby.brick_prototype_obj.dna["adapters"] = {"model-hash": "brick-2"}
    return "lobby.brick_prototype_obj.dna.adapters['model-hash']: the adapter brick-2 is not in the repository"


def _no_repository(lobby: Any) -> str:
    del lobby.pLLM_obj
    return "lobby.pLLM_obj.lora_repository: it is missing"


@pytest.mark.parametrize(
    "loss",
    [
        _no_persona,
        _no_codex,
        _no_dna,
        _two_pillars,
        _no_machine,
        _no_state,
        _no_handler,
        _one_persona_in_anothers_place,
        _one_persona_that_inherits_its_name,
        _one_state_in_anothers_place,
        _nobody_acts,
        _no_adapter,
        _no_repository,
    ],
    ids=lambda loss: loss.__name__,
)
def test_whatever_the_organization_lost_is_named(loss: Any) -> None:
    """One sentence a loss, with its path."""
    root = an_organization()
    expected = loss(root["lobby"])
    with pytest.raises(CovenantBroken) as caught:
        IdentityGuardian.check(root)
    assert caught.value.covenant == "identity covenant"
    assert caught.value.errors == (expected,)


def test_an_empty_image_has_no_identity() -> None:
    """All that is missing is named at once."""
    with pytest.raises(CovenantBroken) as caught:
        IdentityGuardian.check({"lobby": UvmObject()})
    assert len(caught.value.errors) == 6
    with pytest.raises(CovenantBroken, match="lobby: there is none"):
        IdentityGuardian.check({})
