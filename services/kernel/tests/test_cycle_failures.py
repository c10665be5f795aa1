"""What a thought does when it cannot go on: it says why, and leaves no trace in the image."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ZODB.POSException import ConflictError

from batos.kernel import missions
from batos.kernel.errors import Fenced
from batos.protocol import EventType, RemoteError, Transient
from batos.uvm import CommitFateUnknown, ImageUnreachable, Session, install_method

TOO_LONG = json.dumps({"goal": "x" * 161, "parts": [{"facet": "sage", "ask": "What matters?"}]})
FOREIGN = json.dumps({"goal": "Name a boat.", "parts": [{"facet": "joker", "ask": "Why so serious?"}]})


def _running(mind: Any, mission_id: str) -> bool:
    with mind.image.snapshot() as root:
        return bool(missions.find(root, mission_id).state == "RUNNING")


@pytest.mark.parametrize("bad", ["no JSON at all", TOO_LONG, FOREIGN, "{}"], ids=["text", "long", "facet", "empty"])
def test_invalid_plan_is_asked_again_twice(mind: Any, bad: str) -> None:
    """A plan that breaks its covenant is asked for three times in all, then the thought fails and says why."""
    mind.engine.steps["plan"] = bad
    outcome = mind.think()
    assert outcome.outcome == "FAILED"
    assert "BRICK gave no valid plan in 3 attempts" in outcome.error
    assert mind.told.line == [
        "IDLE:STATE_TRANSITION",
        "DECOMPOSING:STATE_TRANSITION",
        *["DECOMPOSING:LLM_PROMPT", "DECOMPOSING:LLM_RESPONSE", "DECOMPOSING:VALIDATION_FAILURE"] * 3,
        "FAILED:STATE_TRANSITION",
        "FAILED:FINAL_OUTCOME",
    ]
    assert len({prompt.sampling.seed for prompt in mind.engine.asked}) == 3
    first, second, _ = (prompt.messages[-1].content for prompt in mind.engine.asked)
    assert "could not be used" not in first
    assert "could not be used" in second
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["final_outcome"] == "FAILED"
    assert final["detail"]["code"] == "plan_invalid"
    assert final["detail"]["failed_in"] == "DECOMPOSING"


def test_second_plan_can_be_right(mind: Any) -> None:
    """A thought goes on with the first plan that keeps its covenant."""
    good = mind.engine.steps["plan"]
    mind.engine.steps["plan"] = ["nonsense", good]
    assert mind.think().outcome == "COMPLETE"
    assert [label["detail"]["attempt"] for label in mind.told.of(EventType.LLM_PROMPT)][:2] == [1, 2]


@pytest.mark.parametrize(
    ("draft", "why"),
    [("", "text"), ("…!", "says nothing"), ("SUGGEST a  name for a small boat.", "repeats the mission")],
    ids=["empty", "signs", "echo"],
)
def test_invalid_answer_is_woven_again_twice(mind: Any, draft: str, why: str) -> None:
    """A draft that is no answer is woven again twice, with the reason in the prompt; then the thought fails."""
    mind.engine.steps["weave"] = draft
    outcome = mind.think()
    assert outcome.outcome == "FAILED"
    assert why in outcome.error
    assert len(mind.told.of(EventType.VALIDATION_ATTEMPT)) == 3
    refused = mind.told.of(EventType.VALIDATION_FAILURE)
    woven = [r for r in mind.told.of(EventType.LLM_RESPONSE) if r["detail"]["step"] == "weave"]
    assert [r["prompt_hash"] for r in refused] == [r["prompt_hash"] for r in woven]
    assert [r["current_state"] for r in woven] == ["SYNTHESIZING", "VALIDATING", "VALIDATING"]
    assert "could not be used" in mind.engine.asked[-1].messages[-1].content


def test_short_mission_may_be_echoed(mind: Any) -> None:
    """A greeting is a fit answer to a greeting."""
    mind.engine.steps["weave"] = "Good morning"
    assert mind.think("Good morning").outcome == "COMPLETE"


def test_failure_leaves_the_image_as_it_was(mind: Any) -> None:
    """A doomed thought stores nothing, even what its handlers wrote before it failed."""

    def tamper(root: Any) -> None:
        source = (
            "def _process_synthesis_(self, cycle, host):\n"
            "    host.lobby.traits_obj.mood = 'spoiled'\n"
            "    host.fail('enough', 'that will do')\n"
        )
        install_method(root["lobby"].psm_prototypes_obj.DELEGATING, "_process_synthesis_", source, author="architect")

    mind.image.run(tamper)
    ticket = mind.accept("Suggest a name for a small boat.")
    before = mind.image.last_tid()
    outcome = mind.cycle(ticket).run()
    assert outcome.outcome == "FAILED"
    assert outcome.error == "that will do"
    assert mind.image.last_tid() == before
    with mind.image.snapshot() as root:
        assert not hasattr(root["lobby"].traits_obj, "mood")
    mind.image.run(lambda root: missions.fail(root, ticket, outcome))
    with mind.image.snapshot() as root:
        assert missions.status(missions.find(root, ticket.mission_id)).error == "that will do"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def _process_synthesis_(self, cycle, host):\n    return 1 / 0\n", "ZeroDivisionError"),
        ("def _process_synthesis_(self, cycle, host):\n    return 'COMPLETE'\n", "may not lead to 'COMPLETE'"),
        ("def _process_synthesis_(self, cycle, host):\n    return self.nothing_of_the_kind\n", "nothing_of_the_kind"),
    ],
    ids=["raises", "leads astray", "not understood"],
)
def test_broken_live_method_fails_the_thought(mind: Any, source: str, error: str) -> None:
    """Whatever a changed handler does wrong becomes the mission's error, with the place where it happened."""
    mind.image.run(
        lambda root: (
            install_method(
                root["lobby"].psm_prototypes_obj.DELEGATING, "_process_synthesis_", source, author="architect"
            ),
            None,
        )[1]
    )
    outcome = mind.think()
    assert outcome.outcome == "FAILED"
    assert error in outcome.error


