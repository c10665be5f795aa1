"""What parses and is no program all the same, found by reading.

Python's compiler finds it too, and is not for the sources of cycles: what it makes of `finally` doubles with every
level, so that a few lines fill the memory of whoever compiles them.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, replace

MOST_BLOCKS = 20
"""Loops, `with`s and `try`s within each other, as in CPython."""

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_BLOCKS = (*_LOOPS, ast.With, ast.AsyncWith, ast.Try, ast.TryStar)
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


def of_exceptions(tree: ast.Module) -> Iterator[Found]:
    """Yield where an exception is made of more than one text: the sandbox breaks off there, and cannot say where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EXCEPTIONS:
            first = node.args[0] if node.args else None
            is_text = not isinstance(first, ast.Constant) or isinstance(first.value, str)
            if len(node.args) > 1 or node.keywords or not is_text:
                yield "unsupported", node, "an exception takes one text and nothing else: write an f-string"
