"""Source text to functions: each source is compiled once per vessel, whoever uses it."""

from __future__ import annotations

import ast
import hashlib
import linecache
import traceback
from functools import lru_cache
from textwrap import dedent
from types import FunctionType
from typing import Any

from batos.uvm.errors import BrokenMethod

MAX_SOURCE_CHARS = 200_000
MAX_COMPILED = 4096
"""How many compiled methods a vessel keeps; the least recently used one goes first."""


HOST = "HOST"
"""A method that needs more than the first version of its host's interface says so: `HOST = 2` at its top level."""
FIRST_HOST = 1


def digest(source: str) -> str:
    """The content hash of a source: 64 hexadecimal digits of SHA-256."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def normal(source: str) -> str:
    """`source` without common indentation and empty lines around it: as it is kept."""
    return dedent(source).strip("\n") + "\n"


def checked_source(name: str, source: str) -> str:
    """`source` without common indentation, after making sure that it defines the method `name`.

    Only for authors who are trusted: compiling a source can take any amount of memory.

    Raises:
        BrokenMethod: it does not compile, or does not define a synchronous function of that name that takes a receiver.
    """
    if len(source) > MAX_SOURCE_CHARS:
        raise BrokenMethod(name, f"{len(source)} characters of source are more than {MAX_SOURCE_CHARS}")
    text = normal(source)
    try:
        tree = ast.parse(text)
        compile(tree, f"<live {name}>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as wrong:
        raise BrokenMethod(name, f"the source does not compile: {wrong}") from wrong
    check_definition(name, tree)
    return text


def check_definition(name: str, tree: ast.Module) -> None:
    """Make sure that a source defines the method `name`, and says properly which host it needs, if it does.

    Raises:
        BrokenMethod: it does not define a synchronous function of that name that takes a receiver, or `HOST` is wrong.
    """
    _check_host(name, tree)
    found = [node for node in tree.body if getattr(node, "name", None) == name]
    if not found or not isinstance(found[-1], ast.FunctionDef):
        hint = "live methods are synchronous" if found else f"write `def {name}(self, ...):`"
        line = found[-1].lineno if found else 0
        raise BrokenMethod(name, f"the source does not define a function of that name at its top level: {hint}", line)
    arguments = found[-1].args
    if not (arguments.posonlyargs or arguments.args or arguments.vararg):
        raise BrokenMethod(name, f"the function takes no receiver: write `def {name}(self):`", found[-1].lineno)


@lru_cache(maxsize=MAX_COMPILED)
def host_needed(source: str) -> int:
    """The version of the host's interface that a stored source says it needs; the first one where it says nothing."""
    return _declared_host(ast.parse(source))[1]


def _check_host(name: str, tree: ast.Module) -> None:
    bound = [node for node in ast.walk(tree) if _binds(node, HOST)]
    declared, _ = _declared_host(tree)
    if bound != declared:
        reason = f"{HOST} is assigned once, a whole number from {FIRST_HOST}, at the top level: `{HOST} = 2`"
        raise BrokenMethod(name, reason, max(getattr(node, "lineno", 0) for node in bound))


def _declared_host(tree: ast.Module) -> tuple[list[ast.expr], int]:
    """Where a source says which host it needs, if it does, and which that is."""
    for statement in tree.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=found) as target], value=ast.Constant(value=needed))
                | ast.AnnAssign(target=ast.Name(id=found) as target, value=ast.Constant(value=needed))
            ) if found == HOST and type(needed) is int and needed >= FIRST_HOST:
                return [target], needed
    return [], FIRST_HOST


def _binds(node: ast.AST, name: str) -> bool:
    """Whether a part of a source gives a name a meaning, in whatever way and place."""
    match node:
        case ast.Name():
            return node.id == name and not isinstance(node.ctx, ast.Load)
        case ast.alias():
            return (node.asname or node.name) == name
        case ast.Global() | ast.Nonlocal():
            return name in node.names
        case _:  # functions, classes, caught exceptions, captures of patterns
            return name in (getattr(node, "name", None), getattr(node, "rest", None))


@lru_cache(maxsize=MAX_COMPILED)
def function_of(name: str, source: str) -> FunctionType:
    """The function that `source` defines under `name`.

    Raises:
        BrokenMethod: the source raises when it runs, or what it defines under that name is no function.
    """
    place = f"<live {name} {digest(source)[:12]}>"
    namespace: dict[str, Any] = {"__name__": "batos.live", "__file__": place}
    try:
        exec(compile(source, place, "exec"), namespace)  # noqa: S102 - this is what a live method is; who may write one is checked where it is installed
        function: object = namespace[name]
    except (Exception, SystemExit) as wrong:
        frames = traceback.extract_tb(wrong.__traceback__)
        line = next((frame.lineno for frame in frames if frame.filename == place), None)
        reason = f"its source cannot be loaded: {type(wrong).__name__}: {wrong}"
        raise BrokenMethod(name, reason, line or 0) from wrong
    if not isinstance(function, FunctionType):
        reason = f"its source defines a {type(function).__name__} under that name, not a function"
        raise BrokenMethod(name, reason, _last_binding(name, source))
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    return function


def _last_binding(name: str, source: str) -> int:
    """The line of a source in which a name is given its meaning last."""
    found = [node for node in ast.walk(ast.parse(source)) if _binds(node, name)]
    return max((getattr(node, "lineno", 0) for node in found), default=0)
