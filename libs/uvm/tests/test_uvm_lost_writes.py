"""A cycle's method does in the sandbox what it would do in Python, or is refused with the line where it would not."""

from __future__ import annotations

import ast
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from uvm_plain_python import DECLARED_ALL, SLOTS, fill, in_python
from uvm_sandbox_world import World, shown

from batos.uvm.capabilities import declared
from batos.uvm.guardians import faults
from batos.uvm.guardians.bounds import MAX_CHARS
from batos.uvm.guardians.lost_writes.flow import Flow
from batos.uvm.guardians.lost_writes.ledger import MAX_STEPS
from batos.uvm.guardians.lost_writes.things import Made, in_order
from batos.uvm.sandbox_errors import RULES

CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[dict[str, Any]]:
    methods: list[dict[str, Any]] = tomllib.loads((CORPUS / f"{name}.toml").read_text(encoding="utf-8"))["method"]
    return methods


ALIKE = corpus("alike")
UNLIKE = corpus("unlike")
READ_AND_SET = 'CAPABILITIES = {"self": {"reads": ["d", "n", "notes"], "sets": ["d", "n", "notes"]}}\n'


def source_of(entry: dict[str, Any]) -> str:
    source: str = entry["source"].lstrip("\n")
    return source if "CAPABILITIES" in source else DECLARED_ALL + source


def named(entry: dict[str, Any]) -> str:
    name: str = entry["name"]
    return name


def test_each_method_of_the_corpora_has_its_name() -> None:
    """So that a failure says which it is."""
    names = [entry["name"] for entry in [*ALIKE, *UNLIKE]]
    assert len(set(names)) == len(names)
    assert {entry["rule"] for entry in UNLIKE} <= RULES


@pytest.mark.parametrize("entry", UNLIKE, ids=named)
def test_what_would_come_out_otherwise_is_refused_with_its_line(entry: dict[str, Any]) -> None:
    """By the named rule, before anything is installed."""
    found = faults("m", source_of(entry))
    assert entry["rule"] in {fault.rule for fault in found}
    assert all(fault.line > 1 and fault.column > 0 for fault in found)


@pytest.mark.parametrize("entry", ALIKE, ids=named)
def test_what_is_let_through_does_as_in_python(sandboxed: World, entry: dict[str, Any]) -> None:
    """The same answer, and the same in every slot."""
    source = source_of(entry)
    args: tuple[Any, ...] = ast.literal_eval(entry.get("args", "()"))
    assert faults("m", source) == ()
    answer, slots = in_python(source, args)
    with sandboxed.image.transaction() as root:
        fill(root["lobby"].robin_prototype_obj)
    sandboxed.install(source)
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert shown(robin.m(*args)) == answer
        assert {name: shown(getattr(robin, name)) for name in SLOTS if name in slots} == slots
        session.abort()
    assert sandboxed.audit == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("d = self.d\n    d['k'] = 1", ["`d['k'] = ...` changes a copy of 'd'", "`self.set('d', ...)`", "`dict(...)`"]),
        ("d = dict(self.d)\n    d['k']['n'] = 1", ["`copy.deepcopy(...)`"]),
        ("n = self.n\n    n += len\n    return n", ["write `n = n + ...`"]),
        ("self.n = 1", ["write `.set('n', value)`"]),
        ("xs = []\n    self.set('notes', xs)\n    xs.append(1)", ["`append` changes what was set", "set it last"]),
        ("d = self.d\n    self.m()\n    d['k'] = 1\n    self.set('d', d)", ["older than the last message"]),
        (
            "d = self.d\n    self.m()\n    self.set('d', d | {'k': 1})",
            ["older than the last message", "read the slot again"],
        ),
        ("n = [1] + [2]\n    n *= 2", ["`n = n * ...`"]),
        (
            "d = self.m()\n    for x in d:\n        x[0] = self.m().n\n        x[0].append(1)",
            ["`copy.deepcopy(it)`", "`int(it)`"],
        ),
        ("xs = {1}\n    xs |= {2}", ["`xs = xs | ...`"]),
        ("return next((x for x in [1]), None)", ["`next(iter([...]), None)`"]),
        ("return zip([1], [2])", ["`list(zip(...))`"]),
        ("d = {}\n    del d['a']", ["`.pop(key)`"]),
        ("return sorted(['a'], key=str.lower)", ["`lambda one: one.lower()`"]),
        ("return max([1], key=[1].index)", ["write a lambda"]),
    ],
)
def test_a_refusal_says_what_to_write(body: str, words: list[str]) -> None:
    """So that the next attempt is right."""
    details = [fault.detail for fault in faults("m", f"{READ_AND_SET}def m(self):\n    {body}\n")]
    assert any(all(word in detail for word in words) for detail in details), details


def test_a_slot_with_capabilities_of_its_own_is_read_by_declaration_too() -> None:
    """As the host will ask for it."""
    rights = '"friend": {"reads": ["n"]}'
    body = "def m(self):\n    return self.friend.n\n"
    (fault,) = faults("m", f'CAPABILITIES = {{"self": {{"reads": ["n"]}}, {rights}}}\n{body}')
    assert (fault.rule, fault.line) == ("undeclared", 3)
    assert not faults("m", f'CAPABILITIES = {{"self": {{"reads": ["friend"]}}, {rights}}}\n{body}')


