"""Methods that cycles wrote, in a thought: they do their work through the host, and what they may not is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from batos.kernel.sandboxing import guard
from batos.protocol import EventType
from batos.uvm import (
    CovenantBroken,
    DataGuardian,
    SourceRefused,
    UvmObject,
    install_method,
    method_history,
    revert_method,
)

AUTHOR = "0197a0000000700080000000000000aa"
HANDLER = "_process_synthesis_"
DELEGATING = """
HOST = 2
CAPABILITIES = {
    "arguments": {"sends": ["noted", "note", "persona_of", "record", "ask"]},
    "results": {"reads": ["persona", "facet", "step", "text"], "sends": ["sage_facet_", "disruptor_facet_"]},
}

def _process_synthesis_(self, cycle, host):
    prompts = []
    for number, part in enumerate(host.noted("plan")["parts"], 1):
        persona = host.persona_of(part["facet"])
        message = part["facet"] + "_facet_"
        prompts.append(persona.send(message, host, host.noted("brief"), part["ask"], f"facet-{number}"))
    parts = [{"persona": prompt.persona, "facet": prompt.facet, "step": prompt.step} for prompt in prompts]
    host.record("DELEGATION_START", parts=parts)
    answers = host.ask(prompts)
    partials = [{"persona": one.persona, "facet": one.facet, "text": one.text} for one in answers]
    host.note("partials", partials)
    host.record("DELEGATION_COMPLETE", asked=len(answers), answered=len(partials))
    return "SYNTHESIZING"
"""
SYNTHESIZING = """
HOST = 2
CAPABILITIES = {
    "self": {"reads": ["meta_prompt", "max_tokens"]},
    "arguments": {"reads": ["weaver"], "sends": ["noted", "turn", "prompt", "ask", "propose"]},
    "results": {"reads": ["text", "role", "turns"]},
}

def _process_synthesis_(self, cycle, host):
    said = [("partial", "- " + partial["text"]) for partial in host.noted("partials")]
    turns = [host.turn("system", self.meta_prompt, *said), host.turn("user", ("mission", host.noted("brief")))]
    prompt = host.prompt(host.weaver or "ROBIN", "weave", turns, self.max_tokens)
    if [turn.role for turn in prompt.turns] != ["system", "user"]:
        raise ValueError("turns")
    answer = host.ask([prompt])[0]
    host.propose(answer.text.strip(), answer)
    return "VALIDATING"
"""
IDLE = """
HOST = 2
CAPABILITIES = {"arguments": {"reads": ["mission_text", "weaver"], "sends": ["note"]}}

def _process_synthesis_(self, cycle, host):
    for name, value in (("brief", host.mission_text), ("weaver", host.weaver or "ROBIN"), ("plan", None)):
        host.note(name, value)
    return "DECOMPOSING"
"""
COMPLETE = """
CAPABILITIES = {"arguments": {"sends": ["install"], "sets": ["verdict"]}}

def _process_synthesis_(self, cycle, host):
    host.install()
    cycle.set("verdict", "done")
