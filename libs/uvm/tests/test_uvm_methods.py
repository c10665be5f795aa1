"""Live methods: source in the image, versions with authors, compiled once."""

from __future__ import annotations

import sys
import traceback
from types import ModuleType

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
    revert_method,
    slots,
    undo,
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


def test_after_an_undo_an_older_version_is_in_force(image: Image) -> None:
    """The newest one is not taken for it: reverting and installing go by what really runs."""
    for number in (1, 2):
        with image.transaction() as root:
            install_method(root["lobby"], "greet", f"def greet(self): return {number}", author="architect")
    with image.transaction() as root:
        undo(root, image.last_tid())
    with image.transaction() as root:
        lobby = root["lobby"]
        assert (lobby.greet(), own_methods(lobby)["greet"].number) == (1, 1)
        assert revert_method(lobby, "greet", 1, author="architect").number == 1
        assert install_method(lobby, "greet", "def greet(self): return 1", author="architect").number == 1
        assert len(method_history(lobby, "greet")) == 2
        again = install_method(lobby, "greet", "def greet(self): return 2", author="architect")
        assert (again.number, lobby.greet()) == (3, 2)
        assert method_of(lobby, "greet") == (lobby, again)


def test_trust_comes_back_with_a_trusted_version(image: Image) -> None:
    """Although a cycle has installed the same text since; who of the trusted wrote it makes no difference."""
    source = "def greet(self):\n    return 1\n"
    with image.transaction() as root:
        install_method(root["lobby"], "greet", source, author="genesis")
        assert install_method(root["lobby"], "greet", source, author="cycle-7").author == "cycle-7"
        back = revert_method(root["lobby"], "greet", 1, author="architect")
        assert (back.number, back.author, root["lobby"].greet()) == (3, "architect", 1)
        assert revert_method(root["lobby"], "greet", 1, author="architect") == back
        assert revert_method(root["lobby"], "greet", 2, author="architect").author == "cycle-7"
        assert revert_method(root["lobby"], "greet", 2, author="architect").number == 4


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
    "line",
    [
        "HOST: int",
        "HOST: str = '2'",
        "HOST: int = 0",
        "HOST = True",
        "HOST = 2\nHOST: int = 2",
        "HOST = x = 2",
        "HOST, X = 99, 1",
        "if 1:\n    HOST = 99",
        "HOST = 2\nfor HOST in (3, 4): pass",
        "HOST = 2\ndel HOST",
        "HOST = 2\nHOST += 1",
        "from math import pi as HOST",
        "import HOST",
        "def HOST(): pass",
        "class HOST: pass",
        "try: pass\nexcept Exception as HOST: pass",
        "match 1:\n    case HOST: pass",
        "match {}:\n    case {**HOST}: pass",
        "def other():\n    global HOST\n    HOST = 3",
        "print(HOST := 3)",
    ],
)
def test_a_host_that_is_none(line: str) -> None:
    """Is refused where it is installed, never taken for the first version, in whatever way and place it is bound."""
    with pytest.raises(BrokenMethod, match=r"line \d: HOST is assigned once, a whole number from 1, at the top level"):
        install_method(UvmObject(), "greet", f"{line}\n\n\ndef greet(self): return 1\n", author="genesis")


def test_a_source_that_was_stored_before_it_would_be_refused() -> None:
    """It needs what it says at its top level: nobody fails to awaken on it."""
    assert host_needed("HOST = 2\n\n\ndef greet(self):\n    HOST = 3\n    return HOST\n") == 2
    assert host_needed("if 1:\n    HOST = 3\n\n\ndef greet(self): return 1\n") == 1


def test_a_host_may_be_read() -> None:
    """By the method itself, too."""
    obj = UvmObject()
    install_method(obj, "greet", "HOST = 2\n\n\ndef greet(self): return HOST\n", author="genesis")
    assert obj.greet() == 2


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
        install_method(obj, "say", source, author="architect")
    assert not hasattr(obj, "say")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def say(self): pass\nsay = None", "line 2: its source defines a NoneType under that name"),
        ("\n1/0\ndef say(self): pass", "line 1: its source cannot be loaded: ZeroDivisionError"),
        ("def say(self): 1\nraise AttributeError('x')", "line 2: its source cannot be loaded: AttributeError: x"),
        ("import no_such_module\ndef say(self): pass", "line 1: its source cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit(1)\ndef say(self): pass", "line 1: its source cannot be loaded: SystemExit"),
        ("@property\ndef say(self): pass", "line 2: its source defines a property under that name, not a function"),
        ("@staticmethod\ndef say(self): pass", "line 2: its source defines a staticmethod under that name"),
        ("def say(self): pass\ndel say", "its source cannot be loaded: KeyError: 'say'"),
    ],
)
def test_source_that_can_never_run_is_refused_when_it_is_installed(source: str, why: str) -> None:
    """With the line, where there is one; nothing changes."""
    obj = UvmObject()
    with pytest.raises(BrokenMethod) as caught:
        install_method(obj, "say", source, author="architect")
    assert why in str(caught.value)
    assert (own_methods(obj), method_history(obj, "say")) == ({}, [])


def test_a_decorator_may_make_a_function() -> None:
    """What it makes is what runs."""
    obj = UvmObject()
    twice = "def twice(work):\n    def done(self): return 2 * work(self)\n    return done\n\n"
    install_method(obj, "say", f"{twice}@twice\ndef say(self): return 21\n", author="architect")
    assert obj.say() == 42


def test_source_that_cannot_be_loaded_any_more_says_so_at_the_call(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never taken for a message that is not understood."""
    obj = UvmObject()
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "a_module_of_this_vessel", ModuleType("a_module_of_this_vessel"))
        source = "import a_module_of_this_vessel\ndef say(self): return 1"
        install_method(obj, "say", source, author="architect")
    function_of.cache_clear()
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
