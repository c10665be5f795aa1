"""Live methods: source in the image, versions with authors, compiled once."""

from __future__ import annotations

import traceback

import pytest

from batos.uvm import (
    BadSlotName,
    BrokenMethod,
    Image,
    MessageNotUnderstood,
    Session,
    UvmObject,
    host_needed,
    install_method,
    method_history,
    method_of,
    own_methods,
    slots,
)
from batos.uvm.compiling import function_of

AREA = """
    def area(self, factor=1):
        return self.width * self.height * factor
"""


def test_a_method_runs_with_its_receiver_and_is_inherited(session: Session) -> None:
    """The receiver is who was asked, not who holds the method; new objects and stored ones."""
    shape = UvmObject(width=2, height=3)
    install_method(shape, "area", AREA, author="genesis")
    square = UvmObject([shape], height=2)
    assert square.area(10) == 40
    session.begin()["lobby"].square = square
    session.commit()
    square = session.begin()["lobby"].square
    assert square.area(factor=10) == 40
    assert square.parents[0].area() == 6
    assert square.area.__self__ is square


def test_versions_keep_source_author_time_and_hash(image: Image) -> None:
    """History is never rewritten; the last version is in force."""
    with image.transaction() as root:
        install_method(root["lobby"], "greet", "def greet(self): return 1", author="genesis")
    with image.transaction() as root:
        install_method(root["lobby"], "greet", "def greet(self): return 2", author="architect")
    with image.snapshot() as root:
        first, second = method_history(root["lobby"], "greet")
        assert root["lobby"].greet() == 2
        assert (first.number, first.author, second.number, second.author) == (1, "genesis", 2, "architect")
        assert first.source == "def greet(self): return 1\n"
        assert len(first.hash) == 64
        assert first.hash != second.hash
        assert first.time <= second.time
        assert method_of(root["lobby"], "greet") == (root["lobby"], second)
        assert own_methods(root["lobby"]) == {"greet": second}


def test_installing_what_is_in_force_changes_nothing(image: Image) -> None:
    """Genesis may run twice without a second version."""
    with image.transaction() as root:
        first = install_method(root["lobby"], "greet", "def greet(self): return 1", author="genesis")
    with image.transaction() as root:
        assert install_method(root["lobby"], "greet", "def greet(self): return 1\n", author="genesis") == first
        assert not root["lobby"]._p_changed
    with image.snapshot() as root:
        assert len(method_history(root["lobby"], "greet")) == 1


@pytest.mark.parametrize("line", ["HOST = 2", "HOST: int = 2"])
def test_the_host_that_a_method_needs(line: str) -> None:
    """A version, however it is assigned."""
    assert host_needed(f"{line}\n\n\ndef greet(self): return 1\n") == 2


@pytest.mark.parametrize(
    "line", ["HOST: int", "HOST: str = '2'", "HOST: int = 0", "HOST = 2\nHOST: int = 2", "HOST = x = 2"]
)
def test_a_host_that_is_none(line: str) -> None:
    """Is refused where it is installed, never taken for the first version."""
    with pytest.raises(BrokenMethod, match="HOST is assigned once, a whole number"):
        install_method(UvmObject(), "greet", f"{line}\n\n\ndef greet(self): return 1\n", author="genesis")


def test_a_slot_and_a_method_of_one_name_replace_each_other(session: Session) -> None:
    """A name means one thing; deleting uncovers what is inherited; history stays."""
    parent = UvmObject(x="inherited")
    obj = UvmObject([parent], x="own")
    session.begin()["lobby"].obj = obj
    session.commit()
    session.begin()
    install_method(obj, "x", "def x(self): return 'method'", author="architect")
    assert obj.x() == "method"
    assert slots(obj) == {}
    obj.x = "own again"
    assert obj.x == "own again"
    assert own_methods(obj) == {}
    install_method(obj, "x", "def x(self): return 'second'", author="architect")
    assert obj.x() == "second"
    del obj.x
    assert obj.x == "inherited"
    assert [version.number for version in method_history(obj, "x")] == [1, 2]