"""


def saying(body: str, capabilities: str = "{}") -> str:
    return f"HOST = 2\nCAPABILITIES = {capabilities}\n\ndef {HANDLER}(self, cycle, host):\n    {body}\n"


@pytest.fixture
def mind(sandboxed: Any) -> Any:
    return sandboxed


def changes(mind: Any) -> tuple[int, str]:
    """How often the organization was changed, and by whom last."""
    with mind.image.snapshot() as root:
        return root["organization"].changes, root["organization"].author


def test_states_that_a_cycle_rewrote_think_a_mission_through(mind: Any) -> None:
    """From IDLE to COMPLETE through the host alone: prompts, answers and notes cross; nothing is stopped."""
    for state, source in {
        "IDLE": IDLE,
        "DELEGATING": DELEGATING,
        "SYNTHESIZING": SYNTHESIZING,
        "COMPLETE": COMPLETE,
    }.items():
        mind.write(state, source)
    before = changes(mind)
    outcome = mind.think()
    assert (outcome.outcome, outcome.answer) == ("COMPLETE", "Call it Drip."), outcome.error
    assert outcome.personas == ("BRICK", "ROBIN", "ALFRED")
    assert mind.stopped() == []
    (weave,) = [prompt for prompt in mind.engine.asked if prompt.label.step == "weave"]
    assert "- A partial answer." in weave.messages[0].content
    with mind.image.at(outcome.tid) as root:
        (thought,) = [
            record.thought
            for shard in root["missions"].shards
            for record in shard.values()
            if record.state == "COMPLETE"
        ]
        assert thought.verdict == "done"
        assert not hasattr(thought, "_tmp_synthesis_data")
    assert changes(mind) == before


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (saying("while True:\n        pass"), "time"),
        (saying("self.set('co' + 'dex', {})"), "tampering"),
        (saying("return host.lobby", '{"arguments": {"reads": ["lobby"]}}'), "service"),
        (saying("return host.send('_' + 'voice', 'BRICK')"), "private-name"),
        (saying("raise KeyError('gone')"), "exception"),
        (
            saying(
                "host.persona('ALFRED').set('name', 'JOKER')",
                '{"arguments": {"sends": ["persona"]}, "results": {"sets": ["name"]}}',
            ),
            "undeclared",
        ),
    ],
    ids=["endless", "codex", "lobby", "private", "own exception", "set of a result"],
)
def test_what_a_method_may_not_ends_the_thought_and_is_told(
    mind: Any, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, source: str, rule: str
) -> None:
    """The mission's error names the rule; log, figures and process log say who tried what; the image is as it was."""
    mind.write("DELEGATING", source)
    ticket = mind.accept("Suggest a name for a small boat.")
    before = mind.image.last_tid()
    outcome = mind.cycle(ticket).run()
    assert outcome.outcome == "FAILED"
    assert f": {rule}: " in outcome.error
    assert AUTHOR in outcome.error
    assert mind.image.last_tid() == before
    (record,) = mind.told.of(EventType.SANDBOX)
    assert (record["cycle_id"], record["mission_id"]) == (ticket.cycle_id, ticket.mission_id)
    assert record["current_state"] == "DELEGATING"
    told = record["detail"]
    assert (told["author"], told["method"], told["rule"]) == (AUTHOR, HANDLER, rule)
    assert told["receiver"] == "lobby.psm_prototypes_obj.DELEGATING"
    assert told["detail"]
    assert (told["line"] > 0) is (rule != "time")
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert (final["detail"]["code"], final["detail"]["failed_in"]) == ("method_stopped", "DELEGATING")
    assert registry.get_sample_value("batos_kernel_methods_stopped_total", {"rule": rule}) == 1.0
    assert f"by the rule {rule}" in caplog.text
    mind.image.run(lambda root: revert_method(_state(root), HANDLER, 1, author="architect").number)
    assert mind.think().outcome == "COMPLETE"


def _state(root: Any) -> UvmObject:
    found: UvmObject = root["lobby"].psm_prototypes_obj.DELEGATING
    return found


