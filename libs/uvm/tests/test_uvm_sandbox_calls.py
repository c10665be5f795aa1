"""A call into the sandbox: what it may reach and spend, what it takes back where it fails."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from uvm_sandbox_world import AMPLE, CYCLE, DECLARED, World, a_world
from ZODB.POSException import ConflictError

from batos.uvm import MessageNotUnderstood, Session, UvmObject, install_method
from batos.uvm.capabilities import Rights
from batos.uvm.sandbox_errors import LimitReached, MethodFailed, MethodRefused, NoSandbox

pytestmark = pytest.mark.usefixtures("first_pool")


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


def test_an_image_gives_its_sandbox_back(sandboxed: World) -> None:
    """Without one it refuses what a cycle wrote again."""
    assert sandboxed.image.sandbox is sandboxed.sandbox
    sandboxed.image.sandbox = None
    with sandboxed.image.session() as session, pytest.raises(NoSandbox):
        session.begin()["lobby"].robin_prototype_obj.triple(1)


def test_a_failure_says_where_and_takes_back_what_the_call_changed(sandboxed: World) -> None:
    """What the caller had changed stays; what a trusted method changed for the call does not."""
    with sandboxed.image.transaction() as root:
        install_method(
            root["lobby"].traits_obj,
            "echo",
            "def echo(self, value):\n    self.n = value\n    return value",
            author="genesis",
        )
    sandboxed.install(DECLARED + "def m(self):\n    self.set('n', 7)\n    self.echo(9)\n    raise KeyError('gone')\n")
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        robin.n = 50
        with pytest.raises(MethodFailed, match="line 5: exception: KeyError: gone") as caught:
            robin.m()
        assert (caught.value.kind, caught.value.line, caught.value.selector) == ("KeyError", 5, "m")
        assert robin.n == 50
        session.commit()
    with sandboxed.image.snapshot() as root:
        assert root["lobby"].robin_prototype_obj.n == 50


def test_what_the_storage_raises_is_not_caught_by_a_cycles_method(sandboxed: World) -> None:
    """A conflict, a lost storage, a message nobody understands reach the caller, whatever the method catches."""
    declared = 'CAPABILITIES = {"self": {"sends": ["conflict", "nobody"], "sets": ["n"]}}\n'
    body = "    self.set('n', 99)\n    try:\n        self.send(what)\n    except BaseException:\n        return 1\n"
    sandboxed.install(f"{declared}def m(self, what):\n{body}")
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        with pytest.raises(ConflictError):
            robin.m("conflict")
        with pytest.raises(MessageNotUnderstood):
            robin.m("nobody")
        assert robin.n == 3


def test_methods_of_cycles_share_what_is_left(sandboxed: World) -> None:
    """A call within a call spends the outer one's host calls, and what it changed goes with the outer one's failure."""
    sandboxed.install(
        DECLARED + "def inner(self, n):\n    for _ in range(n):\n        self.set('n', self.n + 1)\n", "inner"
    )
    sandboxed.install(
        'CAPABILITIES = {"self": {"sends": ["inner"]}}\n'
        "def m(self, times):\n    for _ in range(times):\n        self.inner(45)\n"
    )
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        robin.m(4)
        assert robin.n == 3 + 180
        with pytest.raises(LimitReached) as caught:
            robin.m(5)
        assert (caught.value.rule, caught.value.selector) == ("host-calls", "inner")
        assert robin.n == 3 + 180
        assert len(sandboxed.audit) == 1


@pytest.mark.parametrize(
    "body",
    [
        "for _ in range(40):\n        self.echo('x' * 20_000)",
        "for _ in range(40):\n        self.inner('x' * 20_000)",
        "for _ in range(40):\n        self.notes",
        "for _ in range(40):\n        self.echo([1 << 12_000] * 14)",
        "for _ in range(40):\n        self.echo([0] * 600)",
        "self.echo(*['x' * 20_000] * 60)",
        "self.echo('x' * 300_000)\n    return 'x' * 600_000",
    ],
    ids=["texts", "nested", "reads", "large numbers", "many parts", "arguments", "result"],
)
def test_all_that_crosses_in_a_call_is_bounded(tmp_path: Path, body: str) -> None:
    """Each of these values is small enough; together, in both directions and over calls within calls, they are not."""
    declared = 'CAPABILITIES = {"self": {"reads": ["notes"], "sends": ["echo", "inner"]}}\n'
    for world in a_world(tmp_path, limits=replace(AMPLE, crossed_bytes=1_000_000)):
        world.install("def inner(self, text):\n    return len(text)\n", "inner")
        world.install(f"{declared}def m(self, *ignored):\n    {body}\n")
        with world.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            robin.notes = ["x" * 30_000]
            with pytest.raises(LimitReached) as caught:
                robin.m()
            assert caught.value.rule == "crossed-bytes"
            assert robin.triple(2) == 6


def test_nobody_passes_on_more_rights_than_it_has(sandboxed: World) -> None:
    """A method that is handed an object by a cycle's method may do with it what both declare; a trusted one hands over
    whom it will."""
    sandboxed.install(
        'CAPABILITIES = {"arguments": {"reads": ["n"], "sets": ["n"]}}\n'
        "def take(self, other):\n    other.set('n', other.n + 1)\n    return other.n\n",
        "take",
    )
    with sandboxed.image.transaction() as root:
        source = "def bring(self):\n    return self.take(self.stranger)\n"
        install_method(root["lobby"].traits_obj, "bring", source, author="genesis")
    calling = "def m(self, way):\n    return self.bring() if way == 'bring' else self.take(self.find_stranger())\n"
    for results, rule in {
        '"reads": ["n"], "sets": ["n"]': "",
        '"reads": ["n"]': "'n' is not among the sets",
        '"sets": ["n"]': "'n' is not among the reads",
        "": "'n' is not among the reads",
    }.items():
        sandboxed.install(
            'CAPABILITIES = {"self": {"sends": ["bring", "take", "find_stranger"]}, "results": {' + results + "}}\n"
            f"{calling}"
        )
        with sandboxed.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            assert robin.m("bring") == 6
            if rule:
                with pytest.raises(MethodRefused, match=f"'take' by .*: undeclared: {rule}"):
                    robin.m("pass on")
                assert robin.stranger.n == 6
            else:
                assert robin.m("pass on") == 7
            assert robin.take(robin.stranger) == robin.stranger.n


def test_the_host_may_grant_less_than_is_declared(tmp_path: Path) -> None:
    """Declared is what a method wants; what it gets is the host's word."""
    less = {"self": Rights(reads=frozenset({"n"}))}
    for world in a_world(tmp_path, grants=lambda _receiver, _name, _author, _declared: less):
        world.install(DECLARED + "def m(self):\n    self.set('n', self.n)\n")
        with world.image.session() as session, pytest.raises(MethodRefused, match="undeclared: 'n'"):
            session.begin()["lobby"].robin_prototype_obj.m()


def test_a_view_of_the_past_cannot_be_changed_by_a_cycles_method(sandboxed: World) -> None:
    """Reading works there, as everywhere."""
    sandboxed.install(
        DECLARED + "def m(self, change=False):\n    if change:\n        self.set('n', 1)\n    return self.n\n"
    )
    with sandboxed.image.snapshot() as root:
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