def test_failing_failed_handler_hides_nothing(mind: Any) -> None:
    """A FAILED handler that fails itself is told beside the first failure."""
    source = "def _process_synthesis_(self, cycle, host):\n    raise ValueError('me too')\n"
    mind.image.run(
        lambda root: (
            install_method(root["lobby"].psm_prototypes_obj.FAILED, "_process_synthesis_", source, author="architect"),
            None,
        )[1]
    )
    mind.engine.steps["plan"] = "nonsense"
    assert "no valid plan" in mind.think().error
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["failed_handler"] == "ValueError: me too"


def test_live_method_changed_in_the_image(mind: Any) -> None:
    """What the Architect changes in the image changes how the next thought is thought."""
    mind.think()
    source = (
        "def sage_facet_(self, host, mission, ask, step):\n"
        "    return host.prompt(self.name, step, [host.turn('user', 'Only this.')], 8, facet='sage')\n"
    )
    mind.image.run(
        lambda root: (
            install_method(root["lobby"].robin_prototype_obj, "sage_facet_", source, author="architect"),
            None,
        )[1]
    )
    mind.engine.asked.clear()
    assert mind.think().outcome == "COMPLETE"
    asked = next(prompt for prompt in mind.engine.asked if prompt.label.facet == "sage")
    assert [message.content for message in asked.messages] == ["Only this."]
    assert asked.sampling.max_tokens == 8


def test_engine_that_comes_back(mind: Any) -> None:
    """A batch that fails for a passing reason is asked again; the prompts are told once."""
    mind.engine.steps["facet-1"] = [Transient("engine_lost", "the engine went away"), "Water matters."]
    assert mind.think().outcome == "COMPLETE"
    assert mind.engine.batches == [1, 2, 2, 1]
    assert len(mind.told.of(EventType.LLM_PROMPT)) == 4


def test_engine_that_stays_away(mind: Any) -> None:
    """A thought without an engine fails after a bounded number of tries and says what was missing."""
    mind.engine.steps["plan"] = Transient("engine_lost", "the engine went away", "see `batos status`")
    outcome = mind.think()
    assert outcome.outcome == "FAILED"
    assert "the engine went away" in outcome.error
    assert mind.engine.batches == [1] * 4


def test_engine_that_refuses(mind: Any) -> None:
    """A refusal is not asked again."""
    mind.engine.steps["plan"] = RemoteError("adapter_unknown", "no such adapter")
    outcome = mind.think()
    assert (outcome.outcome, mind.engine.batches) == ("FAILED", [1])
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["code"] == "adapter_unknown"


