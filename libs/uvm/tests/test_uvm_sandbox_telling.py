"""What the sandbox says of values that are no data, of errors that pass through, and of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from uvm_sandbox_world import CYCLE, DECLARED, World, a_world

from batos.uvm import MessageNotUnderstood, Transient, install_method
from batos.uvm.sandbox_errors import MethodFailed, MethodRefused, passed_through

pytestmark = pytest.mark.usefixtures("first_pool")

NO_DATA = {
    "a match": "re.match('a', 'abc')",
    "matches": "list(re.finditer('a', 'aa'))",
    "a pattern": "re.compile('a')",
    "a hash": "hashlib.sha256(b'a')",
    "a counter": "itertools.count(1)",
    "a chain": "itertools.chain([1], [2])",
    "groups": "itertools.groupby([1])",
    "a reader": "csv.reader(['a,b'])",
    "a dict reader": "csv.DictReader(['a,b'])",
    "a partial": "functools.partial(len)",
    "a function": "functools.reduce",
    "a context": "decimal.getcontext()",
    "a field": "dataclasses.field()",
    "a special form": "typing.List",
    "an alias": "list[int]",
    "a deep alias": "dict[str, list[int]]",
    "a union": "int | None",
    "a view": "{'a': 1}.items()",
    "an iterator": "iter([1])",
    "a range": "range(3)",
    "a module": "math",
}
IMPORTS = "import csv, dataclasses, decimal, functools, hashlib, itertools, math, re, typing\n"
TEXTS = [
    "<re.Match object; span=(0, 1), match='a'>",
    "range(0, 3)",
    "list[int]",
    "typing.List",
    "functools.partial(<built-in function len>)",
    "[...]",
]
"""Texts that read like something that is none."""


def called(world: World, source: str, *args: Any) -> Any:
    """What a method of ROBIN returns."""
    world.install(DECLARED + source)
    with world.image.session() as session:
        return session.begin()["lobby"].robin_prototype_obj.m(*args)


@pytest.mark.parametrize("what", NO_DATA.values(), ids=NO_DATA)
@pytest.mark.parametrize("how", ["return [it]", "self.set('notes', [it])", "self.echo(key={'k': it})"])
def test_what_is_no_data_is_never_taken_for_its_text(sandboxed: World, what: str, how: str) -> None:
    """Neither returned, nor stored, nor sent."""
    with pytest.raises(MethodRefused) as caught:
        called(sandboxed, f"{IMPORTS}def m(self):\n    it = {what}\n    {how}\n")
    assert caught.value.rule == "not-data"
    assert caught.value.line == (0 if "return" in how else 5)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_only_reads_like_that_crosses(sandboxed: World, text: str) -> None:
    """It came in as a text, or stands in the source."""
    echo = "def m(self, text):\n    self.set('notes', [text])\n    return {text: self.echo(text)}\n"
    assert called(sandboxed, echo, text) == {text: text}
    assert called(sandboxed, f"def m(self):\n    return {text!r}\n") == text


@pytest.mark.parametrize("text", ["a < b > c", "the <class> tag", "list of ints", "f(x) = [y]", "int or None"])
def test_other_texts_are_free(sandboxed: World, text: str) -> None:
    """Also where they are made in the sandbox."""
    assert called(sandboxed, f"def m(self):\n    return ''.join({list(text)!r})\n") == text


def test_what_is_returned_says_so(sandboxed: World) -> None:
    """The sandbox does not tell in which line."""
    with pytest.raises(MethodRefused, match="'m' by cycle-7: not-data: in what it returns: ") as caught:
        called(sandboxed, "def m(self):\n    return [len]\n")
    assert caught.value.line == 0


# ---------------------------------------------------------------------------------------- what passes through

TRUSTED = {
    "stumble": "def stumble(self):\n    return self.nothing_of_that_name\n",
    "leave": "def leave(self):\n    raise SystemExit(3)\n",
    "wait": "def wait(self):\n    from batos.uvm import Transient\n    raise Transient('later')\n",
    "relay": "def relay(self, name):\n    return getattr(self, name)()\n",
}
INNER = "CAPABILITIES = {'self': {'sends': ['stumble', 'leave', 'wait'], 'sets': ['n']}}\n\ndef inner(self):\n"
OUTER = "CAPABILITIES = {'self': {'sends': ['relay', 'inner']}}\n\ndef m(self):\n    self.relay('inner')\n"


def passing(world: World, body: str) -> BaseException:
    """What ends a method that a trusted one calls for another."""
    with world.image.transaction() as root:
        for name, source in TRUSTED.items():
            install_method(root["lobby"].traits_obj, name, source, author="genesis")
    world.install(INNER + f"    self.set('n', 9)\n    {body}\n", "inner", "cycle-8")
    world.install(OUTER)
    with world.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is, it is looked at
            robin.m()
        assert robin.n == 3
    return caught.value


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ("self.stumble()", MessageNotUnderstood, "does not understand 'nothing_of_that_name'"),
        ("self.leave()", SystemExit, "SystemExit: 3"),
    ],
)
def test_what_a_trusted_method_raises_is_told_once(
    sandboxed: World, body: str, kind: type[BaseException], detail: str
) -> None:
    """It reaches the caller as it is, with a note of every method of a cycle that it ended."""
    wrong = passing(sandboxed, body)
    assert type(wrong) is kind
    (told,) = sandboxed.audit
    assert (told.author, told.method, told.rule, told.line) == ("cycle-8", "inner", "exception", 5)
    assert told.receiver == "lobby.robin_prototype_obj"
    assert detail in told.detail
    assert passed_through(wrong) == ["'inner' by cycle-8, line 5", f"'m' by {CYCLE}, line 4"]


def test_what_passes_by_is_no_failure_of_the_method(sandboxed: World) -> None:
    """The same call may succeed later."""
    assert type(passing(sandboxed, "self.wait()")) is Transient
    assert sandboxed.audit == []


def test_what_the_vessel_says_is_none_is_not_told(first_pool: None, tmp_path: Path) -> None:  # noqa: ARG001 - it comes first
    """A method may ask for its own end."""
    for world in a_world(tmp_path, passing=(SystemExit,)):
        assert type(passing(world, "self.leave()")) is SystemExit
        assert world.audit == []


# ---------------------------------------------------------------------------------------- objects and exceptions


def test_objects_are_told_apart_by_their_text(sandboxed: World) -> None:
    """Within a call; each keeps its own."""
    source = "def m(self):\n    return str(self), f'{self.friend}', str(self.friend), repr(self.friend.friend)\n"
    own, friend, again, back = called(sandboxed, source)
    assert (friend, back) == (again, own)
    assert own != friend
    assert own.startswith("UvmObject_")
    assert called(sandboxed, "def m(self):\n    return self.friend, self\n")[0].name == "babs"


@pytest.mark.parametrize("raised", ["ValueError(*self.notes)", "ValueError(self.n)"])
def test_an_exception_of_more_than_a_text_says_what_to_do(sandboxed: World, raised: str) -> None:
    """The sandbox breaks off there; where, it does not tell."""
    with pytest.raises(MethodRefused, match="unsupported: an exception takes one text and nothing else"):
        called(sandboxed, f"def m(self):\n    raise {raised}\n")


def test_an_exception_of_one_text_is_the_methods_own(sandboxed: World) -> None:
    """With its line."""
    with pytest.raises(MethodFailed, match="line 3: exception: KeyError: a, b"):
        called(sandboxed, "def m(self):\n    raise KeyError(f'{\"a\"}, b')\n")
