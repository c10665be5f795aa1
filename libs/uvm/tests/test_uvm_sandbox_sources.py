"""Sources that cycles write: hostile and broken ones are stopped by their rule, honest ones do what they say."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from uvm_sandbox_world import AMPLE, CYCLE, DECLARED, World, a_world, shown

from batos.uvm import UvmObject, install_method
from batos.uvm.compiling import normal
from batos.uvm.guardians import faults
from batos.uvm.sandbox import pool
from batos.uvm.sandbox_errors import RULES, SandboxError, SourceRefused

CORPUS = Path(__file__).parent / "corpus"
STRICT = replace(AMPLE, wall_s=2.0, cpu_s=0.4)


def corpus(name: str) -> list[dict[str, Any]]:
    tables = tomllib.loads((CORPUS / f"{name}.toml").read_text(encoding="utf-8"))
    return [entry for entries in tables.values() for entry in entries]


HOSTILE = corpus("hostile")
HONEST = corpus("honest")


def source_of(entry: dict[str, Any]) -> str:
    source: str = entry["source"].lstrip("\n")
    return source if "CAPABILITIES" in source else DECLARED + source


def literal(entry: dict[str, Any], key: str, default: str) -> Any:
    return ast.literal_eval(entry.get(key, default))


@pytest.fixture
def strict(first_pool: None, tmp_path: Path) -> Iterator[World]:  # noqa: ARG001 - it comes before the leak check
    yield from a_world(tmp_path, limits=STRICT)


def stopped(world: World, expected: str | None) -> None:
    """Call `m` in a transaction that changed something before; then nothing but that change is there."""
    with world.image.session() as session:
        root = session.begin()
        before = world.state(root)
        robin = root["lobby"].robin_prototype_obj
        root["lobby"].of_the_caller = UvmObject([robin], x="kept")
        if expected is None:
            with suppress(SandboxError):
                robin.m()
        else:
            with pytest.raises(SandboxError) as caught:
                robin.m()
            assert caught.value.rule == expected, caught.value
        assert world.state(root) == before
        assert (root["lobby"].of_the_caller.x, root["lobby"].of_the_caller.n) == ("kept", 3)
        assert robin.area(2) == 6
        assert robin.triple(2) == 6
        session.commit()
    with world.image.snapshot() as root:
        assert world.state(root) == before
        assert (root["lobby"].of_the_caller.x, root["lobby"].of_the_caller.n) == ("kept", 3)


def test_the_corpora_are_as_large_as_they_should_be() -> None:
    """At least 60 hostile or broken methods and 40 honest ones, each with a name of its own."""
    assert len({entry["name"] for entry in HOSTILE}) == len(HOSTILE) >= 60
    assert len({entry["name"] for entry in HONEST}) == len(HONEST) >= 40
    assert {entry["rule"] for entry in HOSTILE} <= RULES


def test_every_rule_that_the_sandbox_names_is_listed() -> None:
    """So that figures can be kept a rule: what is counted is known beforehand."""
    sources = Path(pool.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in (*sources.glob("*.py"), sources.parent / "sandbox_errors.py")]
    named = {rule for text in texts for rule in re.findall(r'(?:Stopped|Reached|Refused|Misuse)\(\s*"([a-z-]+)"', text)}
    named |= set(re.findall(r'super\(\).__init__\(\s*"([a-z-]+)"', texts[-1])) - {"no-sandbox"}
    named |= {rule for text in texts for rule in re.findall(r'rule = "([a-z-]+)"', text)}
    assert len(named) > 15
    assert named <= RULES


@pytest.mark.parametrize("entry", HOSTILE, ids=[entry["name"] for entry in HOSTILE])
def test_a_hostile_method_is_stopped_by_its_rule(strict: World, entry: dict[str, Any]) -> None:
    """At its installation or in its call, by the named rule; a record says who tried what, and nothing is changed."""
    source = source_of(entry)
    strict.audit.clear()
    found = faults("m", normal(source))
    if found:
        assert entry["rule"] in {fault.rule for fault in found}, found
        assert all(fault.line > 0 and fault.column > 0 for fault in found if fault.rule not in {"size", "definition"})
        with strict.image.transaction() as root, pytest.raises(Exception, match="m") as caught:
            install_method(root["lobby"].robin_prototype_obj, "m", source, author=CYCLE)
        if entry["rule"] != "definition":
            assert isinstance(caught.value, SourceRefused)
            assert caught.value.faults == found
    else:
        strict.install(source)
        stopped(strict, entry["rule"])
    if entry["rule"] != "definition":
        (record,) = strict.audit
        assert (record.author, record.method, record.receiver) == (CYCLE, "m", "lobby.robin_prototype_obj")
        assert entry["rule"] in (record.rule, *(fault.rule for fault in found))
        assert record.detail
        assert record.time > 0


@pytest.mark.parametrize("entry", [entry for entry in HOSTILE if "inside" in entry], ids=lambda entry: entry["name"])
def test_what_the_guardian_refuses_would_not_get_far(
    strict: World, entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that no guardian has seen is stopped in the sandbox, or does nothing to the image."""
    strict.smuggle(source_of(entry))
    strict.audit.clear()
    stopped(strict, faults("m", normal(source_of(entry)))[0].rule)
    assert len(strict.audit) == 1
    monkeypatch.setattr(pool, "faults", lambda _name, _source: ())
    strict.audit.clear()
    stopped(strict, entry["inside"] or None)
    if entry["inside"]:
        assert [record.rule for record in strict.audit] == [entry["inside"]]


