"""What parses and is no program all the same, found by reading.

Python's compiler finds it too, and is not for the sources of cycles: what it makes of `finally` doubles with every
level, so that a few lines fill the memory of whoever compiles them.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

MOST_BLOCKS = 20
"""Loops, `with`s and `try`s within each other, as in CPython."""

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_BLOCKS = (*_LOOPS, ast.With, ast.AsyncWith, ast.Try, ast.TryStar)
_STARRED = (ast.Tuple, ast.List, ast.Set, ast.Call, ast.ClassDef, ast.arg)
"""Where something with a star may stand."""
_EXCEPTIONS = frozenset(
    name for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, BaseException)
)

Found = tuple[str, ast.AST, str]


@dataclass(frozen=True)
class _Place:
    """Where a statement stands."""

    in_function: bool = False
    in_loop: bool = False
    blocks: int = 0


def ungrammatical(source: str, tree: ast.Module) -> Iterator[Found]:
    """Yield rule, place and sentence of what Python's compiler would find: such a source means nothing further.

    Args:
        source: of a cycle, within the bounds of the PersistenceGuardian.
        tree: what it parses to.
    """
    for statement in tree.body:
        yield from _misplaced(statement, _Place())
    for node in ast.walk(tree):
        yield from _misformed(node)
    yield from _late(tree)
    try:
        symtable.symtable(source, "<live>", "exec")  # names and scopes alone: nothing is made of the source
    except SyntaxError as wrong:
        place = ast.Pass(lineno=wrong.lineno or 0, col_offset=(wrong.offset or 1) - 1)
        yield "syntax", place, wrong.msg


def _misplaced(statement: ast.stmt, place: _Place) -> Iterator[Found]:
    if isinstance(statement, ast.Return) and not place.in_function:
        yield "syntax", statement, "'return' outside of a function"
    elif isinstance(statement, ast.Break | ast.Continue) and not place.in_loop:
        word = type(statement).__name__.lower()
        yield "syntax", statement, f"{word!r} outside of a loop"
    elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        for inner in statement.body:
            yield from _misplaced(inner, _Place(in_function=True))
    elif isinstance(statement, ast.ClassDef):
        for inner in statement.body:
            yield from _misplaced(inner, _Place())
    else:
        yield from _misplaced_within(statement, place)


def _misplaced_within(statement: ast.stmt, place: _Place) -> Iterator[Found]:
    inside = after = place
    if isinstance(statement, _BLOCKS):
        inside = after = replace(place, blocks=place.blocks + 1)
        if inside.blocks == MOST_BLOCKS + 1:  # once is enough
            yield "depth", statement, f"more than {MOST_BLOCKS} loops, withs and trys stand within each other"
    if isinstance(statement, _LOOPS):
        inside = replace(inside, in_loop=True)  # what its `else` holds is outside of it
    for name, value in ast.iter_fields(statement):
        for part in value if isinstance(value, list) else ():
            within = after if name == "orelse" else inside
            if isinstance(part, ast.stmt):
                yield from _misplaced(part, within)
            elif isinstance(part, ast.ExceptHandler | ast.match_case):
                for inner in part.body:
                    yield from _misplaced(inner, within)


def _misformed(node: ast.AST) -> Iterator[Found]:
    """What is wrong with a part by itself, wherever it stands."""
    starred = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.Starred)]
    if starred and not isinstance(node, _STARRED):
        yield "syntax", starred[0], "can't use starred expression here"
    elif len(starred) > 1 and isinstance(getattr(node, "ctx", None), ast.Store):
        yield "syntax", starred[1], "multiple starred expressions in assignment"
    elif isinstance(node, ast.Call):
        named = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
        for again in _repeated(named):
            yield "syntax", node, f"keyword argument repeated: {again}"
    elif isinstance(node, ast.Try | ast.TryStar) and any(one.type is None for one in node.handlers[:-1]):
        yield "syntax", node, "default 'except:' must be last"
    elif isinstance(node, ast.match_case):
        for again in _repeated(_captured(node.pattern)):
            yield "syntax", node.pattern, f"multiple assignments to name {again!r} in pattern"
    elif isinstance(node, ast.MatchOr) and len({frozenset(_captured(one)) for one in node.patterns}) > 1:
        yield "syntax", node, "alternative patterns bind different names"


def _captured(pattern: ast.AST) -> list[str]:
    """The names that a pattern binds, each as often as it does."""
    if isinstance(pattern, ast.MatchOr):
        return _captured(pattern.patterns[0])
    own = pattern.rest if isinstance(pattern, ast.MatchMapping) else getattr(pattern, "name", None)
    inner = [name for part in ast.iter_child_nodes(pattern) for name in _captured(part)]
    return inner if own is None else [own, *inner]


def _repeated(names: list[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _late(tree: ast.Module) -> Iterator[Found]:
    """What is imported from `__future__` behind anything but the docstring."""
    first = 0 if ast.get_docstring(tree, clean=False) is None else 1
    while first < len(tree.body) and _is_of_future(tree.body[first]):
        first += 1
    early = tree.body[:first]
    for node in ast.walk(tree):
        if _is_of_future(node) and node not in early:
            yield "syntax", node, "from __future__ imports must occur at the beginning of the file"


def _is_of_future(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level


def of_exceptions(tree: ast.Module) -> Iterator[Found]:
    """Yield where an exception is made of more than one text: the sandbox breaks off there, and cannot say where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EXCEPTIONS:
            first = node.args[0] if node.args else None
            is_text = not isinstance(first, ast.Constant) or isinstance(first.value, str)
            if len(node.args) > 1 or node.keywords or not is_text:
                yield "unsupported", node, "an exception takes one text and nothing else: write an f-string"
