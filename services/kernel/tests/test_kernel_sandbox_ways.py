"""Which way a thought takes is not for methods of cycles: no answer counts that VALIDATING has not looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batos.mind import keep_organization
from batos.protocol import EventType
from batos.uvm import CovenantBroken, SourceRefused, install_method, slots
from batos.uvm.sandbox_errors import SandboxError

AUTHOR = "0197a0000000700080000000000000aa"
ENDS_AT_ONCE = """
    host.note('brief', 'x')
    host.note('plan', {'goal': 'g', 'parts': []})
    host.note('weaver', 'ROBIN')
    host.note('partials', [])
    answer = host.ask([host.prompt('BRICK', 'p', [host.turn('user', 'hi')], 5)])[0]
    host.propose('NOT VALIDATED', answer)
"""
"""A genuine answer, and a text of its own."""


def handler(body: str, **whom: dict[str, list[str]]) -> str:
    sends = ["ask", "prompt", "turn", "propose", "note", "noted", "install", "state", "record"]
    declared = {"arguments": {"reads": ["draft"], "sends": sends, "sets": ["synthesis_state", "name"]}, **whom}
    declared["arguments"]["sets"] = [name for name in declared["arguments"]["sets"] if name in body]
    return f"HOST = 2\nCAPABILITIES = {declared}\n\ndef _process_synthesis_(self, cycle, host):\n    {body.strip()}\n"


@pytest.fixture
def mind(sandboxed: Any) -> Any:
    return sandboxed


def lead(mind: Any, state: str, *successors: str) -> None:
    """Let the Architect lead a state elsewhere."""
    mind.image.run(lambda root: setattr(mind.part(root, state), "successors", list(successors)))


@pytest.mark.parametrize("slot", ["successors", "synthesis_state", "first_state", "cycle_prototype"])
def test_which_way_a_thought_takes_is_never_set(mind: Any, slot: str) -> None:
    """Whatever is declared, of whichever object: it is refused when it is installed, and when it runs."""
    with pytest.raises(SourceRefused, match=f"tampering: '{slot}' says who an object is or which way"):
        mind.write("IDLE", handler(f"self.set('{slot}', [])", self={"sets": [slot]}))
    first, second = slot[:4], slot[4:]
    mind.write("IDLE", handler(f"self.set('{first}' + '{second}', [])", self={"sets": ["mood"]}))
    assert f": tampering: '{slot}' says" in mind.think().error
    assert [told["rule"] for told in mind.stopped()] == ["tampering", "tampering"]


@pytest.mark.parametrize("slot", ["name", "persona"])
def test_what_a_part_is_known_by_is_not_set_by_its_own_methods(mind: Any, slot: str) -> None:
    """By a guardian that looks when it runs: objects that are no part of the organization have such slots, too."""
    mind.write("IDLE", handler(f"self.set('{slot}', 'JOKER')", self={"sets": [slot]}))
    assert f": guardian: identity covenant: '{slot}' is what the organization is known by" in mind.think().error
    mind.write("IDLE", handler(f"cycle.set('{slot}', 'JOKER')", arguments={"sets": [slot]}))
    assert "state IDLE may not lead to None" in mind.think().error


@pytest.mark.parametrize(
    ("path", "slot"),
    [("", "alfred_prototype_obj"), ("", "knowledge_catalog_obj"), ("psm_prototypes_obj", "VALIDATING")],
)
def test_who_stands_where_is_not_set_by_the_lobby_nor_by_the_state_machine(mind: Any, path: str, slot: str) -> None:
    """Their other slots are free."""
    source = (
        f"CAPABILITIES = {{'self': {{'reads': ['{slot}'], 'sets': ['{slot}', 'motto']}}}}\n\n"
        f"def swap(self, slot):\n    self.set(slot, None)\n    return 1\n"
    )

    def holder(root: Any) -> Any:
        return mind.part(root, path) if path else root["lobby"]

    mind.image.run(lambda root: install_method(holder(root), "swap", source, author=AUTHOR).number)
    with mind.image.session() as session:
        found = holder(session.begin())
        with pytest.raises(SandboxError, match=f"guardian: identity covenant: '{slot}' is what"):
            found.swap(slot)
        assert slots(found)[slot] is not None
        assert found.swap("motto") == 1


@pytest.mark.parametrize(
    "swap",
    [
        lambda lobby: setattr(lobby, "alfred_prototype_obj", lobby.brick_prototype_obj),
        lambda lobby: setattr(lobby.psm_prototypes_obj, "VALIDATING", lobby.psm_prototypes_obj.COMPLETE),
    ],
)
def test_parts_that_were_swapped_are_no_organization(mind: Any, swap: Any) -> None:
    """Whoever did it: the IdentityGuardian knows each by its name."""
    with mind.image.session() as session:
        root = session.begin()
        swap(root["lobby"])
        with pytest.raises(CovenantBroken, match="is to stand here"):
            keep_organization(root, "architect")


def test_what_was_not_validated_does_not_complete_a_thought(mind: Any) -> None:
    """Also where the Architect lets a state lead there."""
    lead(mind, "IDLE", "COMPLETE")
    mind.write("IDLE", handler(f"{ENDS_AT_ONCE}\n    return 'COMPLETE'"))
    outcome = mind.think()
    assert (outcome.outcome, outcome.answer) == ("FAILED", "")
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["code"] == "draft_not_validated"
    assert final["detail"]["failed_in"] == "IDLE"
    assert "COMPLETE" not in [told["current_state"] for told in mind.told.of(EventType.STATE_TRANSITION)]


@pytest.mark.parametrize(
    ("state", "body"),
    [
        ("IDLE", f"{ENDS_AT_ONCE}\n    host.install()\n    return 'DECOMPOSING'"),
        ("VALIDATING", "host.install()\n    return 'COMPLETE'"),
        ("COMPLETE", "host.propose('NOT VALIDATED', host.draft[1])\n    host.install()"),
    ],
)
def test_what_was_not_validated_is_not_installed(mind: Any, state: str, body: str) -> None:
    """Neither before VALIDATING has ended, nor in place of what it looked at."""
    mind.write(state, handler(body, results={"reads": ["text"]}))
    assert mind.think().outcome == "FAILED"
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert (final["detail"]["code"], final["detail"]["failed_in"]) == ("draft_not_validated", state)


def test_a_thought_goes_on_from_where_it_is(mind: Any) -> None:
    """Not from where a trusted method has put the cycle meanwhile."""
    source = (
        "def _process_synthesis_(self, cycle, host):\n"
        "    cycle.synthesis_state = host.state('VALIDATING')\n    return 'COMPLETE'\n"
    )
    mind.write("IDLE", source, author="architect")
    assert mind.think().error == "state IDLE may not lead to 'COMPLETE'"


def test_a_thought_begins_in_a_state_of_the_state_machine(mind: Any) -> None:
    """By its own name."""
    source = (
        "def start_cognitive_cycle_for_(self, host, mission_id):\n"
        "    cycle = self.cycle_prototype._clone_persistent_()\n"
        "    cycle.synthesis_state = host.state('IDLE')._clone_persistent_(name='VALIDATING')\n    return cycle\n"
    )
    mind.write("orchestrator_obj", source, name="start_cognitive_cycle_for_", author="architect")
    assert "which is no state of the state machine" in mind.think().error


def test_nobody_acts_who_is_no_persona(mind: Any) -> None:
    """The log tells of the four and of the orchestrator alone."""
    mind.image.run(lambda root: setattr(mind.part(root, "DECOMPOSING"), "persona", "JOKER"))
    assert "'JOKER' is to act in DECOMPOSING" in mind.think().error
    assert {told["active_persona"] for _, told in mind.told.records} <= {"ORCHESTRATOR", "BRICK"}


@pytest.mark.parametrize(("text", "verbatim"), [("answer.text.strip()", True), ("'Another name.'", False)])
def test_the_outcome_says_what_the_answer_was_made_of(mind: Any, text: str, verbatim: bool) -> None:
    """The prompt that was answered, and whether the answer was taken as it is."""
    body = (
        "turns = [host.turn('user', 'Name it.')]\n    answer = host.ask([host.prompt('ROBIN', 'weave', turns, 9)])[0]\n"
        f"    host.propose({text}, answer)\n    return 'VALIDATING'"
    )
    mind.write("SYNTHESIZING", handler(body, results={"reads": ["text"]}))
    outcome = mind.think()
    assert outcome.outcome == "COMPLETE", outcome.error
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    asked = [told for told in mind.told.of(EventType.LLM_PROMPT) if told["detail"]["step"] == "weave"]
    assert final["prompt_hash"] == asked[-1]["prompt_hash"]
    assert final["detail"]["verbatim"] is verbatim


# ---------------------------------------------------------------------------------------- what is told of it


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("host.record('FINAL_OUTCOME')", "event_reserved"),
        ("host.ask([1])", "live_method_failed"),
        ("host.propose('x', 5)", "draft_invalid"),
        ("host.state(5)", "live_method_failed"),
    ],
)
def test_what_the_host_refuses_is_told_with_its_author(mind: Any, body: str, code: str) -> None:
    """In the audit, and in the thought's last record."""
    mind.write("DECOMPOSING", handler(body))
    assert mind.think().outcome == "FAILED"
    (told,) = mind.stopped()
    assert (told["rule"], told["author"], told["line"]) == ("exception", AUTHOR, 5)
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["code"] == code
    assert final["detail"]["methods"] == [f"'_process_synthesis_' by {AUTHOR}, line 5"]
    assert json.dumps(final["detail"])


def test_a_trusted_method_that_ends_the_program_ends_the_thought(mind: Any) -> None:
    """Whether a method of a cycle called it or the kernel."""
    for state, source in {
        "DELEGATING": "def leave_(self):\n    raise SystemExit(3)\n",
        "IDLE": "def _process_synthesis_(self, cycle, host):\n    raise SystemExit(4)\n",
        "FAILED": "def _process_synthesis_(self, cycle, host):\n    raise SystemExit(5)\n",
    }.items():
        name = "leave_" if "leave_" in source else "_process_synthesis_"
        mind.write(state, source, name=name, author="architect")
    assert mind.think().error == "SystemExit: 4"
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["failed_handler"] == "SystemExit: 5"
    mind.write("IDLE", handler("host.state('DELEGATING').leave_()", results={"sends": ["leave_"]}))
    assert mind.think().error == "SystemExit: 3"
    assert [(told["rule"], told["detail"]) for told in mind.stopped()] == [("exception", "SystemExit: 3")]