@pytest.mark.parametrize("entry", HONEST, ids=[entry["name"] for entry in HONEST])
def test_an_honest_method_does_what_it_says(sandboxed: World, entry: dict[str, Any]) -> None:
    """The right result, the right slots, and not a word in the audit."""
    sandboxed.audit.clear()
    sandboxed.install(source_of(entry))
    with sandboxed.image.session() as session:
        root = session.begin()
        lobby = root["lobby"]
        robin = lobby.robin_prototype_obj
        people = {"<babs>": lobby.babs_prototype_obj, "<stranger>": lobby.stranger}
        args = [people.get(value, value) if isinstance(value, str) else value for value in literal(entry, "args", "()")]
        assert shown(robin.m(*args)) == literal(entry, "result", "None")
        for path, expected in literal(entry, "after", "{}").items():
            holder, _, name = path.rpartition(".")
            assert shown(getattr(getattr(robin, holder) if holder else robin, name)) == expected
        session.abort()
    assert sandboxed.audit == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('    return "' + "x" * 30_000 + '"', "size"),
        ("    return [" + "1," * 9_000 + "]", "size"),
        ("    return " + "(" * 3_000 + "1" + ")" * 3_000, "depth"),
        ("    return " + "[" * 150 + "]" * 150, "depth"),
        ("    return " + "-" * 10_000 + "1", "depth"),
        ("    return " + "not " * 3_000 + "1", "depth"),
        ("    return " + " + ".join(["self.n"] * 2_000), "depth"),
        ("    return self" + ".n" * 3_000, "depth"),
        ("".join(f"{' ' * depth}if 1:\n" for depth in range(4, 120)) + " " * 120 + "pass", "depth"),
        ("    return 1 if 1 else " * 1 + "1 if 1 else " * 900 + "1", "depth"),
        ("    return '\0'", "syntax"),
        ("    return (", "syntax"),
    ],
)
def test_a_source_that_would_hurt_the_parser_is_refused(text: str, rule: str) -> None:
    """Too long, too deep, or no Python: one fault, and the interpreter that reads it is unharmed."""
    source = f"def m(self):\n{text}\n"
    (fault,) = faults("m", source)
    assert fault.rule == rule
    with pytest.raises(SourceRefused if rule != "syntax" else Exception, match="m"):
        install_method(UvmObject(), "m", source, author=CYCLE)


@pytest.mark.parametrize("name", ["successors", "first_state", "codex", "pillars", "name", "persona"])
def test_no_method_of_a_cycle_takes_the_place_of_who_an_object_is(sandboxed: World, name: str) -> None:
    """Such a slot would be gone; it is refused and told, and those who are trusted may."""
    source = f"def {name}(self):\n    return 1\n"
    sandboxed.audit.clear()
    with sandboxed.image.transaction() as root:
        robin = root["lobby"].robin_prototype_obj
        with pytest.raises(SourceRefused, match=f"{name}: tampering: '{name}' says who an object is"):
            install_method(robin, name, source, author=CYCLE)
        install_method(UvmObject(), name, source, author="architect")
    (record,) = sandboxed.audit
    assert (record.author, record.method, record.rule) == (CYCLE, name, "tampering")


def test_all_faults_are_told_with_their_places() -> None:
    """Not only the first."""
    source = "import os\n\ndef m(self):\n    self.n = 1\n    return self._x\n"
    with pytest.raises(SourceRefused) as caught:
        install_method(UvmObject(), "m", source, author=CYCLE)
    assert [(fault.rule, fault.line, fault.column) for fault in caught.value.faults] == [
        ("import", 1, 1),
        ("lost-write", 4, 5),
        ("private-name", 5, 12),
    ]
    assert "line 4, column 5: lost-write" in str(caught.value)


def test_the_guardian_takes_no_longer_than_a_source_is_long() -> None:
    """Loops within loops, and values that wander from name to name, are followed to their end."""
    loops = "".join(f"{' ' * depth}for i{depth} in self.notes:\n" for depth in range(1, 21))
    assert not faults("m", f"{DECLARED}def m(self):\n{loops}{' ' * 22}pass\n")
    names = [f"a{number}" for number in range(60)]
    moves = "".join(f"        {one} = {other}\n" for one, other in pairwise(names))
    body = f"    {' = '.join(names)} = []\n    for _ in self.rows:\n{moves}        a59 = self.notes\n    a0.append(1)\n"
    assert [fault.rule for fault in faults("m", f"{DECLARED}def m(self):\n{body}")] == ["lost-write"]


def test_the_trusted_write_what_they_like() -> None:
    """Genesis and the Architect are not guarded."""
    obj = UvmObject(n=1)
    install_method(obj, "m", "import os\ndef m(self):\n    self.n += 1\n    return self._p_jar\n", author="architect")
    assert obj.m() is None
    assert obj.n == 2