def test_the_host_ends_a_thought_from_within_the_sandbox(mind: Any) -> None:
    """With its code and sentence, whatever the method catches; that is no breach."""
    failing = "host.fail('enough', 'that will do', 'rest')"
    body = f"try:\n        {failing}\n    except BaseException:\n        return 'COMPLETE'"
    mind.write("DELEGATING", saying(body, '{"arguments": {"sends": ["fail"]}}'))
    outcome = mind.think()
    assert (outcome.outcome, outcome.error) == ("FAILED", "that will do (rest)")
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["code"] == "enough"
    assert mind.stopped() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("host.noted('nothing')", "note_missing"),
        ("host.note(7, 1)", "note_invalid"),
        ("host.state('_methods_')", "state_unknown"),
        ("host.state('JOKING')", "state_unknown"),
        ("host.record('FINAL_OUTCOME', outcome='COMPLETE')", "event_reserved"),
        ("host.record('SANDBOX', author='nobody')", "event_reserved"),
        ("host.record('LLM_RESPONSE', persona='BRICK', prompt_hash='x')", "event_reserved"),
        ("host.record('VALIDATION_SUCCESS', persona='JOKER')", "record_invalid"),
        ("host.record('VALIDATION_SUCCESS', prompt_hash=7)", "record_invalid"),
        ("host.propose(7, host.draft)", "draft_invalid"),
        ("host.propose('text', 'no answer')", "draft_invalid"),
        ("host.record('VALIDATION_SUCCESS', prompt_hash='sk-abcdefghijklmnop1234')", "record_invalid"),
        ("host.choose(list(range(1001)), 1, 'x')", "choice_invalid"),
        ("host.choose([1], 1, 'x' * 201)", "choice_invalid"),
        ("host.ask([host.prompt('BRICK', 'step', [host.turn('user', 'x')], 9)] * 65)", "too_many_prompts"),
        ("host.fail('too_deep', host.parsed('[' * 100_000)[1])", "too_deep"),
        ("host.fail(5, [1], {})", "failure_invalid"),
        ("host.fail('No code', 'so it is')", "failure_invalid"),
        ("host.fail('long', 'y' * 900_000)", "long"),
    ],
)
def test_what_the_host_refuses_of_any_method(mind: Any, body: str, code: str) -> None:
    """A thought ends where it notes, records or proposes what would do harm later; trusted or not."""
    sends = ["ask", "choose", "fail", "note", "noted", "parsed", "prompt", "propose", "record", "state", "turn"]
    capabilities = json.dumps({"arguments": {"reads": ["draft"], "sends": sends}})
    for author in (AUTHOR, "architect"):
        mind.image.run(
            lambda root, author=author: (
                install_method(_state(root), HANDLER, saying(body, capabilities), author=author).number
            )
        )
        mind.told.records.clear()
        assert mind.think().outcome == "FAILED"
        (final,) = mind.told.of(EventType.FINAL_OUTCOME)
        assert final["detail"]["code"] == code
        assert len(final["detail"]["error"]) < 2100
        mind.image.run(lambda root: revert_method(_state(root), HANDLER, 1, author="architect").number)


def test_notes_are_copies(mind: Any) -> None:
    """What a method noted is changed by noting it anew, and in no other way."""
    body = (
        "host.note('words', ['a'])\n    host.noted('words').append('b')\n"
        "    if host.noted('words') != ['a']:\n        host.fail('shared', 'a note was changed')\n"
        "    host.fail('copied', 'so it is')"
    )
    mind.image.run(lambda root: install_method(_state(root), HANDLER, saying(body), author="architect").number)
    assert mind.think().error == "so it is"


def test_what_a_stopped_method_did_to_the_cycle_is_taken_back(mind: Any) -> None:
    """The cycle is new in this transaction, and of the image all the same."""
    source = saying("cycle.set('mood', 'spoiled')\n    raise ValueError", '{"arguments": {"sets": ["mood"]}}')
    mind.write("DELEGATING", source)
    handler = f"def {HANDLER}(self, cycle, host):\n    return {{'mood': getattr(cycle, 'mood', 'as before')}}\n"
    mind.image.run(
        lambda root: (
            install_method(root["lobby"].psm_prototypes_obj.FAILED, HANDLER, handler, author="architect").number
        )
    )
    assert ": exception: ValueError" in mind.think().error
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["mood"] == "as before"


