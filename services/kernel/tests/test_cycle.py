"""A thought from IDLE to COMPLETE, with an engine that answers by script."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batos import mind as image_mind
from batos.kernel import missions
from batos.kernel.genesis import STATES
from batos.protocol import ChatMessage, EventType, FacetAnswered, FacetAsked, StateEntered
from batos.uvm import plain


def test_happy_path_in_order(mind: Any) -> None:
    """A mission goes through every state; records and events stand in the order of the design's table."""
    outcome = mind.think()
    assert outcome.outcome == "COMPLETE"
    assert outcome.answer == "Call it Drip."
    assert mind.told.line == [
        "IDLE:STATE_TRANSITION",
        "DECOMPOSING:STATE_TRANSITION",
        "DECOMPOSING:LLM_PROMPT",
        "DECOMPOSING:LLM_RESPONSE",
        "DECOMPOSING:ARTIFACT_GENERATED",
        "DELEGATING:STATE_TRANSITION",
        "DELEGATING:DELEGATION_START",
        "DELEGATING:LLM_PROMPT",
        "DELEGATING:LLM_PROMPT",
        "DELEGATING:LLM_RESPONSE",
        "DELEGATING:LLM_RESPONSE",
        "DELEGATING:DELEGATION_COMPLETE",
        "SYNTHESIZING:STATE_TRANSITION",
        "SYNTHESIZING:LLM_PROMPT",
        "SYNTHESIZING:LLM_RESPONSE",
        "SYNTHESIZING:ARTIFACT_GENERATED",
        "VALIDATING:STATE_TRANSITION",
        "VALIDATING:VALIDATION_ATTEMPT",
        "VALIDATING:VALIDATION_SUCCESS",
        "COMPLETE:STATE_TRANSITION",
        "COMPLETE:FINAL_OUTCOME",
    ]
    assert mind.engine.batches == [1, 2, 1]
    kinds = [
        (type(event).__name__, event.state if isinstance(event, StateEntered) else event.label.step)
        for _, event in mind.told.events
        if isinstance(event, (StateEntered, FacetAsked, FacetAnswered))
    ]
    assert kinds == [
        ("StateEntered", "IDLE"),
        ("StateEntered", "DECOMPOSING"),
        ("FacetAsked", "plan"),
        ("FacetAnswered", "plan"),
        ("StateEntered", "DELEGATING"),
        ("FacetAsked", "facet-1"),
        ("FacetAsked", "facet-2"),
        ("FacetAnswered", "facet-1"),
        ("FacetAnswered", "facet-2"),
        ("StateEntered", "SYNTHESIZING"),
        ("FacetAsked", "weave"),
        ("FacetAnswered", "weave"),
        ("StateEntered", "VALIDATING"),
        ("StateEntered", "COMPLETE"),
    ]


def test_outcome_and_record_agree(mind: Any) -> None:
    """The answer, its tid and where it came from stand in the image as the outcome says, and the thought beside it."""
    ticket = mind.accept("Suggest a name for a small boat.")
    outcome = mind.cycle(ticket).run()
    with mind.image.snapshot() as root:
        record = missions.find(root, ticket.mission_id)
        status = missions.status(record)
        assert record.thought.plan[0] == "Name a small boat."
        assert "_tmp_synthesis_data" not in dir(record.thought)
        assert record.thought.synthesis_state.name == "COMPLETE"
    assert (status.state, status.answer, status.tid) == ("COMPLETE", "Call it Drip.", outcome.tid)
    assert outcome.tid == mind.image.last_tid()
    assert outcome.snapshot_tid < outcome.tid
    assert outcome.personas == status.personas == ("BRICK", "ROBIN", "ALFRED")
    assert (outcome.weaver, outcome.model, outcome.adapter, outcome.dna_version) == ("ROBIN", "words", "", 1)
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (40, 20)


