"""Whose slots a method that a cycle wrote may set in a kernel, and how much it may have the kernel hold and do."""

from __future__ import annotations

from typing import Any

import pytest

from batos.kernel.asking import MOST_PROMPTS
from batos.mind import organization, organized
from batos.protocol import EventType
from batos.uvm import SandboxBusy, UvmObject, install_method, plain, slots
from batos.uvm.sandbox import Sandbox

WAYS = {
    "state": "host.state('VALIDATING')",
    "persona": "host.persona('BRICK')",
    "traits": "host.persona('BRICK').traits_()",
    "what a persona holds": "host.persona('BRICK').album_()",
    "prototype": "cycle.prototype_()",
    "lobby": "cycle.lobby_()",
}
"""How a handler comes by a part of the organization. All but the first two are messages that trusted methods answer."""
TRUSTED = {
    ("traits_obj", "traits_"): "def traits_(self):\n    return self.parents[0]\n",
    ("traits_obj", "album_"): "def album_(self):\n    return self.album\n",
    ("orchestrator_obj.cycle_prototype", "prototype_"): "def prototype_(self):\n    return self.ancestor\n",
    ("orchestrator_obj.cycle_prototype", "lobby_"): "def lobby_(self):\n    return self.front\n",
}
SETS = ["tries", "persona", "name", "mood"]
HELPER = """
CAPABILITIES = {"self": {"reads": ["friend"]}, WHOM: {"sets": ["tries", "persona", "name", "mood"]}}

def helper_(self, other=None):
    one = self.friend if other is None else other
    one.set(SLOT, 9)
"""
HANDLERS = {
    "result": "way.set(SLOT, 9)",
    "passed on": "self.send('helper_', way)",
    "passed on by name": "self.helper_(other=way)",
    "passed on in a list": "self.first_([way])",
    "by a trusted method": "self.trusted_(way)",
    "put in a slot": "self.set('friend', way)\n    self.helper_()",
    "put in a slot by a trusted method": "self.keep_(way)\n    self.helper_()",
}
"""What a handler does with it: sets it, or has a second method set it, which names it as argument or as its slot."""


def declared(**whom: dict[str, list[str]]) -> str:
    return f"HOST = 2\nCAPABILITIES = {whom}\n\n"


def handler(body: str) -> str:
    head = declared(
        self={"sets": ["friend"], "sends": ["helper_", "first_", "trusted_", "keep_"]},
        arguments={"reads": ["name"], "sends": ["state", "persona", "prototype_", "lobby_"]},
        results={"reads": ["name"], "sets": SETS, "sends": ["traits_", "album_"]},
    )
    return f"{head}def _process_synthesis_(self, cycle, host):\n    {body}\n    return 'SYNTHESIZING'\n"


@pytest.fixture
def mind(sandboxed: Any) -> Any:
    """A mind with trusted methods that hand parts of it over, and a second method by a cycle on DELEGATING."""

    def furnish(root: Any) -> None:
        lobby = root["lobby"]
        lobby.desk = UvmObject(mood="tidy", name="desk")  # of the image, and no part of the organization
        lobby.brick_prototype_obj.album = UvmObject(mood="old", name="album")
        lobby.orchestrator_obj.cycle_prototype.front = lobby
        for (path, name), source in TRUSTED.items():
            install_method(sandboxed.part(root, path), name, source, author="architect")
        state = sandboxed.part(root, "DELEGATING")
        install_method(state, "trusted_", "def trusted_(self, it):\n    self.helper_(it)\n", author="architect")
        install_method(state, "keep_", "def keep_(self, it):\n    self.friend = it\n", author="architect")

    sandboxed.image.run(furnish)
    return sandboxed


def looks(mind: Any) -> list[Any]:
    """The slots in question of all whom the tests try to set."""
    with mind.image.snapshot() as root:
        return [[plain(slots(part).get(name)) for name in SETS] for part in (*organized(root), root["lobby"].desk)]


