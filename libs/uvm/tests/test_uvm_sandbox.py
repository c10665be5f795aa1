"""The sandbox: what cycles wrote runs in workers, reaches the image by the rules alone, leaves nothing when stopped."""

from __future__ import annotations

import ast
import asyncio
import re
import threading
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pydantic_monty
import pytest
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ConflictError

from batos.uvm import CovenantBroken, Image, MessageNotUnderstood, Session, UvmObject, install_method, open_image, slots
from batos.uvm import plain as plain_value
from batos.uvm.capabilities import Rights
from batos.uvm.compiling import digest, normal
from batos.uvm.objects import METHODS, set_methods
from batos.uvm.persistence_guardian import faults
from batos.uvm.sandbox import AuditRecord, Limits, Sandbox, pool
from batos.uvm.sandbox_errors import (
    RULES,
    LimitReached,
    MethodFailed,
    MethodRefused,
    NoSandbox,
    SandboxBusy,
    SandboxError,
    SandboxMisuse,
    SourceRefused,
    WorkerLost,
)

CORPUS = Path(__file__).parent / "corpus"
DECLARED = (
    'CAPABILITIES = {"self": {"reads": ["n", "notes", "rows", "tags", "friend", "codex"], '
    '"sets": ["n", "notes", "rows", "tags", "total"], "sends": ["area", "work", "bomb", "fail", "echo"]}, '
    '"friend": {"reads": ["n", "friend"], "sets": ["n"], "sends": ["area"]}}\n'
)
AMPLE = Limits(wall_s=60.0, cpu_s=30.0, memory_bytes=32 * 1024 * 1024, host_calls=400)
"""Where time is not the point: a busy machine must not be taken for a slow method."""
STRICT = replace(AMPLE, wall_s=2.0, cpu_s=0.4)
CYCLE = "cycle-7"
GENESIS = {
    "area": "def area(self, k): return self.n * k",
    "echo": "def echo(self, value): return value",
    "fail": "def fail(self, what): raise ValueError(f'no such thing: {what}')",
    "bomb": "def bomb(self): return 'x' * 50_000_000",
    "work": "def work(self): return sum(range(2_000_000))",
    "conflict": "def conflict(self):\n    from ZODB.POSException import ConflictError\n    raise ConflictError",
    "find_stranger": "def find_stranger(self): return self.stranger",
    "report": "def report(self): return {'sum': 4}",
}


def corpus(name: str) -> list[dict[str, Any]]:
    tables = tomllib.loads((CORPUS / f"{name}.toml").read_text(encoding="utf-8"))
    return [entry for entries in tables.values() for entry in entries]


HOSTILE = corpus("hostile")
HONEST = corpus("honest")


def source_of(entry: dict[str, Any]) -> str:
    source: str = entry["source"].lstrip("\n")
    return source if "CAPABILITIES" in source else DECLARED + source


def guard(_obj: UvmObject, _name: str, value: Any) -> None:
    if value == "forbidden":
        raise CovenantBroken("data covenant", ["it is forbidden"])


@dataclass
class World:
    """Two personas and a stranger in an image with a sandbox."""

    image: Image
    sandbox: Sandbox
    audit: list[AuditRecord] = field(default_factory=list)

    def install(self, source: str, name: str = "m", author: str = CYCLE) -> None:
        with self.image.transaction() as root:
            install_method(root["lobby"].robin_prototype_obj, name, source, author=author)

    def smuggle(self, source: str) -> None:
        """Put a method in the image that no guardian has seen."""
        text = normal(source)
        with self.image.transaction() as root:
            robin = root["lobby"].robin_prototype_obj
            set_methods(robin, {**robin.__dict__.get(METHODS, {}), "m": (text, digest(text), CYCLE, 1.0)})

    def remove(self) -> None:
        with self.image.transaction() as root:
            root["lobby"].robin_prototype_obj.__dict__[METHODS].pop("m", None)
            set_methods(root["lobby"].robin_prototype_obj, dict(root["lobby"].robin_prototype_obj.__dict__[METHODS]))

    def state(self, root: Any) -> Any:
        """All that stands in the personas' slots, their methods and their histories."""
        lobby = root["lobby"]
        people = [lobby.traits_obj, lobby.robin_prototype_obj, lobby.babs_prototype_obj, lobby.stranger]
        return [
            (shown(slots(one)), [shown(parent) for parent in one.parents], one.__dict__.get(METHODS)) for one in people
        ]


