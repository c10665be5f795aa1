"""What no value is: views, ranges, matches and functions do not leave the sandbox, nor are they stored in a slot.

The sandbox says so at run time. Told here is what is certain: what stands itself in a `return` of the method, or in
what is set or sent, also within a list, tuple or dict that is written there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import MappingProxyType

from batos.uvm.capabilities import SPOKEN, Capabilities
from batos.uvm.guardians.imports import Imports

_VIEWS = frozenset({"items", "keys", "values"})
_MADE = MappingProxyType({
    "range": "a range",
    "re.compile": "a pattern",
    "re.fullmatch": "a match",
    "re.match": "a match",
    "re.search": "a match",
})  # fmt: skip
_TOLD = MappingProxyType({
    "a range": "write `list(range(...))`",
    "a pattern": "keep its text",
    "a match": "write `bool(...)`, or take its `.group()`",
})  # fmt: skip
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

Found = tuple[str, ast.AST, str]


def not_data(name: str, tree: ast.Module, capabilities: Capabilities, assigned: frozenset[str]) -> Iterator[Found]:
    """Yield rule, place and sentence of what leaves the method, or is set or sent, and is no data.

    Args:
        name: the message that the method answers.
        tree: its source.
        capabilities: what it declares: a message may be called `values`.
        assigned: names that it gives a meaning of its own.
    """
    reader = _Reader(tree, capabilities, assigned)
    for method in tree.body:
        if isinstance(method, ast.FunctionDef) and method.name == name:
            for node in _of_its_own(method):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from reader.found(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and reader.is_spoken(node.func.attr):
            for given in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from reader.found(given)


def _of_its_own(method: ast.FunctionDef) -> Iterator[ast.AST]:
    """The parts of a function, without the functions and classes in it: what those return stays here."""
    parts: list[ast.AST] = list(method.body)
    while parts:
        node = parts.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            parts += ast.iter_child_nodes(node)


class _Reader:
    """One source: which names are its own."""

    def __init__(self, tree: ast.Module, capabilities: Capabilities, assigned: frozenset[str]) -> None:
        self._imports = Imports(tree, assigned)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        of_classes = {part for node in classes for part in node.body}
        written = {part for node in ast.walk(tree) for part in _written(node)}
        defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        self._functions = {node.name for node in defined if node not in of_classes} - written
        self._answered = {part.name for part in of_classes if isinstance(part, ast.FunctionDef)}.union(
            *(rights.sends | rights.reads for rights in capabilities.values()),
            (part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute) and _is_stored(part)),
            (part.id for node in classes for part in ast.walk(node) if isinstance(part, ast.Name) and _is_stored(part)),
        )

    def is_spoken(self, name: str) -> bool:
        """Whether it is `set` or `send`, and no class of the source answers it in another way."""
        return name in SPOKEN and name not in self._answered

    def found(self, node: ast.expr | None) -> Iterator[Found]:
        """Yield what is no data in an expression that has to be."""
        for part in _within(node):
            yield from self.found(part)
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.Name) and node.id in self._functions):
            yield "not-data", node, "a function is no data: call it, and pass on what it answers"
        elif isinstance(node, ast.Call):
            yield from self._of_call(node)

    def _of_call(self, node: ast.Call) -> Iterator[Found]:
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr in _VIEWS - self._answered and not (node.args + node.keywords):
            yield "not-data", node, f"a view is no data: write `list({ast.unparse(func)[-60:]}())`"
        made = _MADE.get(self._imports.origin(func), "")
        if made:
            yield "not-data", node, f"{made} is no data: {_TOLD[made]}"


def _within(node: ast.expr | None) -> list[ast.expr]:
    """What an expression passes on as it is."""
    if isinstance(node, ast.Dict):
        return [part for part in (*node.keys, *node.values) if part is not None]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return list(node.elts)
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    return []


def _is_stored(node: ast.Name | ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _written(node: ast.AST) -> Iterator[str]:
    """Names that a part of the source gives another meaning than that of a function."""
    if isinstance(node, ast.Name) and _is_stored(node):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.asname or node.name
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
