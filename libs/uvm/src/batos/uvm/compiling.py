"""Source text to functions: each source is compiled once per vessel, whoever uses it."""

from __future__ import annotations

import ast
import hashlib
import linecache
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
    _declared_host(name, tree)
    found = [node for node in tree.body if getattr(node, "name", None) == name]
    if not found or not isinstance(found[-1], ast.FunctionDef):
        hint = "live methods are synchronous" if found else f"write `def {name}(self, ...):`"
        raise BrokenMethod(name, f"the source does not define a function of that name at its top level: {hint}")
    arguments = found[-1].args
    if not (arguments.posonlyargs or arguments.args or arguments.vararg):
        raise BrokenMethod(name, f"line {found[-1].lineno}: the function takes no receiver: write `def {name}(self):`")
    return text


@lru_cache(maxsize=MAX_COMPILED)
def host_needed(source: str) -> int:
    """The version of the host's interface that a checked source says it needs; the first one where it says nothing."""
    return _declared_host("", ast.parse(source))


def _declared_host(name: str, tree: ast.Module) -> int:
    needed: int | None = None
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if HOST not in [getattr(target, "id", "") for target in targets]:
            continue
        value = node.value.value if isinstance(node.value, ast.Constant) else None
        if type(value) is not int or value < FIRST_HOST or len(targets) > 1 or needed is not None:
            place = f"line {node.lineno}: "
            raise BrokenMethod(name, f"{place}{HOST} is assigned once, a whole number from {FIRST_HOST}: `{HOST} = 2`")
        needed = value
    return FIRST_HOST if needed is None else needed


@lru_cache(maxsize=MAX_COMPILED)
def function_of(name: str, source: str) -> FunctionType:
    """The function that `source` defines under `name`.

    Raises:
        BrokenMethod: the source raises when it runs, or defines no such function.
    """
    place = f"<live {name} {digest(source)[:12]}>"
    namespace: dict[str, Any] = {"__name__": "batos.live", "__file__": place}
    try:
        exec(compile(source, place, "exec"), namespace)  # noqa: S102 - this is what a live method is; who may write one is checked where it is installed
        function: object = namespace[name]
    except Exception as wrong:
        raise BrokenMethod(name, f"its source cannot be loaded: {type(wrong).__name__}: {wrong}") from wrong
    if not isinstance(function, FunctionType):
        raise BrokenMethod(name, f"its source defines a {type(function).__name__} under that name, not a function")
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    return function