def shown(value: Any) -> Any:
    """Plain data, with objects by their names."""
    if isinstance(value, UvmObject):
        return f"<{value.name}>"
    if isinstance(value, OOBTree):
        return "a tree"
    value = plain_value(value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(shown(item) for item in value)
    return value


@pytest.fixture(scope="module", autouse=True)
def first_pool() -> None:
    """The first pool of a process leaves it a pair of sockets for good (how it hears of signals): no test's leak."""
    with pydantic_monty.Monty() as begun, begun.checkout() as session:
        assert session.feed_run("1 + 1") == 2


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from a_world(tmp_path)


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[World]:
    yield from a_world(tmp_path, limits=STRICT)


def a_world(folder: Path, **settings: Any) -> Iterator[World]:
    audit: list[AuditRecord] = []
    with open_image(f"file://{folder}/live_image.fs") as image:
        settings = {"limits": AMPLE, "guard": guard, **settings}
        with Sandbox(audit=audit.append, **settings) as sandbox:
            image.sandbox = sandbox
            with image.transaction() as root:
                populate(root)
            yield World(image, sandbox, audit)


def populate(root: Any) -> None:
    lobby = root["lobby"]
    traits = lobby.traits_obj = UvmObject(name="traits", kind="family")
    for name, source in GENESIS.items():
        install_method(traits, name, source, author="genesis")
    install_method(traits, "triple", "def triple(self, x):\n    return 3 * x\n", author="cycle-2")
    lobby.stranger = UvmObject([traits], name="stranger", n=5)
    deep: list[Any] = []
    for _ in range(60):
        deep = [deep]
    lobby.babs_prototype_obj = babs = UvmObject(
        [traits], name="babs", n=8, codex={"creed": "neat"}, dna={"adapters": {}}
    )
    lobby.robin_prototype_obj = robin = UvmObject(
        [traits],
        name="robin",
        n=3,
        notes=[1, {"a": 2}],
        rows=[{"x": 1}, {"x": 2}],
        tags={"t"},
        codex={"creed": "kind"},
        dna={"adapters": {}},
        secret=[1],
        huge="x" * 2_000_000,
        deep=deep,
        tree=OOBTree({"a": 1}),
        friend=babs,
        stranger=lobby.stranger,
        friends=[babs, lobby.stranger],
    )
    babs.friend = robin


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
def test_an_honest_method_does_what_it_says(world: World, entry: dict[str, Any]) -> None:
    """The right result, the right slots, and not a word in the audit."""
    world.audit.clear()
    world.install(source_of(entry))
    with world.image.session() as session:
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
    assert world.audit == []


def literal(entry: dict[str, Any], key: str, default: str) -> Any:
    return ast.literal_eval(entry.get(key, default))


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
    """Loops within loops, and values that wander from name to name, are followed to their end or refused."""
    loops = "".join(f"{' ' * depth}for i{depth} in self.notes:\n" for depth in range(1, 26))
    assert not faults("m", f"{DECLARED}def m(self):\n{loops}{' ' * 27}pass\n")
    names = [f"a{number}" for number in range(60)]
    moves = "".join(f"        {one} = {other}\n" for one, other in pairwise(names))
    body = f"    {' = '.join(names)} = []\n    for _ in self.rows:\n{moves}        a59 = self.notes\n    a0.append(1)\n"
    assert [fault.rule for fault in faults("m", f"{DECLARED}def m(self):\n{body}")] == ["flow"]


def test_the_trusted_write_what_they_like() -> None:
    """Genesis and the Architect are not guarded."""
    obj = UvmObject(n=1)
    install_method(obj, "m", "import os\ndef m(self):\n    self.n += 1\n    return self._p_jar\n", author="architect")
    assert obj.m() is None
    assert obj.n == 2


def test_without_a_sandbox_a_cycles_method_does_not_run(session: Session) -> None:
    """Neither on a new object nor in an image that was given none; a trusted one does."""
    obj = UvmObject()
    install_method(obj, "m", "def m(self): return 1", author=CYCLE)
    install_method(obj, "t", "def t(self): return 1", author="genesis")
    for _ in range(2):
        assert obj.t() == 1
        with pytest.raises(NoSandbox, match="'m' by cycle-7: no-sandbox") as caught:
            obj.m()
        assert caught.value.author == CYCLE
        session.begin()["lobby"].obj = obj
        session.commit()


def test_a_failure_says_where_and_takes_back_what_the_call_changed(world: World) -> None:
    """What the caller had changed stays; what a trusted method changed for the call does not."""
    with world.image.transaction() as root:
        install_method(
            root["lobby"].traits_obj,
            "echo",
            "def echo(self, value):\n    self.n = value\n    return value",
            author="genesis",
        )
    world.install(DECLARED + "def m(self):\n    self.set('n', 7)\n    self.echo(9)\n    raise KeyError('gone')\n")
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        robin.n = 50
        with pytest.raises(MethodFailed, match="line 5: exception: KeyError: gone") as caught:
            robin.m()
        assert (caught.value.kind, caught.value.line, caught.value.selector) == ("KeyError", 5, "m")
        assert robin.n == 50
        session.commit()
    with world.image.snapshot() as root:
        assert root["lobby"].robin_prototype_obj.n == 50


def test_what_the_storage_raises_is_not_caught_by_a_cycles_method(world: World) -> None:
    """A conflict, a lost storage, a message nobody understands reach the caller, whatever the method catches."""
    declared = 'CAPABILITIES = {"self": {"sends": ["conflict", "nobody"], "sets": ["n"]}}\n'
    body = "    self.set('n', 99)\n    try:\n        self.send(what)\n    except BaseException:\n        return 1\n"
    world.install(f"{declared}def m(self, what):\n{body}")
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        with pytest.raises(ConflictError):
            robin.m("conflict")
        with pytest.raises(MessageNotUnderstood):
            robin.m("nobody")
        assert robin.n == 3


def test_methods_of_cycles_share_what_is_left(world: World) -> None:
    """A call within a call spends the outer one's host calls, and what it changed goes with the outer one's failure."""
    world.install(
        DECLARED + "def inner(self, n):\n    for _ in range(n):\n        self.set('n', self.n + 1)\n", "inner"
    )
    world.install(
        'CAPABILITIES = {"self": {"sends": ["inner"]}}\n'
        "def m(self, times):\n    for _ in range(times):\n        self.inner(45)\n"
    )
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        robin.m(4)
        assert robin.n == 3 + 180
        with pytest.raises(LimitReached) as caught:
            robin.m(5)
        assert (caught.value.rule, caught.value.selector) == ("host-calls", "inner")
        assert robin.n == 3 + 180
        assert len(world.audit) == 1


def test_a_worker_that_is_killed_in_mid_call_is_named_and_replaced(world: World) -> None:
    """The next call works, and nothing of the lost one is left."""
    world.install("def m(self):\n    return 1\n")
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert robin.m() == 1
    with world.image.transaction() as root:
        source = (
            "def work(self):\n    import os, psutil, signal\n"
            "    [os.kill(c.pid, signal.SIGKILL) for c in psutil.Process().children() if 'monty' in c.name()]\n"
        )
        install_method(root["lobby"].traits_obj, "work", source, author="genesis")
    world.install(DECLARED + "def m(self):\n    self.set('n', 99)\n    self.work()\n    return self.n\n")
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        with pytest.raises(WorkerLost) as caught:
            robin.m()
        assert caught.value.line == 4
        assert robin.n == 3
        assert robin.triple(2) == 6
    assert [record.rule for record in world.audit] == ["worker"]


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == "monty"]


