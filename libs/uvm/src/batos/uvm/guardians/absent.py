"""What Python has and the sandbox's Python has not, or has otherwise: told beforehand, with what to write instead."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import MappingProxyType

from batos.uvm.capabilities import Capabilities
from batos.uvm.guardians.imports import Imports

_BUILTINS = frozenset({
    "aiter", "anext", "ascii", "bytearray", "callable", "classmethod", "delattr", "help", "issubclass", "memoryview",
    "object", "property", "staticmethod", "super",
})  # fmt: skip
_IN_MODULES = MappingProxyType({
    "collections": frozenset({"ChainMap", "OrderedDict", "UserDict", "UserList", "UserString", "abc"}),
    "csv": frozenset({"Sniffer"}),
    "dataclasses": frozenset({"InitVar", "KW_ONLY", "asdict", "astuple", "fields", "make_dataclass", "replace"}),
    "datetime": frozenset({"UTC", "tzinfo"}),
    "functools": frozenset({
        "cached_property", "cmp_to_key", "partialmethod", "singledispatch", "total_ordering", "wraps",
    }),
    "hashlib": frozenset({"file_digest", "scrypt"}),
    "json": frozenset({"JSONDecoder", "JSONEncoder"}),
    "re": frozenset({"DEBUG", "L", "LOCALE", "RegexFlag", "U", "UNICODE", "VERBOSE", "X", "purge", "subn"}),
    "typing": frozenset({
        "ChainMap", "Counter", "DefaultDict", "Deque", "Hashable", "IO", "Match", "MutableMapping", "MutableSequence",
        "NamedTuple", "NewType", "NotRequired", "OrderedDict", "ParamSpec", "Pattern", "Required", "Sized", "TypeAlias",
        "TypeGuard", "TypedDict", "cast", "final", "get_args", "get_origin", "get_type_hints", "overload",
    }),
    "unicodedata": frozenset({"bidirectional", "decimal", "decomposition", "digit", "east_asian_width", "numeric"}),
})  # fmt: skip
_METHODS = frozenset({
    "as_integer_ratio", "bit_count", "bit_length", "difference_update", "from_bytes", "fromordinal",
    "intersection_update", "is_integer", "isocalendar", "lastgroup", "lastindex", "maketrans", "subn",
    "symmetric_difference_update", "timetuple", "to_bytes", "toordinal", "translate",
})  # fmt: skip
"""Methods of Python's own types, by names that are rarely those of messages."""
_TYPES = frozenset({"bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"})
_ON_TYPES = frozenset({("bytes", "fromhex"), ("dict", "fromkeys")})
_CLOCKS = frozenset({
    "datetime.date.today", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow",
})  # fmt: skip
_SEARCHING = frozenset({"compile", "findall", "finditer", "match", "search", "split", "sub"})

Found = tuple[str, ast.AST, str]


def absent(tree: ast.Module, capabilities: Capabilities, assigned: frozenset[str]) -> Iterator[Found]:
    """Yield rule, place and sentence of what would end a call, or come out otherwise than in Python.

    Args:
        tree: a source.
        capabilities: what it declares: those names are messages and slots.
        assigned: names that it gives a meaning of its own.
    """
    imports = Imports(tree, assigned)
    declared = assigned.union(*((rights.reads | rights.sends) for rights in capabilities.values()))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from _of_module(node, node.module or "", alias.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in _BUILTINS and node.id not in assigned and node.id not in imports.names:
                yield "unsupported", node, f"{node.id!r} is not there in the sandbox"
        elif isinstance(node, ast.Attribute):
            yield from _of_attribute(node, imports, assigned, declared)
        elif isinstance(node, ast.Call):
            yield from _of_call(node, imports.origin(node.func))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not _is_text(node.value):
            yield "unsupported", node, "half a surrogate pair is no text: write the character, or `\\U0001f600`"


def _of_module(node: ast.AST, module: str, name: str) -> Iterator[Found]:
    if name in _IN_MODULES.get(module, frozenset()):
        yield "unsupported", node, f"`{module}.{name}` is not there in the sandbox"


def _of_attribute(
    node: ast.Attribute, imports: Imports, assigned: frozenset[str], declared: frozenset[str]
) -> Iterator[Found]:
    holder = node.value.id if isinstance(node.value, ast.Name) else ""
    if holder in imports.modules:
        yield from _of_module(node, imports.modules[holder], node.attr)
    elif holder in _TYPES and holder not in assigned:
        if (holder, node.attr) not in _ON_TYPES and not node.attr.startswith("_"):
            told = f"write `lambda one: one.{node.attr}()`, or call it on a value"
            yield "unsupported", node, f"methods of types are not there in the sandbox: {told}"
    elif node.attr in _METHODS and node.attr not in declared:
        yield "unsupported", node, f"`.{node.attr}` is not there in the sandbox"
    elif imports.origin(node) in _CLOCKS:
        yield "outside", node, "there is no clock in the sandbox: take the time as an argument"


def _of_call(node: ast.Call, name: str) -> Iterator[Found]:
    first = node.args[0] if node.args else None
    if name == "bytes" and first is not None and not isinstance(first, ast.Constant):
        if isinstance(first, ast.List | ast.Tuple | ast.ListComp | ast.GeneratorExp):
            yield "unsupported", node, "`bytes` takes no list in the sandbox: write `bytes.fromhex(...)` or a literal"
    elif name == "json.dumps" and any(keyword.arg in {"cls", "default"} for keyword in node.keywords):
        yield "unsupported", node, "`json.dumps` takes no function in the sandbox: make plain data of it before"
    elif name == "datetime.timedelta" and any(_is_broken(value) for value in _values(node)):
        yield "unsupported", node, "`timedelta` takes whole numbers in the sandbox: write hours, minutes or seconds"
    elif name == "re.sub" and any(isinstance(value, ast.Lambda) for value in _values(node)):
        yield "unsupported", node, "`re.sub` takes a text in the sandbox: put it together from `re.finditer(...)`"
    elif name.startswith("re.") and name.removeprefix("re.") in _SEARCHING:
        yield from _of_pattern(node, first)


def _of_pattern(node: ast.Call, pattern: ast.expr | None) -> Iterator[Found]:
    r"""Before a last line break, `$` and `\Z` have changed places in the sandbox."""
    if not isinstance(pattern, ast.Constant) or not isinstance(pattern.value, str):
        return
    flags = [part.attr for value in _values(node) for part in ast.walk(value) if isinstance(part, ast.Attribute)]
    text = pattern.value
    by_line = {"M", "MULTILINE"} & set(flags) or (text.startswith("(?") and "m" in text.partition(")")[0])
    if r"\Z" in _bare(text) or ("$" in _bare(text) and not by_line):
        told = "write `re.fullmatch(...)`, or `(?![\\s\\S])` for the end of the text"
        yield "unsupported", pattern, f"before a last line break, `$` and `\\Z` differ in the sandbox: {told}"


def _bare(pattern: str) -> str:
    r"""A pattern without its sets and what is escaped, but for `\Z`."""
    left, place, in_set = [], 0, False
    while place < len(pattern):
        sign = pattern[place : place + 2] if pattern[place] == "\\" else pattern[place]
        place += len(sign)
        if in_set:
            in_set = sign != "]"
        elif sign == "[":
            in_set = True
            place += pattern[place : place + 1] == "]" or 2 * (pattern[place : place + 2] == "^]")
        elif len(sign) == 1 or sign == r"\Z":
            left.append(sign)
    return "".join(left)


def _values(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _is_broken(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