def test_records_carry_what_the_design_names(mind: Any) -> None:
    """Every record names cycle, mission, snapshot, state and persona; prompts can be paired."""
    ticket = mind.accept("Suggest a name for a small boat.")
    outcome = mind.cycle(ticket).run()
    for _, fields in mind.told.records:
        assert fields["cycle_id"] == ticket.cycle_id
        assert fields["mission_id"] == ticket.mission_id
        assert fields["snapshot_tid"] == outcome.snapshot_tid
        assert fields["active_persona"]
    prompts, answers = mind.told.of(EventType.LLM_PROMPT), mind.told.of(EventType.LLM_RESPONSE)
    assert [p["prompt_hash"] for p in prompts] == [a["prompt_hash"] for a in answers]
    assert len({p["prompt_hash"] for p in prompts}) == 4
    messages = [ChatMessage(**message) for message in json.loads(prompts[0]["llm_prompt"])]
    assert [message.role for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert prompts[0]["active_persona"] == "BRICK"
    assert answers[0]["detail"]["finish_reason"] == "stop"
    assert answers[1]["detail"]["facet"] == "sage"
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert (final["final_outcome"], final["transaction_id"]) == ("COMPLETE", outcome.tid)
    assert all("transaction_id" not in fields for kind, fields in mind.told.records if kind != EventType.FINAL_OUTCOME)


def test_weaver_can_be_named(mind: Any) -> None:
    """A mission that names a weaver is woven by that persona, with its voice and temperature."""
    outcome = mind.think(weaver="BABS")
    assert outcome.weaver == "BABS"
    assert outcome.personas == ("BRICK", "ROBIN", "ALFRED", "BABS")
    woven = mind.engine.asked[-1]
    assert woven.label.persona == "BABS"
    assert woven.messages[0].content.startswith("You are BABS")
    (entered,) = [e for _, e in mind.told.events if isinstance(e, StateEntered) and e.state == "SYNTHESIZING"]
    assert entered.persona == "BABS"


def test_partial_answers_reach_the_weaver(mind: Any) -> None:
    """What the facets said stands in the weaving prompt; an empty partial answer is left out."""
    mind.engine.steps["facet-1"] = "Water matters."
    mind.engine.steps["facet-2"] = "   "
    assert mind.think().outcome == "COMPLETE"
    system = mind.engine.asked[-1].messages[0].content
    assert "- Water matters." in system
    assert system.count("\n- ") == 1
    (done,) = mind.told.of(EventType.DELEGATION_COMPLETE)
    assert done["detail"] == {"asked": 2, "answered": 1}


def test_same_part_twice_is_asked_once(mind: Any) -> None:
    """A plan that names the same part twice has it asked once."""
    part = {"facet": "guide", "ask": "What is odd about boats?"}
    mind.engine.steps["plan"] = json.dumps({"goal": "Name a small boat.", "parts": [part, part]})
    assert mind.think().outcome == "COMPLETE"
    assert mind.engine.batches == [1, 1, 1]


def test_copied_parts_are_left_out(mind: Any) -> None:
    """A part copied from a worked example is not asked; where nothing else was planned, the goal itself is."""
    copied = dict(STATES["DECOMPOSING"]["examples"][0]["plan"]["parts"][0])
    own = {"facet": "guide", "ask": "What is odd about boats?"}
    mind.engine.steps["plan"] = json.dumps({"goal": "Name a small boat.", "parts": [copied, own]})
    assert mind.think().outcome == "COMPLETE"
    assert [prompt.label.facet for prompt in mind.engine.asked] == ["", "guide", ""]
    mind.engine.asked.clear()
    mind.engine.steps["plan"] = json.dumps({"goal": "Name a small boat.", "parts": [copied]})
    assert mind.think().outcome == "COMPLETE"
    assert mind.engine.asked[1].label.facet == copied["facet"]
    assert mind.engine.asked[1].messages[0].content.endswith("Name a small boat.")


def test_cut_answer_ends_with_a_sentence(mind: Any) -> None:
    """An answer that ran into its bound loses its unfinished last sentence."""
    mind.engine.steps["weave"] = lambda _: mind.engine.inferred(
        "Call it Drip. It leaks a little. And it al", finish_reason="length"
    )
    assert mind.think().answer == "Call it Drip. It leaks a little."


def test_bound_adapter_is_asked(mind: Any) -> None:
    """A persona with an adapter bound on the engine's model is asked with it, and the outcome names it."""

    def bind(root: Any) -> None:
        robin = image_mind.persona(root, "ROBIN")
        robin.dna = {**plain(robin.dna), "version": 2, "adapters": {mind.engine.model_hash: "robin-1"}}

    mind.image.run(bind)
    outcome = mind.think()
    assert (outcome.adapter, outcome.dna_version) == ("robin-1", 2)
    assert [(prompt.label.step, prompt.adapter) for prompt in mind.engine.asked] == [
        ("plan", ""),
        ("facet-1", "robin-1"),
        ("facet-2", ""),
        ("weave", "robin-1"),
    ]


def test_seeds_are_those_of_the_mission(mind: Any) -> None:
    """The same mission draws with the same seeds and examples again; another mission draws with others."""
    first, again, other = "0" * 31 + "1", "0" * 31 + "1", "0" * 31 + "2"
    drawn = []
    for mission_id in (first, again, other):
        mind.engine.asked.clear()
        ticket = mind.accept("Suggest a name for a small boat.", mission_id=mission_id)
        if mission_id == again and drawn:
            mind.image.run(lambda root, m=mission_id: setattr(missions.find(root, m), "state", "RUNNING"))
            ticket = mind.image.run(lambda root, m=mission_id: missions.ticket(missions.find(root, m)))
        mind.cycle(ticket).run()
        drawn.append([(prompt.sampling.seed, prompt.messages) for prompt in mind.engine.asked])
    assert drawn[0] == drawn[1]
    assert {seed for seed, _ in drawn[0]}.isdisjoint({seed for seed, _ in drawn[2]})


@pytest.mark.parametrize("weaver", ["ROBIN", "BRICK", "BABS", "ALFRED"])
def test_every_persona_can_weave(mind: Any, weaver: str) -> None:
    """Each of the four personas can be the weaver."""
    assert mind.think(weaver=weaver).weaver == weaver
