"""A state machine does to the image what a mind does; a plain-Python model says what must be seen after each step."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import logging
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from BTrees.OOBTree import OOBTree
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from uvm_witness import NAMES, Witness
from ZODB.POSException import ConflictError

from batos.uvm import (
    BelongsToVessel,
    MessageNotUnderstood,
    ParentCycle,
    UvmObject,
    install_method,
    method_history,
    open_image,
    plain,
    slots,
)

MAX_OBJECTS = 8
VALUES = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 3), max_size=3), st.text("xy", max_size=2))
WHO = st.integers(0, MAX_OBJECTS - 1)


class Foreign:
    """A class that the image does not know."""


UNFIT: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "asyncio lock": asyncio.Lock,
    "lambda": lambda: lambda: None,
    "foreign": Foreign,
}
"""What belongs to the vessel, made anew each time."""
HIDDEN = "[1][0]['k'][1][0]"
"""Where `hide` puts something."""


def hide(thing: Any) -> Any:
    """A value that is fit to be stored but for what lies deep in it."""
    return [0, [{"k": (1, [thing])}]]


def source_of(name: str, number: int) -> str:
    """A live method that returns a number."""
    return f"def {name}(self):\n    return {number}\n"


class Method:
    """In the model: a live method that returns a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)


class Model:
    """Objects as plain Python: parents as places, slots as dicts, the versions of each method as counts."""

    def __init__(self) -> None:
        self.parents: list[list[int]] = []
        self.slots: list[dict[str, Any]] = []
        self.versions: list[dict[str, int]] = []

    def lineage(self, place: int) -> Iterator[int]:
        """By definition: depth first, with repetitions."""
        yield place
        for parent in self.parents[place]:
            yield from self.lineage(parent)

    def read(self, place: int, name: str) -> Any:
        """What the definition of delegation says."""
        for holder in self.lineage(place):
            if name in self.slots[holder]:
                return self.slots[holder][name]
        return None

    def told(self) -> list[dict[str, Any]]:
        """What a witness has to say."""
        return [
            {
                "reads": {name: self.told_of(place, name) for name in NAMES if self.read(place, name) is not None},
                "slots": sorted(name for name, value in self.slots[place].items() if not isinstance(value, Method)),
                "parents": self.parents[place],
                "versions": self.versions[place],
            }
            for place in range(len(self.slots))
        ]

    def told_of(self, place: int, name: str) -> dict[str, Any]:
        """What a witness has to say of one name."""
        value = self.read(place, name)
        if isinstance(value, Method):
            return {"returns": value.number, "version": source_of(name, value.number)}
        return {"value": value}


