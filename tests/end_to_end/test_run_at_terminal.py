"""`batos run` as somebody at a terminal sees it, with the real model: a thought, its answer, a conversation."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pexpect
import pytest
from local_fleet import BATOS, CHECKOUT, Fleet

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

SECONDS = 120
QUESTION = "What is rain? Answer in one sentence."
STYLE = r"(?:\x1b\[[\d;?]*[A-Za-z])*"
_ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fleet]:
    """A home in which no fleet runs yet; nothing of one may be left."""
    found = Fleet(tmp_path / "var")
    yield found
    found.run("down", timeout=90)
    left = found.processes()
    for process in left:
        process.kill()
    assert not left, [process.pid for process in left]


@contextlib.contextmanager
def terminal(fleet: Fleet, *arguments: str) -> Iterator[pexpect.spawn[str]]:
    """Run a command at a terminal of its own, where Ctrl-C counts even if the tests run in a background job."""
    child = pexpect.spawn(
        str(BATOS), list(arguments), env={**fleet.environment, "TERM": "xterm"}, cwd=str(CHECKOUT), encoding="utf-8",
        timeout=SECONDS, dimensions=(40, 160), preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.close(force=True)


def solid(text: str) -> str:
    """Return the letters and digits of what a terminal was sent: lines break and colours change where they like."""
    return "".join(re.findall("[A-Za-z0-9]", _ESCAPE.sub("", text)))


def told(child: pexpect.spawn[str]) -> tuple[str, str]:
    """Wait until the end of a mission is on the screen; return its id and what the screen says between."""
    child.expect(rf"COMPLETE{STYLE} in [\d.]+ s")
    child.expect(rf"mission {STYLE} *{STYLE}([0-9a-f]{{32}})")
    mission_id, said = child.match.group(1), child.before
    for fact in ("tid", "model", "adapter", "personas", "tokens", "kernel"):
        child.expect(rf"{fact} +{STYLE}\S+")
    return mission_id, said


def test_a_thought_an_answer_a_conversation(fresh: Fleet) -> None:
    """`run` shows the thought word by word, answers, converses; leaving it ends the fleet and nothing is left of it."""
    with terminal(fresh, "run") as child:
        child.expect("8 vessels in .*: all ready")
        child.expect(f"DECOMPOSING +{STYLE}BRICK")
        child.expect(r"BRICK/plan .*?\([0-9]+ tokens, ")
        assert child.match.group(0).count("BRICK/plan") > 2, "the plan was not shown while it was written"
        child.expect("SYNTHESIZING")
        child.expect("VALIDATING")
        first, said = told(child)
        answer = fresh.json("mission", "show", first)["answer"]
        assert answer.strip()
        assert solid(answer) in solid(said)

        child.expect("batos>")
        child.sendline(QUESTION)
        second, said = told(child)
        shown = fresh.json("mission", "show", second)
        assert second != first
        assert (shown["text"], shown["outcome"]) == (QUESTION, "COMPLETE")
        assert shown["answer"].strip()
        assert solid(shown["answer"]) in solid(said)

        child.sendline("/quit")
        child.expect("the fleet that this command started has ended")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
    assert fresh.processes() == []
    assert fresh.run("status").returncode == 3
