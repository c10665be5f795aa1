"""What Python works out item by item, and the sandbox's Python all at once: found where that makes a difference.

There, a generator expression is a list, and so is what `map`, `filter`, `zip`, `enumerate` and `reversed` answer. So
such a thing stands only where it is used up at once. Where what uses it up looks at one item after the other, and may
stop before the last, the items come about without effect.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from batos.uvm.guardians.lost_writes.containers import BUILT_IN, IN_PLACE

_LAZY = frozenset({"enumerate", "filter", "map", "reversed", "zip"})
_CALLING = frozenset({"filter", "map"})
_LAZY_METHODS = frozenset({"finditer"})
_WHOLE = frozenset({
    "Counter", "defaultdict", "deque", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple",
})  # fmt: skip
"""Functions that take all items before they do anything else."""
_WHOLE_METHODS = frozenset({
    "Counter", "deque", "difference", "extend", "extendleft", "fromkeys", "fsum", "intersection", "isdisjoint",
    "issubset", "issuperset", "join", "prod", "symmetric_difference", "union", "update",
})  # fmt: skip
_STEP_BY_STEP = frozenset({"all", "any", "iter", *_LAZY})
_WITHOUT_EFFECT = frozenset({
    "abs", "all", "any", "bin", "bool", "bytes", "chr", "dict", "divmod", "enumerate", "filter", "float", "format",
    "frozenset", "getattr", "hasattr", "hash", "hex", "int", "isinstance", "iter", "len", "list", "map", "max", "min",
    "oct", "ord", "pow", "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "type",
    "zip",
})  # fmt: skip
_EFFECTS = (ast.NamedExpr, ast.Nonlocal, ast.Raise, ast.Assert)
"""What is found in functions and items that do more than answer something."""

Found = tuple[str, ast.AST, str]


def not_at_once(tree: ast.Module) -> Iterator[Found]:
    """Yield rule, place and sentence of what the sandbox would do in another order than Python, or more often."""
    reader = _Reader(tree)
    for node in ast.walk(tree):
        if reader.is_lazy(node):
            yield from reader.used(node)
        elif isinstance(node, ast.For):
            yield from reader.changed(node)


class _Reader:
    """One source: who stands in what, and what has an effect."""

    def __init__(self, tree: ast.Module) -> None:
        self._around: dict[ast.AST, ast.AST] = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self._functions: dict[str, list[ast.FunctionDef]] = defaultdict(list)
        self._modules: set[str] = set()
        self._imported: set[str] = set()
        self._own: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                self._functions[node.name].append(node)
            elif isinstance(node, ast.Import):
                self._modules |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                self._imported |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.arg):
                self._own.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._own.add(node.id)
        self._effective: set[ast.AST] = set()
        self._spread_effects(tree)

    # Effects

    def _spread_effects(self, tree: ast.Module) -> None:
        """Mark what has an effect, and all around it, up to the function; and so on where that is called."""
        callers: dict[str, list[ast.AST]] = defaultdict(list)
        left: list[ast.AST] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for name in self._called_names(node):
                    callers[name].append(node)
            if self._has_effect(node):
                left.append(node)
        while left:
            node = left.pop()
            while node not in self._effective:
                self._effective.add(node)
                if isinstance(node, ast.FunctionDef):
                    left += callers[node.name]
                    break
                if node not in self._around:
                    break
                node = self._around[node]

    def _called_names(self, node: ast.Call) -> list[str]:
        """Functions of the source that a call may call."""
        names = [part.id for part in [node.func, *node.args] if isinstance(part, ast.Name)]
        names += [keyword.value.id for keyword in node.keywords if isinstance(keyword.value, ast.Name)]
        return [name for name in names if name in self._functions]

    def _has_effect(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute | ast.Subscript):
            return not isinstance(node.ctx, ast.Load)
        if not isinstance(node, ast.Call):
            return isinstance(node, _EFFECTS)
        if isinstance(node.func, ast.Name):
            name = node.func.id
            given = node.args[:1] if name in _CALLING else []
            return not self._harmless(name) or not all(self._harmless_function(one) for one in given)
        if isinstance(node.func, ast.Attribute):
            of_module = isinstance(node.func.value, ast.Name) and node.func.value.id in self._modules
            return node.func.attr in IN_PLACE or not (of_module or node.func.attr in BUILT_IN)
        return not isinstance(node.func, ast.Lambda)

    def _harmless(self, name: str) -> bool:
        if name in self._functions:
            return True  # what it does is found in it
        return name not in self._own and (name in _WITHOUT_EFFECT or name in self._imported)

    def _harmless_function(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return self._harmless(node.id)
        return isinstance(node, ast.Lambda | ast.Constant)

    def _items_have_effects(self, node: ast.AST) -> bool:
        """Whether working out an item does; what it is made of was worked out once before, there as here."""
        if isinstance(node, ast.GeneratorExp):
            tests = [test for generator in node.generators for test in generator.ifs]
            parts = [node.elt, *tests, *(generator.iter for generator in node.generators[1:])]
            return any(part in self._effective for part in parts)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _CALLING:
            return False
        function = node.args[0] if node.args else node
        named = self._functions.get(function.id, []) if isinstance(function, ast.Name) else [function]
        return not self._harmless_function(function) or any(one in self._effective for one in named)

    # Uses

    def is_lazy(self, node: ast.AST) -> bool:
        """Whether Python works it out item by item."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            return name in _LAZY and name not in self._own and name not in self._functions
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return node.func.attr in _LAZY_METHODS
        return isinstance(node, ast.GeneratorExp)

    def used(self, node: ast.AST) -> Iterator[Found]:
        """How it is used up."""
        user = self._around[node]
        if isinstance(user, ast.keyword):
            user = self._around[user]
        if self._whole(user, node):
            return
        if not self._step_by_step(user, node):
            told = "`[...]`" if isinstance(node, ast.GeneratorExp) else f"`list({_named(node)}(...))`"
            yield "generator", node, f"this is a list in the sandbox, and none in Python: write {told}{_first(user)}"
        elif self._items_have_effects(node):
            told = "the sandbox works all these items out before the first is looked at, and they have effects"
            yield "generator", node, f"{told}: make a list of them, `[...]`, or write a loop"

    def changed(self, node: ast.For) -> Iterator[Found]:
        """A loop over `enumerate(items)` that adds to the items, or takes from them."""
        if not self.is_lazy(node.iter):
            return
        over = {part.id for part in ast.walk(node.iter) if isinstance(part, ast.Name)}
        for part in (part for statement in node.body for part in ast.walk(statement)):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in IN_PLACE:
                holder = part.func.value
                if isinstance(holder, ast.Name) and holder.id in over:
                    told = f"in the sandbox the loop goes over {holder.id!r} as it was when it began"
                    yield "generator", part, f"{told}: go over `list({holder.id})`, or change it afterwards"

    @staticmethod
    def _whole(user: ast.AST, node: ast.AST) -> bool:
        """Whether all of it is taken before anything else happens."""
        if isinstance(user, ast.Assign):
            return all(isinstance(target, ast.Tuple | ast.List) for target in user.targets)
        if isinstance(user, ast.Call) and isinstance(user.func, ast.Name):
            keyed = user.func.id in {"max", "min"} and user.keywords
            return user.func.id in _WHOLE and not keyed
        if isinstance(user, ast.Call) and isinstance(user.func, ast.Attribute):
            return user.func.attr in _WHOLE_METHODS and user.func is not node
        return isinstance(user, ast.Starred)

    def _step_by_step(self, user: ast.AST, node: ast.AST) -> bool:
        """Whether it is looked at item by item, perhaps not to its end."""
        if isinstance(user, ast.For | ast.comprehension):
            return user.iter is node
        if isinstance(user, ast.Call) and isinstance(user.func, ast.Name):
            return user.func.id in _STEP_BY_STEP | {"max", "min"} or user.func.id in self._imported
        if isinstance(user, ast.Call) and isinstance(user.func, ast.Attribute):
            holder = user.func.value
            return isinstance(holder, ast.Name) and holder.id in {"itertools", "functools"} & self._modules
        return isinstance(user, ast.Compare) and all(isinstance(op, ast.In | ast.NotIn) for op in user.ops)


def _named(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def _first(user: ast.AST) -> str:
    is_next = isinstance(user, ast.Call) and isinstance(user.func, ast.Name) and user.func.id == "next"
    return ", and `next(iter([...]), None)` for the first of it" if is_next else ""