class ImageMachine(RuleBasedStateMachine):
    """The image beside its model."""

    witness: ClassVar[Witness]

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("ZODB").setLevel(logging.CRITICAL)
        self.folder = tempfile.TemporaryDirectory()
        self.image = open_image(f"file://{self.folder.name}/live_image.fs?connection_cache_size=100")
        with self.image.transaction() as root:
            root["lobby"].all = []
        self.session = self.image.session()
        self.session.begin()
        self.stored = Model()
        self.now = Model()
        self.points: list[tuple[Any, Model]] = []

    def teardown(self) -> None:
        """Close what was opened."""
        self.session.close()
        self.image.close()
        self.folder.cleanup()

    @property
    def objects(self) -> Any:
        return self.session.root["lobby"].all

    def pick(self, who: int) -> tuple[int, Any]:
        place = who % len(self.now.slots)
        return place, self.objects[place]

    @initialize(value=VALUES)
    def first(self, value: Any) -> None:
        """There is always one object."""
        self.create([], value)

    @precondition(lambda self: len(self.now.slots) < MAX_OBJECTS)
    @rule(parents=st.lists(WHO, max_size=3), value=VALUES)
    def create(self, parents: list[int], value: Any) -> None:
        """A new object; it is read before it is stored, too."""
        places = [who % len(self.now.slots) for who in parents] if self.now.slots else []
        new = UvmObject([self.objects[place] for place in places], a=value)
        self.now.parents.append(places)
        self.now.slots.append({"a": copy.deepcopy(value)})
        self.now.versions.append({})
        self.compare(len(self.now.slots) - 1, new)
        self.objects.append(new)

    @rule(who=WHO, name=st.sampled_from(NAMES), value=VALUES)
    def write(self, who: int, name: str, value: Any) -> None:
        """A data slot."""
        place, obj = self.pick(who)
        setattr(obj, name, value)
        self.now.slots[place][name] = copy.deepcopy(value)

    @rule(who=WHO, name=st.sampled_from(NAMES), number=st.integers(0, 5))
    def install(self, who: int, name: str, number: int) -> None:
        """A live method."""
        place, obj = self.pick(who)
        if self.now.slots[place].get(name) != Method(number):
            self.now.versions[place][name] = self.now.versions[place].get(name, 0) + 1
        install_method(obj, name, source_of(name, number), author="architect")
        self.now.slots[place][name] = Method(number)

    @rule(who=WHO, name=st.sampled_from(NAMES))
    def delete(self, who: int, name: str) -> None:
        """An own slot; an inherited one cannot be deleted."""
        place, obj = self.pick(who)
        try:
            delattr(obj, name)
        except MessageNotUnderstood:
            assert name not in self.now.slots[place]
        else:
            del self.now.slots[place][name]

    @rule(who=WHO, name=st.sampled_from(NAMES), item=st.integers(0, 9))
    def append(self, who: int, name: str, item: int) -> None:
        """A change in place, also through an heir."""
        place, obj = self.pick(who)
        value = self.now.read(place, name)
        if isinstance(value, list):
            getattr(obj, name).append(item)
            value.append(item)

    @rule(who=WHO, parents=st.lists(WHO, max_size=3))
    def adopt(self, who: int, parents: list[int]) -> None:
        """Other parents; a cycle is refused, with where it would be and the way round it."""
        place, obj = self.pick(who)
        places = [parent % len(self.now.slots) for parent in parents]
        cyclic = any(place in self.now.lineage(parent) for parent in places)
        try:
            obj.parents = [self.objects[parent] for parent in places]
        except ParentCycle as refusal:
            assert cyclic
            self.explained(refusal, place, places)
        else:
            assert not cyclic
            self.now.parents[place] = places

    def explained(self, refusal: ParentCycle, place: int, parents: list[int]) -> None:
        """A refused cycle is told by whose it would be, and the way round it."""
        assert refusal.path == self.path(place, self.objects[place])
        first, *way = (int(step) for step in re.findall(r"parents\[(\d+)\]", refusal.reason))
        ancestor = parents[first]
        for step in way:
            ancestor = self.now.parents[ancestor][step]
        assert ancestor == place

    @rule(who=WHO, name=st.sampled_from(NAMES), what=st.sampled_from(sorted(UNFIT)), deep=st.booleans())
    def refuse(self, who: int, name: str, what: str, deep: bool) -> None:
        """What belongs to the vessel is refused when it is written, with its path; nothing has changed then."""
        place, obj = self.pick(who)
        thing = UNFIT[what]()
        with pytest.raises(BelongsToVessel) as caught:
            setattr(obj, name, hide(thing) if deep else thing)
        assert caught.value.path == f"{self.path(place, obj)}.{name}{HIDDEN if deep else ''}"

    @rule(who=WHO, name=st.sampled_from(NAMES), what=st.sampled_from(sorted(UNFIT)), deep=st.booleans())
    def refuse_in_place(self, who: int, name: str, what: str, deep: bool) -> None:
        """Nor does it get into a list that stands there already."""
        place, obj = self.pick(who)
        value = self.now.read(place, name)
        if isinstance(value, list):
            thing = UNFIT[what]()
            with pytest.raises(BelongsToVessel) as caught:
                getattr(obj, name).append(hide(thing) if deep else thing)
            assert caught.value.path.endswith(f"[{len(value)}]{HIDDEN if deep else ''}")

    @precondition(lambda self: self.stored.slots)
    @rule(who=WHO, what=st.sampled_from(sorted(UNFIT)))
    def refuse_commit(self, who: int, what: str) -> None:
        """What stands in a tree is looked at when it is committed: nothing of that transaction is stored."""
        _, obj = self.pick(who)
        obj.tree = OOBTree({"key": UNFIT[what]()})
        with pytest.raises(BelongsToVessel, match=r"tree\['key'\]"):
            self.session.commit()
        self.now = copy.deepcopy(self.stored)
        self.begin()

    @precondition(lambda self: len(self.now.slots) < MAX_OBJECTS)
    @rule(who=WHO)
    def clone(self, who: int) -> None:
        """Own slots are copied, parents shared."""
        place, obj = self.pick(who)
        new = obj._clone_persistent_()
        assert new.ancestor is obj
        del new.ancestor
        self.objects.append(new)
        self.now.parents.append(list(self.now.parents[place]))
        self.now.slots.append(copy.deepcopy(self.now.slots[place]))
        methods = (name for name, value in self.now.slots[place].items() if isinstance(value, Method))
        self.now.versions.append(dict.fromkeys(methods, 1))

    @rule()
    def commit(self) -> None:
        """What is now is stored."""
        self.session.commit()
        self.stored = copy.deepcopy(self.now)
        self.begin()

    @rule()
    def abort(self) -> None:
        """What was stored is now."""
        if self.stored.slots:
            self.session.abort()
            self.now = copy.deepcopy(self.stored)
            self.begin()

    def begin(self) -> None:
        self.points.clear()
        self.session.begin()

    @rule()
    def savepoint(self) -> None:
        """A point to go back to."""
        self.points.append((self.session.savepoint(), copy.deepcopy(self.now)))

    @precondition(lambda self: self.points)
    @rule(which=st.integers(0, 5))
    def rollback(self, which: int) -> None:
        """Any earlier point; later ones are gone."""
        place = which % len(self.points)
        point, model = self.points[place]
        del self.points[place + 1 :]
        point.rollback()
        self.now = copy.deepcopy(model)

    @rule(who=WHO, how=st.sampled_from(["one", "all", "tidy"]))
    def evict(self, who: int, how: str) -> None:
        """Memory is given back at any time."""
        _, obj = self.pick(who)
        if how == "one":
            obj._p_deactivate()
        elif how == "all":
            obj._p_jar.cacheMinimize() if obj._p_jar else None
        elif obj._p_jar:
            obj._p_jar.cacheGC()

    @precondition(lambda self: self.stored.slots)
    @rule(who=WHO, name=st.sampled_from(NAMES), value=st.integers(0, 9))
    def interfere(self, who: int, name: str, value: int) -> None:
        """Another session commits a change; ours conflicts, or takes it over with its next transaction."""
        place = who % len(self.stored.slots)
        with self.image.transaction() as root:
            setattr(root["lobby"].all[place], name, value)
        self.stored.slots[place][name] = value
        for checked, obj in enumerate(self.objects):
            self.compare(checked, obj)
        with contextlib.suppress(ConflictError):
            obj = self.objects[place]
            obj.d = 5
            self.session.commit()
            raise AssertionError("a conflict went unnoticed")
        self.now = copy.deepcopy(self.stored)
        self.begin()

    @precondition(lambda self: self.stored.slots)
    @rule()
    def reopen(self) -> None:
        """Another process looks, and another vessel takes over: what was stored is all there is."""
        self.session.close()
        self.image.close()
        assert self.witness.ask(self.image.uri) == self.stored.told()
        self.image = open_image(self.image.uri)
        self.session = self.image.session()
        self.now = copy.deepcopy(self.stored)
        self.begin()

    def path(self, place: int, obj: Any) -> str:
        """What a refusal calls an object; one that was never stored stands nowhere yet."""
        return "UvmObject" if obj._p_jar is None else f"lobby.all[{place}]"

    def compare(self, place: int, obj: Any) -> None:
        for name in NAMES:
            expected = self.now.read(place, name)
            found: Any = getattr(obj, name, None)
            if isinstance(expected, Method):
                assert found() == expected.number
                assert found.__self__ is obj
            else:
                assert plain(found) == expected
                assert type(plain(found)) is type(expected)

    @invariant()
    def same(self) -> None:
        """Every name of every object reads as the model says, and so do own slots, parents and histories."""
        objects = list(self.objects)
        assert len(objects) == len(self.now.slots)
        for place, obj in enumerate(objects):
            self.compare(place, obj)
            data = {name: value for name, value in self.now.slots[place].items() if not isinstance(value, Method)}
            assert plain(slots(obj)).keys() == data.keys()
            assert [objects.index(parent) for parent in obj.parents] == self.now.parents[place]
            for name, count in self.now.versions[place].items():
                assert len(method_history(obj, name)) == count


class TestImage(ImageMachine.TestCase):
    """Runs the machine, with a witness at hand."""

    settings = settings(
        max_examples=120,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )

    def setUp(self) -> None:
        """Start the witness."""
        ImageMachine.witness = self.enterContext(Witness())


def test_the_model_itself_is_depth_first() -> None:
    """The oracle is checked by hand once."""
    model = Model()
    model.parents = [[], [0], [0], [1, 2]]
    model.slots = [{"a": 0}, {}, {"a": 2, "b": 2}, {}]
    assert (model.read(3, "a"), model.read(3, "b"), model.read(3, "c")) == (0, 2, None)
    assert list(itertools.islice(model.lineage(3), 3)) == [3, 1, 0]