def test_a_cycles_own_method_runs_in_the_sandbox(mind: Any) -> None:
    """Also that of the new cycle itself, which stands in no image yet when it is asked first."""
    source = f"def {HANDLER}(self, host):\n    raise ValueError('no more')\n"
    mind.image.run(
        lambda root: (
            install_method(root["lobby"].orchestrator_obj.cycle_prototype, HANDLER, source, author=AUTHOR).number
        )
    )
    assert ": exception: ValueError: no more" in mind.think().error


def test_a_source_that_is_refused_outside_of_a_cycle_is_told_too(mind: Any, registry: CollectorRegistry) -> None:
    """There is no cycle and no mission then."""
    with mind.image.session() as session, pytest.raises(SourceRefused):
        install_method(_state(session.begin()), HANDLER, saying("import os"), author=AUTHOR)
    (record,) = mind.told.of(EventType.SANDBOX)
    assert set(record) == {"detail"}
    assert (record["detail"]["author"], record["detail"]["rule"]) == (AUTHOR, "import")
    assert registry.get_sample_value("batos_kernel_methods_stopped_total", {"rule": "import"}) == 1.0


# ---------------------------------------------------------------------------------------- the organization


def keep_mood(mind: Any, body: str, persona: str = "brick") -> None:
    """Give a persona a method by a cycle, and let DELEGATING send that message before it does what it did."""
    source = (
        f"CAPABILITIES = {{'self': {{'reads': ['mood'], 'sets': ['mood', 'pals']}}}}\n\ndef feel_(self):\n    {body}\n"
    )
    calling = f"    host.persona('{persona.upper()}').feel_()\n"

    def work(root: Any) -> None:
        install_method(getattr(root["lobby"], f"{persona}_prototype_obj"), "feel_", source, author=AUTHOR)
        state = root["lobby"].psm_prototypes_obj.DELEGATING
        shipped = method_history(state, HANDLER)[-1].source
        head, _, rest = shipped.partition('parallel and collect the partial answers."""\n')
        assert rest
        install_method(state, HANDLER, f'{head}parallel."""\n{calling}{rest}', author="architect")

    mind.image.run(work)


def test_a_thought_that_changes_a_persona_writes_the_record_of_the_organization(mind: Any) -> None:
    """Once, in its own transaction and as the cycle that it is; a thought that changes nobody writes none."""
    count, _ = changes(mind)
    assert mind.think().outcome == "COMPLETE"
    assert changes(mind)[0] == count
    keep_mood(mind, "self.set('mood', 'glad')")
    outcome = mind.think()
    assert outcome.outcome == "COMPLETE", outcome.error
    with mind.image.at(outcome.tid) as root:
        assert root["lobby"].brick_prototype_obj.mood == "glad"
        assert root["organization"].changes == count + 1
        assert len(root["organization"].author) == 32


def test_what_was_taken_back_touches_nothing(mind: Any) -> None:
    """A stopped method's changes are gone; where its caller goes on, the organization was not touched."""
    keep_mood(mind, "self.set('mood', 'glad')\n    raise ValueError('no')")

    def catch(root: Any) -> None:
        state = root["lobby"].psm_prototypes_obj.DELEGATING
        source = method_history(state, HANDLER)[-1].source
        source = source.replace(
            "    host.persona('BRICK').feel_()\n",
            "    try:\n        host.persona('BRICK').feel_()\n    except Exception:\n        pass\n",
        )
        install_method(state, HANDLER, source, author="architect")

    mind.image.run(catch)
    before = changes(mind)
    assert mind.think().outcome == "COMPLETE"
    assert [told["rule"] for told in mind.stopped()] == ["exception"]
    assert changes(mind) == before