def test_a_change_by_another_session_is_seen_with_the_next_transaction(image: Image) -> None:
    """Not before: a snapshot keeps its methods."""
    with image.transaction() as root:
        root["lobby"].top = UvmObject()
        install_method(root["lobby"].top, "say", "def say(self): return 1", author="genesis")
        root["lobby"].leaf = UvmObject([root["lobby"].top])
    with image.session() as reader:
        leaf = reader.begin()["lobby"].leaf
        assert leaf.say() == 1
        with image.transaction() as root:
            install_method(root["lobby"].top, "say", "def say(self): return 2", author="architect")
        assert leaf.say() == 1
        reader.abort()
        assert reader.begin()["lobby"].leaf.say() == 2


def test_a_clone_has_the_methods_and_begins_its_own_history(session: Session) -> None:
    """The copied version is the first of the clone's."""
    original = UvmObject()
    install_method(original, "say", "def say(self): return 1", author="genesis")
    install_method(original, "say", "def say(self): return 2", author="genesis")
    clone = original._clone_persistent_()
    assert clone.say() == 2
    assert [version.source for version in method_history(clone, "say")] == ["def say(self): return 2\n"]
    install_method(clone, "say", "def say(self): return 3", author="architect")
    assert (original.say(), clone.say()) == (2, 3)
    assert [version.number for version in method_history(clone, "say")] == [1, 2]
    session.begin()["lobby"].clone = clone
    session.commit()
    assert session.begin()["lobby"].clone.say() == 3


def test_own_names_of_a_module_that_a_method_brings_are_usable() -> None:
    """A source may import and define what its method needs."""
    source = "import math\nLIMIT = 3\n\ndef root(self, x):\n    return min(LIMIT, math.sqrt(x))\n"
    obj = UvmObject()
    install_method(obj, "root", source, author="genesis")
    assert obj.root(4) == 2
    assert obj.root(100) == 3


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def say(self:", "does not compile"),
        ("x = 1", "does not define a function of that name"),
        ("def other(self): pass", "write `def say"),
        ("async def say(self): pass", "synchronous"),
        ("class say: pass", "does not define a function"),
        ("def say(): pass", "takes no receiver"),
        ("def say(*, self): pass", "takes no receiver"),
        ("x = '" + "a" * 200_000 + "'", "more than 200000"),
        ("\0", "does not compile"),
    ],
)
def test_source_that_is_no_method_is_refused_when_it_is_installed(source: str, why: str) -> None:
    """The error says what is wrong, and nothing changes."""
    obj = UvmObject()
    with pytest.raises(BrokenMethod, match=why):
        install_method(obj, "say", source, author="cycle-1")
    assert not hasattr(obj, "say")


@pytest.mark.parametrize(
    "source",
    ["def say(self): pass\nsay = None", "1/0\ndef say(self): pass", "def say(self): 1\nraise AttributeError('x')"],
)
def test_source_that_fails_when_it_is_loaded_says_so_at_the_call(session: Session, source: str) -> None:
    """It is never taken for a message that is not understood."""
    obj = UvmObject()
    install_method(obj, "say", source, author="architect")
    session.begin()["lobby"].obj = obj
    for _ in range(2):
        with pytest.raises(BrokenMethod, match="'say'"):
            obj.say()
        session.commit()
        session.begin()


def test_method_names_obey_the_rules_of_slots() -> None:
    """A method is a slot too."""
    with pytest.raises(BadSlotName):
        install_method(UvmObject(), "_v_say", "def _v_say(self): pass", author="genesis")


def test_data_is_no_method() -> None:
    """Asking for the method behind a data slot is an error."""
    with pytest.raises(MessageNotUnderstood):
        method_of(UvmObject(x=1), "x")


def test_a_source_is_compiled_once_for_all_who_use_it(image: Image) -> None:
    """Two sessions, two holders, one function."""
    function_of.cache_clear()
    source = "def say(self): return 'once'"
    with image.transaction() as root:
        for name in ("a", "b"):
            setattr(root["lobby"], name, UvmObject())
            install_method(getattr(root["lobby"], name), "say", source, author="genesis")
    for _ in range(2):
        with image.session() as session:
            lobby = session.begin()["lobby"]
            assert lobby.a.say() == lobby.b.say() == "once"
    assert function_of.cache_info().misses == 1


def test_a_traceback_shows_the_line_of_a_live_method() -> None:
    """Live methods can be debugged like files."""
    obj = UvmObject()
    install_method(obj, "fail", "def fail(self):\n    return 1 / self.zero\n", author="genesis")
    obj.zero = 0
    try:
        obj.fail()
    except ZeroDivisionError:
        text = traceback.format_exc()
    assert "<live fail " in text
    assert "return 1 / self.zero" in text
