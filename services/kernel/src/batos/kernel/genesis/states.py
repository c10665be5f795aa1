"""The seven states of the Prototypal State Machine as they are at genesis: who acts, where they lead, how they ask."""

from __future__ import annotations

from typing import Any

from batos.kernel.chronicle import ORCHESTRATOR
from batos.mind.lobby import ALFRED, BRICK, ROBIN

FIRST = "IDLE"
LAST = "COMPLETE"
FAILED = "FAILED"

TRIES = 3
"""A first attempt, and two more where its result was not valid."""

_EXAMPLES: list[dict[str, Any]] = [
    {
        "task": "How do I keep bread fresh for a week?",
        "plan": {
            "goal": "Keep bread fresh for a week.",
            "parts": [
                {"facet": "tech_bat", "ask": "Why does bread go stale or mouldy?"},
                {"facet": "pragmatist", "ask": "What is the simplest way to store bread?"},
            ],
        },
    },
    {
        "task": "Write a short birthday wish for my brother.",
        "plan": {
            "goal": "Write a short birthday wish for a brother.",
            "parts": [
                {"facet": "simple_heart", "ask": "Which kind words suit a brother's birthday?"},
                {"facet": "joyful_spark", "ask": "What would make this birthday wish fun?"},
            ],
        },
    },
    {
        "task": "Is it a good idea to learn the piano at sixty?",
        "plan": {
            "goal": "Judge whether to learn the piano at sixty.",
            "parts": [
                {"facet": "sage", "ask": "What matters most when learning the piano late in life?"},
                {"facet": "disruptor", "ask": "What could be hard about learning the piano at sixty?"},
            ],
        },
    },
    {
        "task": "Plan a small picnic for four people.",
        "plan": {
            "goal": "Plan a small picnic for four people.",
            "parts": [
                {"facet": "iceman", "ask": "Which steps are needed to plan the picnic?"},
                {"facet": "butler", "ask": "What must not be forgotten at a picnic?"},
            ],
        },
    },
    {
        "task": "What is a lighthouse?",
        "plan": {
            "goal": "Explain what a lighthouse is.",
            "parts": [
                {"facet": "tamland", "ask": "What is a lighthouse, in plain words?"},
                {"facet": "guide", "ask": "Which surprising fact is true of lighthouses?"},
            ],
        },
    },
    {
        "task": "Suggest a costume for a rainy carnival.",
        "plan": {
            "goal": "Suggest a costume for a rainy carnival.",
            "parts": [
                {"facet": "lego_batman", "ask": "Which bold costume would also keep the rain out?"},
                {"facet": "hitchhiker", "ask": "What else is useful at a rainy carnival?"},
            ],
        },
    },
]

STATES: dict[str, dict[str, Any]] = {
    "IDLE": {
        "persona": ORCHESTRATOR,
        "successors": ["DECOMPOSING", FAILED],
    },
    "DECOMPOSING": {
        "persona": BRICK,
        "successors": ["DELEGATING", FAILED],
        "meta_prompt": (
            "You take a task apart into small questions. Answer in JSON: the goal of the task in one sentence, then "
            "one to three parts. Each part asks one facet one short question about the task."
        ),
        "examples": _EXAMPLES,
        "examples_shown": 3,
        "tries": TRIES,
        "max_tokens": 384,
        "repeat_penalty": 1.0,
    },
    "DELEGATING": {
        "persona": ORCHESTRATOR,
        "successors": ["SYNTHESIZING", FAILED],
    },
    "SYNTHESIZING": {
        "persona": ROBIN,
        "successors": ["VALIDATING", FAILED],
        "meta_prompt": (
            "You answer the person's task directly and completely.\nIdeas from your friends, use what fits the task:"
        ),
        "max_tokens": 256,
        "repeat_penalty": 1.1,
    },
    "VALIDATING": {
        "persona": ALFRED,
        "successors": ["COMPLETE", FAILED],
        "tries": TRIES,
        "echo_words": 3,
    },
    "COMPLETE": {"persona": ORCHESTRATOR, "successors": []},
    "FAILED": {"persona": ORCHESTRATOR, "successors": []},
}
"""Slots of each state's prototype; its handler is the live method in `methods/<state>.py`."""

FACET_ASKING: dict[str, Any] = {
    "facet_prompt": "Answer in one to three short sentences.\nThink of this:",
    "facet_max_tokens": 96,
    "facet_repeat_penalty": 1.1,
}
"""How every persona asks its pillars; slots of the traits that all of them share."""
