"""The data covenants that stand in ALFRED's codex at genesis: bounded schemas of every artifact.

Every string and list is bounded, so that decoding under a grammar always ends.
"""

from __future__ import annotations

from typing import Any

from batos.kernel.genesis.personas import FACETS

SENTENCE_CHARS = 160
MOST_PARTS = 3
ANSWER_CHARS = 8000

COVENANTS: dict[str, dict[str, Any]] = {
    "mission_plan": {
        "type": "object",
        "description": "BRICK's plan: what the mission is about, and what each of the asked facets is to say about it",
        "additionalProperties": False,
        "required": ["goal", "parts"],
        "properties": {
            "goal": {"type": "string", "minLength": 8, "maxLength": SENTENCE_CHARS},
            "parts": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_PARTS,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["facet", "ask"],
                    "properties": {
                        "facet": {"type": "string", "enum": list(FACETS)},
                        "ask": {"type": "string", "minLength": 8, "maxLength": SENTENCE_CHARS},
                    },
                },
            },
        },
    },
    "answer": {
        "type": "object",
        "description": "What the Architect is told",
        "additionalProperties": False,
        "required": ["text"],
        "properties": {"text": {"type": "string", "minLength": 1, "maxLength": ANSWER_CHARS}},
    },
}