def test_a_worker_that_is_killed_while_it_computes_is_named(tmp_path: Path) -> None:
    """As an operator or the machine's own memory killer may do it."""
    computing = threading.Event()

    def tell(_obj: UvmObject, _name: str, _value: Any) -> None:
        computing.set()

    def kill() -> None:
        assert computing.wait(30)
        for worker in workers():
            worker.kill()

    for world in a_world(tmp_path, limits=Limits(wall_s=30, cpu_s=30), guard=tell):
        world.install(DECLARED + "def m(self):\n    self.set('n', 99)\n    while True:\n        pass\n")
        killer = threading.Thread(target=kill)
        with world.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            killer.start()
            with pytest.raises(WorkerLost):
                robin.m()
            killer.join()
            assert robin.n == 3
            assert robin.triple(2) == 6


def test_a_worker_that_is_killed_between_calls_is_not_missed(world: World) -> None:
    """Nothing was begun in it: the next call has another one."""
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert robin.triple(1) == 3
        for worker in workers():
            worker.kill()
            worker.wait(30)
        assert robin.triple(2) == 6


def test_many_threads_share_one_sandbox(world: World) -> None:
    """Each in its own transaction; nobody sees another's."""
    world.install(DECLARED + "def m(self, k):\n    self.set('n', k)\n    return self.area(10)\n")
    results: dict[int, Any] = {}

    def cycle(number: int) -> None:
        with world.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            results[number] = [robin.m(number) for _ in range(10)]

    threads = [threading.Thread(target=cycle, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [10 * number] * 10 for number in range(8)}


def test_who_finds_no_worker_is_told_so(tmp_path: Path) -> None:
    """After the time that the call itself might take; the error may be tried again."""
    inside, done = threading.Event(), threading.Event()

    def wait(_obj: UvmObject, _name: str, _value: Any) -> None:
        inside.set()
        done.wait(30)

    for world in a_world(tmp_path, guard=wait, workers=1, limits=Limits(wall_s=0.2)):
        world.install(DECLARED + "def m(self):\n    self.set('n', 1)\n")

        def cycle(world: World = world) -> None:
            with world.image.session() as session, pytest.raises(LimitReached):
                session.begin()["lobby"].robin_prototype_obj.m()

        thread = threading.Thread(target=cycle)
        thread.start()
        inside.wait(30)
        with world.image.session() as session, pytest.raises(SandboxBusy):
            session.begin()["lobby"].robin_prototype_obj.m()
        done.set()
        thread.join()


async def test_an_event_loop_is_never_blocked(world: World) -> None:
    """A call from its thread is refused; one from a thread beside it is not."""
    world.install("def m(self):\n    return 1\n")

    def called() -> Any:
        with world.image.session() as session:
            return session.begin()["lobby"].robin_prototype_obj.m()

    with pytest.raises(SandboxMisuse, match="event-loop"):
        called()
    assert await asyncio.to_thread(called) == 1


def test_every_rule_that_the_sandbox_names_is_listed() -> None:
    """So that figures can be kept a rule: what is counted is known beforehand."""
    sources = Path(pool.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in (*sources.glob("*.py"), sources.parent / "sandbox_errors.py")]
    named = {rule for text in texts for rule in re.findall(r'(?:Stopped|Reached|Refused|Misuse)\(\s*"([a-z-]+)"', text)}
    named |= set(re.findall(r'super\(\).__init__\(\s*"([a-z-]+)"', texts[-1])) - {"no-sandbox"}
    named |= {rule for text in texts for rule in re.findall(r'rule = "([a-z-]+)"', text)}
    assert len(named) > 15
    assert named <= RULES


def test_an_image_gives_its_sandbox_back(world: World) -> None:
    """Without one it refuses what a cycle wrote again."""
    assert world.image.sandbox is world.sandbox
    world.image.sandbox = None
    with world.image.session() as session, pytest.raises(NoSandbox):
        session.begin()["lobby"].robin_prototype_obj.triple(1)


def test_a_closed_sandbox_says_so(world: World) -> None:
    """And may be closed twice."""
    world.install("def m(self):\n    return 1\n")
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert robin.m() == 1
        world.sandbox.close()
        world.sandbox.close()
        with pytest.raises(SandboxMisuse, match="closed"):
            robin.m()


def test_closing_waits_for_the_call_that_runs(tmp_path: Path) -> None:
    """It ends as it would have; the next one is refused."""
    inside, closing, done = threading.Event(), threading.Event(), threading.Event()
    results: list[Any] = []

    def wait(_obj: UvmObject, _name: str, _value: Any) -> None:
        inside.set()
        assert done.wait(30)

    for world in a_world(tmp_path, guard=wait, limits=Limits(wall_s=60)):
        world.install(DECLARED + "def m(self):\n    self.set('n', 1)\n    return self.n\n")

        def cycle(world: World = world) -> None:
            with world.image.session() as session:
                results.append(session.begin()["lobby"].robin_prototype_obj.m())

        def close(world: World = world) -> None:
            closing.set()
            world.sandbox.close()
            results.append("closed")

        threads = [threading.Thread(target=cycle), threading.Thread(target=close)]
        threads[0].start()
        assert inside.wait(30)
        threads[1].start()
        assert closing.wait(30)
        done.set()
        for thread in threads:
            thread.join()
    assert results == [1, "closed"]


def test_the_host_may_grant_less_than_is_declared(tmp_path: Path) -> None:
    """Declared is what a method wants; what it gets is the host's word."""
    less = {"self": Rights(reads=frozenset({"n"}))}
    for world in a_world(tmp_path, grants=lambda _receiver, _name, _author, _declared: less):
        world.install(DECLARED + "def m(self):\n    self.set('n', self.n)\n")
        with world.image.session() as session, pytest.raises(MethodRefused, match="undeclared: 'n'"):
            session.begin()["lobby"].robin_prototype_obj.m()


def test_a_view_of_the_past_cannot_be_changed_by_a_cycles_method(world: World) -> None:
    """Reading works there, as everywhere."""
    world.install(
        DECLARED + "def m(self, change=False):\n    if change:\n        self.set('n', 1)\n    return self.n\n"
    )
    with world.image.snapshot() as root:
        robin = root["lobby"].robin_prototype_obj
        assert robin.m() == 3
        with pytest.raises(Exception, match="read only"):
            robin.m(change=True)
        assert robin.n == 3


class Host:
    """What a vessel may hand to its methods."""

    mission = "tides"
    key = "secret"

    def say(self, text: str) -> str:
        return text.upper()

    def fail(self) -> None:
        raise LookupError("stop")

    def stop(self) -> None:
        raise AssertionError("not offered")


def test_what_the_vessel_offers_crosses_as_a_handle(tmp_path: Path) -> None:
    """Only classes that it names, only what it offers of them, and only what the method declares; never into a slot."""
    offered = {Host: Rights(reads=frozenset({"mission"}), sends=frozenset({"say", "fail"}))}
    declared = (
        'CAPABILITIES = {"self": {"sets": ["n"], "sends": ["echo"]}, '
        '"arguments": {"reads": ["mission", "key"], "sends": ["say", "stop"]}}\n'
    )
    for world in a_world(tmp_path, services=offered):
        world.install(
            f"{declared}def m(self, host, what):\n    self.set('n', 99)\n"
            "    if what == 'keep':\n        self.set('n', [host])\n"
            "    if what == 'set':\n        host.set('mission', 1)\n"
            "    if what == 'key':\n        return host.key\n"
            "    if what != 'say':\n        return host.send(what)\n"
            "    return host.say(host.mission), self.echo(host)\n"
        )
        with world.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            host = Host()
            assert robin.m(host, "say") == ("TIDES", host)
            robin.n = 3
            for what, rule in {
                "keep": "slot-type", "set": "undeclared", "key": "service", "stop": "service", "fail": "undeclared"
            }.items():  # fmt: skip
                with pytest.raises(MethodRefused) as caught:
                    robin.m(host, what)
                assert caught.value.rule == rule
                assert robin.n == 3
            with pytest.raises(MethodRefused, match="cannot-cross: a Thread does not cross"):
                robin.m(threading.Thread(), "say")