@pytest.mark.parametrize(
    "harm",
    ["host.persona('BABS').codex.clear()", "host.lobby.babs_prototype_obj = None", "del host.lobby.pLLM_obj"],
)
def test_a_thought_that_breaks_the_identity_is_not_committed(mind: Any, harm: str) -> None:
    """Whatever broke it, trusted or not: the mission fails and says what would have been missing."""
    source = f"def {HANDLER}(self, cycle, host):\n    host.install()\n    {harm}\n    cycle.plan = ()\n"
    mind.image.run(
        lambda root: (
            install_method(root["lobby"].psm_prototypes_obj.COMPLETE, HANDLER, source, author="architect").number
        )
    )
    ticket = mind.accept("Suggest a name for a small boat.")
    before = mind.image.last_tid()
    outcome = mind.cycle(ticket).run()
    assert outcome.outcome == "FAILED"
    assert "identity covenant: " in outcome.error
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert final["detail"]["code"] == "covenant_broken"
    assert mind.image.last_tid() == before


# ---------------------------------------------------------------------------------------- data covenants of slots

MOODS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "mood": {"type": "string", "maxLength": 8},
        "pals": {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 8}},
    },
}


def govern(mind: Any, **governs: str) -> None:
    def work(root: Any) -> None:
        codex = root["lobby"].alfred_prototype_obj.codex
        codex["covenants"]["moods"] = MOODS
        codex["governs"] = {path.replace("__", "."): covenant for path, covenant in governs.items()}

    mind.image.run(work)
    DataGuardian.model_from_schema("moods", MOODS)


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("lobby__brick_prototype_obj", "self.set('mood', 'glad')", ""),
        ("lobby__brick_prototype_obj", "self.set('pals', ['babs', 'robin'])", ""),
        ("lobby__brick_prototype_obj", "self.set('mood', 'much too long for a mood')", "mood: "),
        ("lobby__brick_prototype_obj", "self.set('mood', 7)", "mood: "),
        ("lobby__brick_prototype_obj", "self.set('pals', ['babs', self])", "pals[1]: "),
        ("lobby__traits_obj", "self.set('mood', 7)", "mood: "),
        ("lobby__robin_prototype_obj", "self.set('mood', 7)", ""),
        ("lobby__nobody", "self.set('mood', 7)", ""),
    ],
)
def test_a_governed_slot_keeps_its_covenant(mind: Any, path: str, body: str, error: str) -> None:
    """A value that breaks it is refused by the rule `guardian`; slots that nobody governs are free."""
    govern(mind, **{path: "moods"})
    keep_mood(mind, body)
    outcome = mind.think()
    assert (outcome.outcome == "COMPLETE") is not bool(error), outcome.error
    if error:
        assert f": guardian: data covenant: {error}" in outcome.error
        assert [told["rule"] for told in mind.stopped()] == ["guardian"]


def test_a_covenant_that_is_not_there_lets_nothing_through(mind: Any) -> None:
    """Rather refused than unwatched."""
    govern(mind, lobby__brick_prototype_obj="nowhere")
    keep_mood(mind, "self.set('mood', 'glad')")
    assert "'nowhere', which the codex does not hold" in mind.think().error


def test_a_clone_is_governed_as_its_original(mind: Any) -> None:
    """Also before it is stored, and also a clone's clone; an object without any kin in the image is not."""
    govern(mind, lobby__orchestrator_obj__cycle_prototype="moods")
    with mind.image.session() as session:
        lobby = session.begin()["lobby"]
        cycle = lobby.orchestrator_obj.cycle_prototype._clone_persistent_()._clone_persistent_()
        brick = lobby.brick_prototype_obj
        guard(brick, cycle, "mood", "glad")
        with pytest.raises(CovenantBroken, match="mood"):
            guard(brick, cycle, "mood", 7)
        guard(brick, UvmObject(), "mood", 7)


def test_an_error_of_the_sandbox_is_plain_for_the_log(mind: Any) -> None:
    """What is told of it can be written as JSON, whatever the method put into it."""
    mind.write("DELEGATING", saying("raise ValueError('\\x00\\n' + chr(8232) + 'x' * 5000)"))
    assert mind.think().outcome == "FAILED"
    (told,) = mind.stopped()
    assert len(json.dumps(told)) < 2000