def attack(mind: Any, way: str, how: str, slot: str) -> Any:
    whom = "friend" if "slot" in how else "arguments"
    mind.write("DELEGATING", HELPER.replace("WHOM", repr(whom)).replace("SLOT", repr(slot)), name="helper_")
    first = declared(self={"sends": ["helper_"]}, arguments={"sets": SETS})
    mind.write("DELEGATING", f"{first}def first_(self, others):\n    self.helper_(others[0])\n", name="first_")
    mind.write("DELEGATING", handler(HANDLERS[how].replace("way", way).replace("SLOT", repr(slot))))
    return mind.think()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("how", HANDLERS)
def test_a_part_of_the_organization_is_set_by_its_own_methods_alone(mind: Any, way: str, how: str) -> None:
    """Whether it came as a result, was passed on to a second method, or was put into a slot that one names."""
    before = looks(mind)
    for slot in ("tries", "mood"):
        outcome = attack(mind, way, how, slot)
        assert outcome.outcome == "FAILED"
        rule = "guardian" if "slot" in how else "undeclared"
        assert f": {rule}: " in outcome.error
    assert [told["rule"] for told in mind.stopped()] == [rule, rule]
    assert looks(mind) == before


def test_a_trusted_method_hands_over_a_part_and_the_guardian_keeps_it(mind: Any) -> None:
    """Where no method of a cycle passed it on there are no rights of a caller's: the guardian looks all the same."""
    source = "def _process_synthesis_(self, cycle, host):\n    self.helper_(host.state('VALIDATING'))\n"
    mind.write("DELEGATING", HELPER.replace("WHOM", "'arguments'").replace("SLOT", "'tries'"), name="helper_")
    mind.write("DELEGATING", source, author="architect")
    before = looks(mind)
    outcome = mind.think()
    assert ": guardian: identity covenant: 'tries' is of a part of the organization" in outcome.error
    assert looks(mind) == before


@pytest.mark.parametrize("how", [how for how in HANDLERS if "slot" not in how])
def test_results_are_asked_and_never_set(mind: Any, how: str) -> None:
    """Nor by a second method that they are passed on to; also objects that are no part of the organization."""

    def place(root: Any) -> None:
        install_method(
            mind.part(root, "orchestrator_obj.cycle_prototype"),
            "prototype_",
            "def prototype_(self):\n    return self.front.desk\n",
            author="architect",
        )

    mind.image.run(place)
    assert ": undeclared: 'mood' is not among the sets" in attack(mind, WAYS["prototype"], how, "mood").error
    with mind.image.snapshot() as root:
        assert root["lobby"].desk.mood == "tidy"


def test_what_is_guarded_is_what_counts_as_a_change_of_the_organization(mind: Any) -> None:
    """The guardian's objects are those of `mind.keep_organization`."""
    with mind.image.snapshot() as root:
        parts = {id(part) for part in organization._parts(root) if isinstance(part, UvmObject)}
        assert {id(part) for part in organized(root)} == parts
        assert id(root["lobby"].brick_prototype_obj.album) in parts
        assert id(root["lobby"].desk) not in parts


# ---------------------------------------------------------------------------------------- how much


def test_what_a_call_has_the_kernel_hold_is_bounded(mind: Any) -> None:
    """Records of a megabyte each are told until their sum is too large."""
    head = declared(arguments={"sends": ["record"]})
    body = "for n in range(1900):\n        host.record('ARTIFACT_GENERATED', n=n, text='x' * 900_000)"
    mind.write("DELEGATING", f"{head}def _process_synthesis_(self, cycle, host):\n    {body}\n")
    outcome = mind.think()
    assert ": crossed-bytes: " in outcome.error
    large = [told for told in mind.told.of(EventType.ARTIFACT_GENERATED) if "text" in told["detail"]]
    assert 10 < len(large) < 20


