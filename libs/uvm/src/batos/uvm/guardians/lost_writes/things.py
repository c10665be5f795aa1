"""What a value of a source may be: the objects of the abstract interpretation.

A value is a set of things, one for each place in the source that makes one. Numbers, texts and truths are no things:
nothing can be written into them, so their set is empty.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from batos.uvm.guardians.lost_writes.names import Scope


@dataclass(eq=False)
class Thing:
    """Compared by identity: a thing is its place in the source.

    Attributes:
        held: whether something else holds it: a container, an attribute, a function's names.
        number: greater than those of all things made before it.
    """

    held: bool = field(default=False, init=False)
    number: int = field(default_factory=count().__next__, init=False)


Value = frozenset[Thing]
NOTHING: Value = frozenset()
DEEP = frozenset({"answer", "fresh"})
"""Kinds of containers that stand for all that is in them too: what a message brought, and what a library made."""


@dataclass(eq=False)
class Mark(Thing):
    """One of the two things that no place in the source made: see below."""

    name: str


RECEIVER = Mark("the receiver")
HOST = Mark("a copy of what stands in the image, or an object there")


@dataclass(eq=False)
class Copied(Thing):
    """What one place in the source read from a slot of the receiver: a copy.

    Attributes:
        slot: the slot's name; None where it is not known.
        once: whether that place is passed at most once in a call, so that it is one copy and not several.
        within: what the source put into it.
        loose: that of it which may stand anywhere.
        keyed: that of it which stands under a key, where the source says it literally.
        part: anything that stood in it.
    """

    slot: str | None
    once: bool
    within: Value = NOTHING
    loose: Value = NOTHING
    keyed: dict[str, Value] = field(default_factory=dict)
    part: Part = field(init=False)

    def __post_init__(self) -> None:
        self.part = Part(self)


@dataclass(eq=False)
class Part(Thing):
    """What stands in such a copy, however deep."""

    whole: Copied


@dataclass(eq=False)
class Made(Thing):
    """A container that the source made, or that was made for it.

    Attributes:
        kind: `list`, `dict`, `set`, `tuple`, one of `DEEP`, `sum` (what `+` makes: no set), or `unknown`.
        older: copies of slots that were out of date when it was made of what stands in them.
        within: what stands in it. Keys are left out: nothing that can be written into is a key.
        loose: that of it which may stand anywhere.
        keyed: that of it which stands under a key, where the source says it literally.
    """

    kind: str
    within: Value = NOTHING
    loose: Value = NOTHING
    older: Value = NOTHING
    keyed: dict[str, Value] = field(default_factory=dict)


@dataclass(eq=False)
class Function(Thing):
    """A function of the source.

    Attributes:
        live: whether it is the live method itself.
        params: what its parameters may be, over all calls seen.
        result: what it may answer.
        given: what was already set to slots when it was called.
        gave: what it sets to slots.
        speaks: whether it reads slots or sends messages, or calls what does.
    """

    node: ast.FunctionDef | ast.Lambda
    scope: Scope
    live: bool = False
    params: dict[str, Value] = field(default_factory=dict)
    result: Value = NOTHING
    given: Value = NOTHING
    gave: Value = NOTHING
    speaks: bool = False
    bound: dict[Thing, Bound] = field(default_factory=dict)


@dataclass(eq=False)
class Bound(Thing):
    """A function of a class, with the instance that it is called on."""

    function: Function
    receiver: Thing


@dataclass(eq=False)
class Class(Thing):
    """A class of the source, and all its instances as one.

    Attributes:
        fields: its annotated names, in their order: what @dataclass takes.
        names: what its body binds.
        attributes: what is assigned to attributes of its instances.
    """

    fields: list[str]
    names: dict[str, Value] = field(default_factory=dict)
    attributes: dict[str, Value] = field(default_factory=dict)
    instance: Instance = field(init=False)

    def __post_init__(self) -> None:
        self.instance = Instance(self)


@dataclass(eq=False)
class Instance(Thing):
    """Any instance of a class of the source."""

    of: Class


@dataclass(eq=False)
class Library(Thing):
    """Something that the sandbox's Python brings along, by its dotted name: `list`, `copy`, `copy.deepcopy`."""

    name: str


@dataclass(eq=False)
class Pending(Thing):
    """A change of a copy that reaches the image if its slot is set before anybody looks at it again.

    Attributes:
        node: where the change is.
        detail: what to say where that does not happen.
    """

    copy: Copied
    node: ast.AST
    detail: str


def in_order(value: Iterable[Thing]) -> list[Thing]:
    """The things of a value as they were made: so that what is done with one after the other comes out the same."""
    return sorted(value, key=lambda thing: thing.number)


def is_copy(thing: Thing) -> bool:
    """Whether writing into it changes a copy of what stands in the image."""
    return thing is HOST or isinstance(thing, Copied | Part)


def is_deep(thing: Thing) -> bool:
    """Whether it stands for all that is in it too: also for what was put there."""
    return isinstance(thing, Part) or (isinstance(thing, Made) and thing.kind in DEEP)