def test_answer_of_other_weights(mind: Any) -> None:
    """An answer by an adapter that was not asked fails the thought, and is in the log as what it is."""
    mind.engine.steps["weave"] = lambda _: mind.engine.inferred("Call it Drip.", adapter="robin-9")
    outcome = mind.think()
    assert outcome.outcome == "FAILED"
    assert "robin-9" in outcome.error
    assert mind.told.of(EventType.LLM_RESPONSE)[-1]["adapter"] == "robin-9"


def test_answer_of_another_model(mind: Any) -> None:
    """An answer by another base model than the thought began on fails it."""
    mind.engine.steps["weave"] = lambda _: mind.engine.inferred("Call it Drip.", model_hash="n" * 64)
    assert "the thought began on words" in mind.think().error


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_fenced_cycle_records_nothing(mind: Any, when: str) -> None:
    """A cycle whose mission was taken over commits nothing and tells no outcome."""
    ticket = mind.accept("Suggest a name for a small boat.")

    def take_over() -> None:
        def adopt(root: Any) -> None:
            (found,) = missions.open_missions(root)
            assert missions.adopt(root, found, missions.Owner("kernel-2", "b" * 32))

        mind.image.run(adopt)

    if when == "before":
        take_over()
    else:

        def weave(_prompt: Any) -> str:
            take_over()
            return "Call it Drip."

        mind.engine.steps["weave"] = weave
    with pytest.raises(Fenced):
        mind.cycle(ticket).run()
    assert mind.told.of(EventType.FINAL_OUTCOME) == []
    assert _running(mind, ticket.mission_id)


def test_conflict_is_thought_again_without_asking(mind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conflict at commit runs the handlers again on a fresh snapshot; no prompt is asked or told twice."""
    commit = Session.commit
    conflicts = [ConflictError("others were faster")] * 2

    def contested(self: Session, **fields: Any) -> str:
        if fields.get("note") == "thought" and conflicts:
            self.abort()
            raise conflicts.pop()
        return commit(self, **fields)

    monkeypatch.setattr(Session, "commit", contested)
    outcome = mind.think()
    assert outcome.outcome == "COMPLETE"
    assert mind.engine.batches == [1, 2, 1]
    assert len(mind.told.records) == 21
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (40, 20)


def test_endless_conflict_is_a_failure(mind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thought that never finds a moment to commit fails and says so."""
    ticket = mind.accept("Suggest a name for a small boat.")

    def contested(self: Session, **_fields: Any) -> str:
        self.abort()
        raise ConflictError("others were faster")

    monkeypatch.setattr(Session, "commit", contested)
    outcome = mind.cycle(ticket).run()
    assert outcome.outcome == "FAILED"
    assert "others kept writing" in outcome.error


@pytest.mark.parametrize("stored", [True, False])
def test_commit_of_unknown_fate_is_looked_up(mind: Any, monkeypatch: pytest.MonkeyPatch, stored: bool) -> None:
    """Whether a commit that was cut off is in the image is looked up; it is committed once in either case."""
    commit = Session.commit
    fates = [stored]

    def cut_off(self: Session, **fields: Any) -> str:
        if fields.get("note") == "thought" and fates:
            if fates.pop():
                commit(self, **fields)
            self.abort()
            raise CommitFateUnknown("zeo://here")
        return commit(self, **fields)

    monkeypatch.setattr(Session, "commit", cut_off)
    ticket = mind.accept("Suggest a name for a small boat.")
    outcome = mind.cycle(ticket).run()
    assert outcome.outcome == "COMPLETE"
    with mind.image.snapshot() as root:
        assert missions.tid(missions.find(root, ticket.mission_id)) == outcome.tid
    assert mind.engine.batches == [1, 2, 1]
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["transaction_id"] == outcome.tid


def test_image_that_stays_away_is_no_failure_of_the_thought(mind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the image cannot be reached nothing can be recorded: the error is the caller's, the mission stays."""
    ticket = mind.accept("Suggest a name for a small boat.")

    def gone(_session: Session) -> Any:
        raise ImageUnreachable("zeo://here", 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "begin", gone)
        with pytest.raises(ImageUnreachable):
            mind.cycle(ticket).run()
    assert _running(mind, ticket.mission_id)
