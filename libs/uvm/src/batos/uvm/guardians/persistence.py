"""The PersistenceGuardian: reads what a cycle wrote, and refuses what would be lost or is forbidden.

It reads before anything is installed. In the sandbox, a write to an object that crossed over reaches nobody, silently.
So such writes are found here, with their line (`lost_writes`), and so is all that the sandbox's Python does not have:
better told at once than half-way through a call. None of this is what keeps the image safe; the sandbox checks all of
it again when it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import MappingProxyType

from batos.uvm.capabilities import SPOKEN, Capabilities, declared, forbidden
from batos.uvm.guardians.absent import absent
from batos.uvm.guardians.at_once import not_at_once
from batos.uvm.guardians.bounds import fault_at, parsed, too_much
from batos.uvm.guardians.grammar import of_exceptions, ungrammatical
from batos.uvm.guardians.lost_writes import faults_of_flow
from batos.uvm.guardians.not_data import not_data
from batos.uvm.sandbox_errors import Fault, SourceRefused

MAX_FAULTS = 50
REMEMBERED = 1024

MODULES = frozenset({
    "base64", "binascii", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "functools",
    "hashlib", "itertools", "json", "math", "re", "tomllib", "typing", "unicodedata",
})  # fmt: skip
"""What may be imported: modules that the sandbox has, without clocks, randomness, files or processes."""

_INSTEAD = MappingProxyType({
    "random": "there is no chance here: take what is random as an argument",
    "secrets": "there is no chance here: take what is random as an argument",
    "statistics": "`sum(values) / len(values)` is the mean, and `sorted(values)` leads to the median",
    "time": "there is no clock here: take the time as an argument",
    "uuid": "there is no chance here: take the id as an argument",
})  # fmt: skip
_REMEMBERING = frozenset({"cache", "functools.cache", "functools.lru_cache", "lru_cache"})
_OUTSIDE = frozenset({
    "__import__", "breakpoint", "compile", "dir", "eval", "exec", "exit", "globals", "input", "locals", "open", "quit",
    "vars",
})  # fmt: skip
_OWN_DUNDERS = frozenset({
    "__add__", "__call__", "__contains__", "__enter__", "__eq__", "__exit__", "__getitem__", "__init__", "__iter__",
    "__repr__", "__str__",
})  # fmt: skip
"""Special methods that the sandbox calls on classes of the source."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Found = tuple[str, ast.AST, str]


class PersistenceGuardian:
    """Makes sure that a cycle's source does what it seems to do, and wants nothing that it may not have."""

    @staticmethod
    def check(name: str, source: str) -> None:
        """Look at the source of a live method whose author is a cycle.

        Args:
            name: the message that it answers.
            source: as `install_method` takes it, without common indentation.

        Raises:
            SourceRefused: with all faults, each with its rule, line and column.
        """
        found = faults(name, source)
        if found:
            raise SourceRefused(name, found)


def faults(name: str, source: str) -> tuple[Fault, ...]:
    """All that is wrong with a source, in its order; empty where nothing is."""
    bound = too_much(source)
    return (bound,) if bound is not None else _faults(name, source)


@lru_cache(maxsize=REMEMBERED)
def _faults(name: str, source: str) -> tuple[Fault, ...]:
    tree = parsed(source)
    if isinstance(tree, Fault):
        return (tree,)
    no_program = tuple(fault_at(*one) for one in ungrammatical(source, tree))
    if no_program:
        return no_program[:MAX_FAULTS]
    found = [*_of_definition(name, tree), *_of_syntax(name, tree), *of_exceptions(tree)]
    capabilities, misdeclared = declared(tree)
    found += [(wrong.rule, wrong.node, wrong.detail) for wrong in misdeclared]
    assigned = _assigned(tree)
    found += [*absent(tree, capabilities, assigned), *not_data(name, tree, capabilities, assigned), *not_at_once(tree)]
    found += faults_of_flow(name, tree, capabilities)
    told = {fault_at(*one): None for one in found}
    ordered = sorted(told, key=lambda fault: (fault.line, fault.column, fault.rule))
    if len(ordered) > MAX_FAULTS:
        ordered = [*ordered[:MAX_FAULTS], Fault("size", 0, 0, f"and {len(ordered) - MAX_FAULTS} more")]
    return tuple(ordered)