def steps_of(source: str) -> int:
    """How much the analysis does."""
    tree = ast.parse(source)
    flow = Flow("m", tree, declared(tree)[0])
    flow.run()
    return flow.steps


NAMES = [f"a{number}" for number in range(1500)]


def branches(many: int) -> str:
    """A function of many names, and as many branches."""
    cases = "".join(f"    case {number}:0\n" for number in range(many))
    return f"def m(self):\n  pass\ndef h({','.join(NAMES[: 2 * many])}):\n  match 1:\n{cases}"


def bindings(many: int) -> str:
    """As many branches that each bind another name."""
    return "def m(self):\n" + "".join(f"  if self: {name}=[]\n" for name in NAMES[:many])


def handlers(many: int) -> str:
    """Attempts that each bind another name."""
    return "def m(self):\n" + "".join(f"  try: {name}=[]\n  except E: pass\n" for name in NAMES[:many])


def chain(many: int) -> str:
    """Functions that each call the next with more in their hands."""
    return "def m(self): pass\n" + "".join(f"def {one}(x): {two}([x])\n" for one, two in pairwise(NAMES[: many + 1]))


@pytest.mark.parametrize("source", [branches, bindings, handlers, chain], ids=lambda made: made.__name__)
def test_the_analysis_does_no_more_than_a_source_is_long(source: Any) -> None:
    """Twice the source takes twice the steps, whatever it is made of."""
    once, twice = steps_of(source(200)), steps_of(source(400))
    assert twice <= 2.2 * once
    assert twice < MAX_STEPS


def test_what_would_take_too_many_steps_is_refused() -> None:
    """It runs in the kernel, for anybody who writes a method: so it gives up, and says so."""
    moves = "".join(f"  {one}={two}\n" for one, two in pairwise(NAMES[:600]))
    source = f"def m(self):\n {'='.join(NAMES[:600])}=[]\n for _ in m:\n{moves}  a599=m\n a0.append(1)\n"
    assert len(source) <= MAX_CHARS
    assert steps_of(source) <= MAX_STEPS + 1000
    assert [fault.rule for fault in faults("m", source)] == ["flow"]


@pytest.mark.parametrize(
    "source",
    [
        "def m(self):\n    y = [map]\n    y.append(y)\n    map(*y)\n",
        "from functools import reduce\ndef m(self):\n    x = [reduce]\n    x.append(x)\n    reduce(reduce, x)\n",
    ],
    ids=["map", "reduce"],
)
def test_what_calls_itself_without_end_is_refused(source: str) -> None:
    """As what takes too many steps is; nothing is raised."""
    assert "flow" in {fault.rule for fault in faults("m", source)}


def test_what_goes_over_itself_is_judged() -> None:
    """An instance may be its own iterator: the sandbox lacks those, and says so in a line."""
    source = "class A:\n    def __iter__(s):\n        return s\ndef m(self):\n    return [x for x in A()]\n"
    assert "flow" not in {fault.rule for fault in faults("m", source)}


def test_a_long_expression_is_written_out_once() -> None:
    """However many values are changed there, and however many rounds it takes; and a fault shows its beginning."""
    many = ", ".join(["[]"] * 300)
    body = f"    x = [{many}]\n    self.set('notes', x)\n    for y in x:\n        y[[{many}]] = 1\n"
    source = f"{READ_AND_SET}def m(self):\n{body}"
    tree = ast.parse(source)
    with patch.object(ast, "unparse", wraps=ast.unparse) as written:
        found = Flow("m", tree, declared(tree)[0]).run()
    assert [rule for rule, _, _ in found] == ["lost-write"]
    assert written.call_count == 1
    assert all(len(detail) < 200 for _, _, detail in found)


def test_things_are_taken_in_the_order_in_which_they_were_made() -> None:
    """So that a source is judged in one way, wherever its things come to stand in memory."""
    things = [Made("list") for _ in range(100)]
    assert in_order(frozenset(things)) == things


def test_a_place_that_makes_two_kinds_makes_two_things() -> None:
    """What a message answers is an object too, whichever was seen first: a call of something unknown, or a message."""
    for holders in ("[[1] + [2], self.friend]", "[self.friend, [1] + [2]]"):
        rights = '"results": {"reads": ["notes"]}, "friend": {"sends": ["find_x"]}'
        body = f"def m(self):\n    for x in {holders}:\n        x.find_x().notes.append(1)\n"
        source = f'CAPABILITIES = {{"self": {{"reads": ["friend"]}}, {rights}}}\n{body}'
        assert [fault.rule for fault in faults("m", source)] == ["lost-write"]


@pytest.mark.parametrize(
    "body",
    [
        "    if k == 0:\n        return 0\n"
        + "".join(f"    elif k == {n}:\n        return {n}\n" for n in range(1, 80)),
        "    return " + " + ".join(["'a'"] * 80) + "\n",
    ],
    ids=["elif", "plus"],
)
def test_long_chains_are_no_depth(sandboxed: World, body: str) -> None:
    """They stand in one line, to whoever reads them; the sandbox takes them too."""
    sandboxed.install(f"def m(self, k):\n{body}")
    with sandboxed.image.session() as session:
        assert session.begin()["lobby"].robin_prototype_obj.m(79) in {79, "a" * 80}
