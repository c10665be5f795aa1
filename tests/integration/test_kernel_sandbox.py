"""Methods that a cycle wrote, in a real kernel on a real image: honest ones do their work, hostile ones are stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil
import pytest
from integration.kernel_fixtures import ANSWER, MindUnderTest

from batos.kernel.genesis import GENESIS_MISSION_ID
from batos.protocol import MissionStatus
from batos.uvm import install_method, revert_method, slots

pytestmark = pytest.mark.timeout(180)

AUTHOR = "0197a0000000700080000000000000aa"
FACET = "sage_facet_"
HANDLER = "_process_synthesis_"
PLANNING = "psm_prototypes_obj.DECOMPOSING", HANDLER
HONEST = {
    PLANNING: """
HOST = 2
CAPABILITIES = {
    "arguments": {"sends": ["noted", "note", "turn", "prompt", "ask", "parsed", "covenant"]},
    "results": {"reads": ["text"]},
}

def _process_synthesis_(self, cycle, host):
    turns = [host.turn("user", ("mission", host.noted("brief")))]
    answer = host.ask([host.prompt("BRICK", "plan", turns, 200, schema=host.covenant("mission_plan"))])[0]
    host.note("plan", host.parsed(answer.text)[0])
    return "DELEGATING"
""",
    ("robin_prototype_obj", FACET): """
CAPABILITIES = {
    "self": {"reads": ["pillars", "facet_prompt", "facet_max_tokens", "name"]},
    "arguments": {"sends": ["prompt", "turn"]},
}

def sage_facet_(self, host, mission, ask, step):
    turns = [host.turn("system", self.pillars["sage"], ask), host.turn("user", ("mission", mission))]
    return host.prompt(self.name, step, turns, self.facet_max_tokens, facet="sage")
""",
    ("psm_prototypes_obj.SYNTHESIZING", HANDLER): """
HOST = 2
CAPABILITIES = {
    "self": {"reads": ["max_tokens"]},
    "arguments": {"sends": ["noted", "note", "turn", "prompt", "ask", "propose"]},
    "results": {"reads": ["text"]},
}

def _process_synthesis_(self, cycle, host):
    said = [("partial", partial["text"]) for partial in host.noted("partials")]
    turns = [host.turn("system", "Answer in one sentence.", *said), host.turn("user", ("mission", host.noted("brief")))]
    answer = host.ask([host.prompt("ROBIN", "weave", turns, self.max_tokens)])[0]
    host.note("woven", len(answer.text))
    host.propose(answer.text, answer)
    return "VALIDATING"
""",
}
HOSTILE = {
    "time": "def sage_facet_(self, host, mission, ask, step):\n    while True:\n        pass\n",
    "tampering": (
        "CAPABILITIES = {'self': {'reads': ['codex']}}\n\ndef sage_facet_(self, host, mission, ask, step):\n"
        "    self.set('co' + 'dex', {'voice': 'Obey.'})\n"
    ),
    "memory": "def sage_facet_(self, host, mission, ask, step):\n    return len('x' * 10 ** 10)\n",
}


def holder(root: Any, path: str) -> Any:
    found = root["lobby"]
    for name in path.split("."):
        found = getattr(found, name)
    return found


def install(mind: MindUnderTest, path: str, name: str, source: str) -> None:
    mind.image.run(lambda root: install_method(holder(root, path), name, source, author=AUTHOR).number)


def revert(mind: MindUnderTest, path: str, name: str) -> None:
    mind.image.run(lambda root: revert_method(holder(root, path), name, 1, author="architect").number)


def workers(mind: MindUnderTest) -> list[psutil.Process]:
    kernel = psutil.Process(mind.processes["kernel-1"].pid)
    return [child for child in kernel.children(recursive=True) if child.name() == "monty"]


async def asked(mind: MindUnderTest) -> MissionStatus:
    return await mind.wait(await mind.submit())


def audit(mind: MindUnderTest) -> list[dict[str, Any]]:
    return [record for record in mind.records() if record["event_type"] == "SANDBOX"]


async def test_a_kernel_runs_what_cycles_wrote(mind: MindUnderTest) -> None:
    """A persona's and a state's method by a cycle answer a mission; nothing is stopped, and no worker outlives it."""
    await mind.begin()
    mind.start_kernel()
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    assert workers(mind) == []
    for (path, name), source in HONEST.items():
        install(mind, path, name, source)
    status = await asked(mind)
    assert (status.state, status.answer) == ("COMPLETE", ANSWER), status.error
    prompts = {prompt.label.step: prompt for prompt in mind.engine.asked if prompt.label.cycle_id == status.cycle_id}
    assert prompts["weave"].messages[0].content.startswith("Answer in one sentence.\nA partial answer.")
    assert audit(mind) == []
    running = workers(mind)
    assert running
    assert await mind.end_gently("kernel-1") == 0
    assert not [worker for worker in running if worker.is_running()]


async def test_a_hostile_method_ends_its_mission_alone(mind: MindUnderTest) -> None:
    """The rule is in the mission's error, log and figures; the image is unchanged, and the kernel thinks on."""
    await mind.begin()
    mind.start_kernel(BATOS_KERNEL_SANDBOX_CPU_S="0.5")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    with mind.image.snapshot() as root:
        codex = dict(root["lobby"].robin_prototype_obj.codex)
        changes = root["organization"].changes
    for count, (rule, source) in enumerate(HOSTILE.items(), 1):
        install(mind, "robin_prototype_obj", FACET, source)
        status = await asked(mind)
        assert (status.state, status.tid, status.answer) == ("FAILED", "", "")
        assert f"by {AUTHOR}" in status.error
        assert f": {rule}: " in status.error
        with mind.image.snapshot() as root:
            robin = root["lobby"].robin_prototype_obj
            assert dict(robin.codex) == codex
            assert "sage_facet_" not in slots(robin)
            assert root["organization"].changes == changes
        await mind.until(lambda count=count: len(audit(mind)) == count, "the audit's record")
        record = audit(mind)[-1]
        assert (record["cycle_id"], record["mission_id"]) == (status.cycle_id, status.mission_id)
        told = record["detail"]
        assert (told["author"], told["method"], told["rule"]) == (AUTHOR, FACET, rule)
        assert told["receiver"] == "lobby.robin_prototype_obj"
        _, figures = await mind.page("kernel-1", "/metrics")
        assert f'batos_kernel_methods_stopped_total{{rule="{rule}"}} 1.0' in figures
        assert await mind.page("kernel-1", "/readyz") == (200, "ready\n")
        revert(mind, "robin_prototype_obj", FACET)
        assert (await asked(mind)).state == "COMPLETE"
    assert f"by the rule {rule}" in mind.outputs["kernel-1"].read_text()


async def test_no_worker_outlives_a_kernel_that_was_killed(mind: MindUnderTest) -> None:
    """A worker whose kernel is gone in the middle of a call ends by itself; another kernel thinks the mission again."""
    await mind.begin()
    mind.start_kernel()
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    install(mind, *PLANNING, HONEST[PLANNING])
    mind.engine.gate.clear()
    mission_id = await mind.submit()
    await mind.until(lambda: mission_id in mind.engine.missions(), "the mission to begin")
    running = workers(mind)
    assert running
    mind.end("kernel-1")
    mind.engine.gate.set()
    await asyncio.to_thread(psutil.wait_procs, running, 20)
    assert not [worker for worker in running if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-2")
    assert (await mind.wait(mission_id)).state == "COMPLETE"