ASKING = """
HOST = 2
CAPABILITIES = {"arguments": {"sends": ["ask", "fail", "prompt", "turn"]}, "results": {"reads": ["text"]}}

def _process_synthesis_(self, cycle, host):
    count = 0
    for batch in BATCHES:
        prompts = [host.prompt("BRICK", f"ask-{step}", [host.turn("user", "Say.")], 9) for step in batch]
        count += len([answer.text for answer in host.ask(prompts)])
    host.fail("asked", str(count))
"""


def test_equal_prompts_are_asked_and_told_once(mind: Any) -> None:
    """At once or later in the thought; each still gets its answer."""
    mind.write("DELEGATING", ASKING.replace("BATCHES", "([1, 2, 1, 1], [2, 3])"))
    assert mind.think().error == "6"
    assert mind.engine.batches == [1, 2, 1]
    steps = [told["detail"]["step"] for told in mind.told.of(EventType.LLM_PROMPT)]
    assert steps == [told["detail"]["step"] for told in mind.told.of(EventType.LLM_RESPONSE)]
    assert steps == ["plan", "ask-1", "ask-2", "ask-3"]


def test_a_thought_asks_a_bounded_number_of_prompts(mind: Any) -> None:
    """At once, and in all; what was answered already is not counted again."""
    batches = f"[range(n, n + 64) for n in range(0, {MOST_PROMPTS + 64}, 64)]"
    mind.write("DELEGATING", ASKING.replace("BATCHES", batches), author="architect")
    assert "prompts in one thought are too many" in mind.think().error
    assert MOST_PROMPTS - 64 < len(mind.engine.asked) <= MOST_PROMPTS
    mind.engine.asked.clear()
    mind.write("DELEGATING", ASKING.replace("BATCHES", "[range(64)] * 20"), author="architect")
    assert mind.think().error == "1280"
    assert len(mind.engine.asked) == 65


# ---------------------------------------------------------------------------------------- a busy sandbox


def test_a_busy_sandbox_is_a_failure_of_the_thought(mind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited as long as the call might take: it is not thought again, and asks no prompt anew; also in FAILED."""
    for state in ("DELEGATING", "FAILED"):
        mind.write(state, "def _process_synthesis_(self, cycle, host):\n    return None\n")

    def busy(_sandbox: Sandbox, *_call: Any) -> Any:
        raise SandboxBusy("_process_synthesis_", "a cycle", 1.0)

    monkeypatch.setattr(Sandbox, "run", busy)
    outcome = mind.think()
    assert (outcome.outcome, mind.engine.batches) == ("FAILED", [1])
    assert ": busy: no worker was free for 1 s" in outcome.error
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert (final["detail"]["code"], final["detail"]["failed_in"]) == ("method_stopped", "DELEGATING")
    assert ": busy: " in final["detail"]["failed_handler"]


# ---------------------------------------------------------------------------------------- the cycle itself


@pytest.mark.parametrize("stored", ["self.cycle_prototype", "host.persona('BRICK')", "host.state('FAILED')"])
@pytest.mark.parametrize("author", ["0197a0000000700080000000000000aa", "architect"])
def test_a_cycle_is_a_new_object(mind: Any, stored: str, author: str) -> None:
    """The kernel writes to it, so nothing that stands in the image is taken for one; nothing is written then."""
    head = declared(self={"reads": ["cycle_prototype"]}, arguments={"sends": ["persona", "state"]})
    source = f"{head}def start_cognitive_cycle_for_(self, host, mission_id):\n    return {stored}\n"
    mind.write("orchestrator_obj", source, name="start_cognitive_cycle_for_", author=author)
    ticket = mind.accept("Suggest a name for a small boat.")
    before = mind.image.last_tid()
    outcome = mind.cycle(ticket).run()
    assert "which is stored: a cycle is a new object" in outcome.error
    (final,) = mind.told.of(EventType.FINAL_OUTCOME)
    assert (final["detail"]["code"], final["detail"]["failed_in"]) == ("cycle_invalid", "")
    assert "failed_handler" not in final["detail"]
    assert mind.image.last_tid() == before