@lru_cache(maxsize=REMEMBERED)
def capabilities_of(source: str) -> Capabilities:
    """What a source without faults declares."""
    return declared(ast.parse(source))[0]


def _of_definition(name: str, tree: ast.Module) -> Iterator[Found]:
    """The method itself is a plain function."""
    found = [node for node in tree.body if isinstance(node, _FUNCTIONS) and node.name == name]
    if not found:
        yield "definition", tree, f"it defines no function {name!r} at its top level"
    for node in found:
        if node.decorator_list:
            yield "decorator", node.decorator_list[0], "a live method has no decorators"
        if not (node.args.posonlyargs or node.args.args):
            yield "definition", node, "its first argument is its receiver, by name"


def _of_syntax(name: str, tree: ast.Module) -> Iterator[Found]:
    assigned = _assigned(tree)
    in_classes = {id(part) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body}
    for node in ast.walk(tree):
        rule = _BY_KIND.get(type(node))
        if rule is not None:
            yield from rule(node)
        if isinstance(node, _FUNCTIONS):
            yield from _of_function(node, name, in_class=id(node) in in_classes)
        elif isinstance(node, ast.Name):
            yield from _of_name(node, assigned)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _assigned(tree: ast.Module) -> frozenset[str]:
    """Names that the source gives a meaning of its own."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    found |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, (*_FUNCTIONS, ast.ClassDef))}
    return frozenset(found)


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, *, in_class: bool) -> Iterator[Found]:
    if isinstance(node, ast.AsyncFunctionDef):
        yield "async", node, "live methods are synchronous"
    if node.name != name or in_class:
        for decorator in node.decorator_list:
            yield "decorator", decorator, _of_decorator(decorator)
    if node.name.startswith("__") and not (in_class and node.name in _OWN_DUNDERS):
        yield "unsupported", node, f"the sandbox's Python never calls {node.name}"


def _of_decorator(node: ast.expr) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    if ast.unparse(called) in _REMEMBERING:
        return "nothing is remembered from call to call: within one, remember what was found in a dict"
    return "decorators are not understood here, but for @dataclass on a class"


def _of_class(node: ast.ClassDef) -> Iterator[Found]:
    for base in node.bases:
        named = base.id if isinstance(base, ast.Name) else ""
        if named.endswith(("Error", "Exception", "Warning")):
            yield (
                "custom-exception",
                base,
                "exceptions of one's own are not there: raise ValueError, KeyError or another",
            )
        else:
            yield "inheritance", base, "classes inherit nothing in the sandbox: hold the other object in an attribute"
    for keyword in node.keywords:
        yield "inheritance", keyword.value, "metaclasses and class arguments are not there"
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called) not in {"dataclass", "dataclasses.dataclass"}:
            yield "decorator", decorator, "of decorators on classes only @dataclass is understood"


def _of_name(node: ast.Name, assigned: frozenset[str]) -> Iterator[Found]:
    if node.id in _OUTSIDE and isinstance(node.ctx, ast.Load) and node.id not in assigned:
        yield "builtin", node, f"{node.id!r} is not for methods of a cycle"
    elif node.id.startswith("__"):
        yield "private-name", node, f"{node.id!r} is the interpreter's own"


def _of_attribute(node: ast.Attribute) -> Iterator[Found]:
    own = isinstance(node.value, ast.Name) and node.value.id == "self"
    why = forbidden("reads", node.attr, of_self=own)
    if why is not None and not _is_name_of_type(node):
        yield why[0], node, why[1]


def _is_name_of_type(node: ast.Attribute) -> bool:
    """`type(value).__name__`, which is a text."""
    made = node.value
    of_type = isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id == "type"
    return node.attr == "__name__" and of_type and isinstance(node.ctx, ast.Load)


def _of_call(node: ast.Call) -> Iterator[Found]:
    if isinstance(node.func, ast.Attribute):
        yield from _of_message(node, node.func)
    elif isinstance(node.func, ast.Name):
        yield from _of_plain_call(node, node.func.id)


def _of_message(node: ast.Call, func: ast.Attribute) -> Iterator[Found]:
    if func.attr in SPOKEN:
        named = _text(node.args[0]) if node.args else None
        why = None if named is None else forbidden("sets" if func.attr == "set" else "sends", named, of_self=False)
        if why is not None:
            yield why[0], node, why[1]
    elif func.attr in {"format", "format_map"}:
        text = _text(func.value)
        if text is None or any(sign in field for field in _fields(text) for sign in "._["):
            yield "format", node, "a format is a literal whose fields are bare names or numbers; f-strings are better"


def _of_plain_call(node: ast.Call, name: str) -> Iterator[Found]:
    if name in {"getattr", "hasattr"} and len(node.args) > 1:
        own = isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
        why = forbidden("reads", _text(node.args[1]) or "-", of_self=own)
        if why is not None:
            yield why[0], node, why[1]
    elif name == "type" and len(node.args) + len(node.keywords) > 1:
        yield "unsupported", node, "classes are written with `class`"


def _fields(text: str) -> list[str]:
    return [part.split("}", 1)[0].split(":", 1)[0] for part in text.split("{")[1:]]


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _of_import(node: ast.Import) -> Iterator[Found]:
    for alias in node.names:
        if alias.name not in MODULES:
            instead = _INSTEAD.get(alias.name, f"there are {', '.join(sorted(MODULES))}")
            yield "import", node, f"{alias.name!r} may not be imported: {instead}"


def _of_import_from(node: ast.ImportFrom) -> Iterator[Found]:
    if node.module == "__future__" and [alias.name for alias in node.names] == ["annotations"]:
        return
    if node.level or node.module not in MODULES:
        instead = _INSTEAD.get(node.module or "", f"there are {', '.join(sorted(MODULES))}")
        yield "import", node, f"'{'.' * node.level}{node.module or ''}' may not be imported: {instead}"
    for alias in node.names:
        if alias.name == "*" or alias.name.startswith("_"):
            yield "import", node, f"name what is imported, not {alias.name!r}"


def _of_delete(node: ast.Delete) -> Iterator[Found]:
    for target in node.targets:
        if isinstance(target, ast.Name):
            yield "unsupported", target, "`del` is not there: leave the name, or assign None"
        else:
            yield "lost-write", target, "`del` is not there: write `.pop(key)`, on a container of your own"


def _one(rule: str, detail: str) -> Callable[[ast.AST], Iterator[Found]]:
    def found(node: ast.AST) -> Iterator[Found]:
        yield rule, node, detail

    return found


def _of_comprehension(node: ast.comprehension) -> Iterator[Found]:
    if node.is_async:
        yield "async", node.target, "live methods are synchronous"


_BY_KIND: dict[type, Callable[..., Iterator[Found]]] = {
    ast.ClassDef: _of_class,
    ast.Attribute: _of_attribute,
    ast.Import: _of_import,
    ast.ImportFrom: _of_import_from,
    ast.Delete: _of_delete,
    ast.comprehension: _of_comprehension,
    ast.Yield: _one("generator", "`yield` is not there: build a list"),
    ast.YieldFrom: _one("generator", "`yield from` is not there: build a list"),
    ast.Await: _one("async", "live methods are synchronous"),
    ast.AsyncFor: _one("async", "live methods are synchronous"),
    ast.AsyncWith: _one("async", "live methods are synchronous"),
    ast.TryStar: _one("unsupported", "`except*` is not there"),
    ast.Global: _one("unsupported", "a call has no globals to change: pass values on"),
}
