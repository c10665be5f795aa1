"""What Python's compiler would find in a source of a cycle is found by reading: such a source is never compiled."""

from __future__ import annotations

import pytest
from uvm_sandbox_world import CYCLE, World

from batos.uvm import UvmObject, compiling, install_method
from batos.uvm.guardians import faults
from batos.uvm.sandbox_errors import SourceRefused

METHOD = "def m(self):\n    pass\n\n"


def nested(levels: int) -> str:
    """A method with one `finally` within the other: each level doubles what the compiler makes of it."""
    lines = [f"{' ' * level}try: pass\n{' ' * level}finally:\n" for level in range(1, levels + 1)]
    return f"def m(self):\n{''.join(lines)}{' ' * (levels + 1)}x = 1\n"


UNGRAMMATICAL = [
    ("return 1\n", "syntax", 4, "outside of a function"),
    ("class A:\n    return 1\n", "syntax", 5, "outside of a function"),
    ("def f():\n    break\n", "syntax", 5, "'break' outside of a loop"),
    ("def f():\n    for i in []:\n        pass\n    else:\n        continue\n", "syntax", 8, "'continue' outside"),
    ("def f(x):\n    match x:\n        case 1:\n            break\n", "syntax", 7, "'break' outside of a loop"),
    ("def f():\n    try:\n        pass\n    except ValueError:\n        break\n", "syntax", 8, "'break' outside"),
    ("def f():\n    while True:\n        def g():\n            break\n", "syntax", 7, "'break' outside of a loop"),
    ("def f(a, a):\n    pass\n", "syntax", 4, "duplicate argument 'a'"),
    ("f = lambda a, *a: 1\n", "syntax", 4, "duplicate argument 'a'"),
    ("def f():\n    nonlocal x\n", "syntax", 5, "no binding for nonlocal 'x'"),
    ("def f(x):\n    return [(y := 1) for y in x]\n", "syntax", 5, "cannot rebind"),
    ("*a, *b = [1, 2]\n", "syntax", 4, "multiple starred expressions"),
    ("x = *[1]\n", "syntax", 4, "can't use starred expression here"),
    ("dict(a=1, b=2, a=3)\n", "syntax", 4, "keyword argument repeated: a"),
    ("try:\n    pass\nexcept:\n    pass\nexcept KeyError:\n    pass\n", "syntax", 4, "must be last"),
    ("match [1]:\n    case [a, {'b': a}]:\n        pass\n", "syntax", 5, "multiple assignments to name 'a'"),
    ("match [1]:\n    case [a] | [a, b]:\n        pass\n", "syntax", 5, "alternative patterns bind different names"),
    ("from __future__ import annotations\n", "syntax", 4, "at the beginning of the file"),
    ("def f():\n    raise KeyError('a', 'b')\n", "unsupported", 5, "takes one text"),
    ("def f():\n    raise ValueError(7)\n", "unsupported", 5, "takes one text"),
]
GRAMMATICAL = [
    "def f(x):\n    for i in x:\n        if i:\n            continue\n        else:\n            break\n",
    "def f(x):\n    while x:\n        try:\n            pass\n        finally:\n            break\n",
    "def f(x):\n    while x:\n        match x:\n            case 1:\n                break\n",
    "def f(x):\n    with x:\n        return 1\n",
    "def f(x):\n    def g():\n        nonlocal x\n        x = 2\n    raise ValueError(f'{x}')\n",
    "def f():\n    raise KeyError\n",
    "a, *b = [*[1], 2]\nc = *b, a\nd = {**{}, 1: {*b}}\ndict(*[], a=1, **{})\n",
    "try:\n    pass\nexcept KeyError:\n    pass\nexcept:\n    pass\n",
    "match [1]:\n    case [a, [b]] | [b, [a]]:\n        pass\n    case [_, _, *a]:\n        pass\n",
]


@pytest.mark.parametrize(("source", "rule", "line", "why"), UNGRAMMATICAL)
def test_what_is_no_program_is_refused_with_its_line(source: str, rule: str, line: int, why: str) -> None:
    """As the compiler would, or the sandbox at the first call."""
    with pytest.raises(SourceRefused) as caught:
        install_method(UvmObject(), "m", METHOD + source, author=CYCLE)
    (fault,) = [fault for fault in caught.value.faults if fault.rule == rule]
    assert fault.line == line
    assert why in fault.detail


@pytest.mark.parametrize("source", GRAMMATICAL)
def test_what_is_a_program_passes(source: str) -> None:
    """Loops around what else may hold a `break`, and names of outer functions."""
    assert not faults("m", METHOD + source)


def test_what_is_of_the_future_stands_first() -> None:
    """Behind the docstring, and behind others of its kind."""
    future = "from __future__ import annotations\n"
    assert not faults("m", f'"""What it does."""\n{future}{future}\n{METHOD}')


def test_a_source_of_a_cycle_is_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take all memory; what is nested more deeply than Python allows is refused."""

    def compile_nothing(*_: object) -> None:
        raise AssertionError("a source of a cycle was compiled")

    monkeypatch.setattr(compiling, "compile", compile_nothing, raising=False)
    obj = UvmObject()
    install_method(obj, "m", nested(16), author=CYCLE)
    with pytest.raises(SourceRefused, match="line 42, column 22: depth: more than 20 loops, withs and trys"):
        install_method(obj, "m", nested(21), author=CYCLE)


@pytest.mark.parametrize(
    ("source", "rule", "line"),
    [
        ("def m(self:", "syntax", 1),
        ("x = 1\n\0", "syntax", 0),
        ("x = 1", "definition", 0),
        ("def m(self): pass\n\nclass m: pass", "definition", 3),
        ("def m(): pass", "definition", 1),
        ("HOST = 'x'\n\ndef m(self): pass", "definition", 1),
        ("x = '" + "a" * 200_000 + "'", "size", 0),
    ],
)
def test_what_a_cycle_may_not_install_is_told_first(sandboxed: World, source: str, rule: str, line: int) -> None:
    """Also what does not parse, or defines no method."""
    with pytest.raises(SourceRefused) as caught:
        sandboxed.install(source)
    (told,) = sandboxed.audit
    assert (told.author, told.method, told.rule, told.line) == (CYCLE, "m", rule, line)
    assert caught.value.faults[0].rule == rule
