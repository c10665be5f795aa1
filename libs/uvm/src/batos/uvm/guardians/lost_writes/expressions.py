"""What an expression stands for."""

from __future__ import annotations

import ast
import builtins
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from batos.uvm.guardians.lost_writes.calls import Calls
from batos.uvm.guardians.lost_writes.heap import Args
from batos.uvm.guardians.lost_writes.names import GIVEN, PENDING, STALE, Env
from batos.uvm.guardians.lost_writes.things import NOTHING, RECEIVER, Function, Instance, Made, Value, in_order, is_copy
from batos.uvm.guardians.lost_writes.writes import text_of

_JOINING = (ast.Add, ast.Mult, ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)
"""Operators that make new containers of containers."""


class Expressions(Calls):
    """Expressions, one method for each kind that is not just the sum of its parts."""

    def value(self, node: ast.expr, env: Env) -> Value:
        """What an expression stands for, and what it does."""
        self.step()
        kind = self._expressions.get(type(node))
        if kind is not None:
            return kind(self, node, env)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child, env)
        return NOTHING

    def _name(self, node: ast.Name, env: Env) -> Value:
        found = self.looked_up(node.id, env)
        if found is None:
            return self.library(node.id) if hasattr(builtins, node.id) else NOTHING
        return found

    def _attribute(self, node: ast.Attribute, env: Env) -> Value:
        return self.read(self.value(node.value, env), node.attr, node, env)

    def _subscript(self, node: ast.Subscript, env: Env) -> Value:
        holder = self.value(node.value, env)
        self.value(node.slice, env)
        if isinstance(node.slice, ast.Slice):
            return self.made(node, "list", self.items(holder), env) if holder else NOTHING
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            return self.items(holder)
        return self.at(holder, text_of(node.slice))

    def _call(self, node: ast.Call, env: Env) -> Value:
        if isinstance(node.func, ast.Attribute):
            holder = self.value(node.func.value, env)
            return self.called_on(holder, node.func.attr, self._args(node, env), node, env)
        callee = self.value(node.func, env)
        return self.called(callee, self._args(node, env), node, env)

    def _args(self, node: ast.Call, env: Env) -> Args:
        starred, spread, shifted = NOTHING, NOTHING, False
        placed: list[Value] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                starred = self.joined(starred, self.inner(self.value(argument.value, env)))
                shifted = True
            elif shifted:
                starred = self.joined(starred, self.value(argument, env))
            else:
                placed.append(self.value(argument, env))
        named: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, env)
            if keyword.arg is None:
                spread = self.joined(spread, self.inner(value))
            else:
                named[keyword.arg] = value
        return Args(placed, named, starred, spread)

    def _display(self, node: ast.List | ast.Tuple | ast.Set, env: Env) -> Value:
        kind = type(node).__name__.lower()
        items = self.all_of(self._item(item, env) for item in node.elts)
        spread = self.all_of(self._item(item, env) for item in node.elts if isinstance(item, ast.Starred))
        return self.made(node, kind, items, env, older=self.older(spread, env))

    def _item(self, node: ast.expr, env: Env) -> Value:
        return self.inner(self.value(node.value, env)) if isinstance(node, ast.Starred) else self.value(node, env)

    def _dict_display(self, node: ast.Dict, env: Env) -> Value:
        made = self.made(node, "dict", NOTHING, env)
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.value(item, env)
            if key is None:
                self.made(node, "dict", self.inner(value), env)
            else:
                self.value(key, env)
                self.put(made, value, text_of(key))
        return made

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, env: Env) -> Value:
        for name, value in self.left.get(node, {}).items():
            env.names[name] = self.joined(env.get(name) or NOTHING, value)
        within = env.layer(node)
        first = self.value(node.generators[0].iter, env)
        older = NOTHING
        self.loops += 1
        for place, generator in enumerate(node.generators):
            items = self.items(first if place == 0 else self.value(generator.iter, within))
            older |= self.older(items, within)  # before what stands in it sends a message
            self.bind_target(generator.target, items, within)
            for test in generator.ifs:
                self.value(test, within)
        if isinstance(node, ast.DictComp):
            self.value(node.key, within)
        made = self.value(node.value if isinstance(node, ast.DictComp) else node.elt, within)
        self.loops -= 1
        for name in (GIVEN, PENDING, STALE):
            if name in within.names:
                self.grow(self.left.setdefault(node, {}), name, within.names[name])
                self.bind(name, self.joined(env.get(name) or NOTHING, within.names[name]), env)
        return self.made(node, _MADE_BY.get(type(node), "list"), made, env, older=older)

    def _walrus(self, node: ast.NamedExpr, env: Env) -> Value:
        value = self.value(node.value, env)
        around = env
        while around.comprehension is not None and around.base is not None:
            self.grow(self.left.setdefault(around.comprehension, {}), node.target.id, value)
            around = around.base
        self.weak += around is not env
        self.bind(node.target.id, value, around)
        self.weak -= around is not env
        return value

    def _any_of(self, node: ast.BoolOp, env: Env) -> Value:
        found = self.value(node.values[0], env)
        self.weak += 1
        found = self.all_of([found, *(self.value(value, env) for value in node.values[1:])])
        self.weak -= 1
        return found

    def _either(self, node: ast.IfExp, env: Env) -> Value:
        self.value(node.test, env)
        self.weak += 1
        found = self.joined(self.value(node.body, env), self.value(node.orelse, env))
        self.weak -= 1
        return found

    def _operation(self, node: ast.BinOp, env: Env) -> Value:
        left: ast.expr = node
        parts: list[ast.BinOp] = []
        while isinstance(left, ast.BinOp):
            parts.append(left)
            left = left.left
        value = self.value(left, env)
        for part in reversed(parts):
            value = self.operated(part, value, part.op, self.value(part.right, env), env)
        return value

    def operated(self, node: ast.AST, left: Value, op: ast.operator, right: Value, env: Env) -> Value:
        """What an operator makes of two values: of a number nothing but numbers, of containers a new one."""
        self.step()
        special = [
            self.called_on(frozenset({thing}), _SPECIAL[type(op)], Args([right]), node, env)
            for thing in in_order(left)
            if isinstance(thing, Instance) and type(op) in _SPECIAL
        ]
        if not isinstance(op, _JOINING) or (not (left and right) and not isinstance(op, ast.Mult)):
            return self.all_of(special)
        if not left and not right:
            return NOTHING
        made = self.made(node, _kind_of(left, op, right), self.joined(self.inner(left), self.inner(right)), env)
        return self.all_of([made, *special])

    def _compared(self, node: ast.Compare, env: Env) -> Value:
        sides = [node.left, *node.comparators]
        values = []
        for place, side in enumerate(sides):  # `a < b < c`: whether `c` is come to, only the call will tell
            self.weak += place > 1
            values.append(self.value(side, env))
            self.weak -= place > 1
        for place, op in enumerate(node.ops):
            pair = (place, place + 1)
            constant = any(isinstance(sides[one], ast.Constant) for one in pair)
            crossed = any(is_copy(thing) or thing is RECEIVER for one in pair for thing in values[one])
            if isinstance(op, ast.Is | ast.IsNot) and crossed and not constant:
                self.say("unsupported", node, "what crosses is another one each time: compare with `==`, not with `is`")
        return NOTHING

    def _lambda(self, node: ast.Lambda, env: Env) -> Value:
        return frozenset({self.defined(node, env)})

    def defined(self, node: ast.FunctionDef | ast.Lambda, env: Env) -> Function:
        """A function is defined: its defaults are worked out where it stands."""
        function = self.functions.get(node)
        if function is None:
            live = isinstance(node, ast.FunctionDef) and node.name == self.name and node in self.tree.body
            function = self.functions[node] = Function(node, self.scopes[node], live)
            self.changed = True
        arguments = node.args
        placed = [*arguments.posonlyargs, *arguments.args]
        with_default = [*placed[len(placed) - len(arguments.defaults) :], *arguments.kwonlyargs]
        for parameter, default in zip(with_default, [*arguments.defaults, *arguments.kw_defaults], strict=True):
            if default is not None:
                self.grow(function.params, parameter.arg, self.value(default, env))
        return function

    @abstractmethod
    def bind_target(self, target: ast.expr, value: Value, env: Env) -> None:
        """Something is assigned to a target, or unpacked into it."""

    _expressions: ClassVar[dict[type[ast.AST], Callable[..., Value]]] = {
        ast.Name: _name,
        ast.Attribute: _attribute,
        ast.Subscript: _subscript,
        ast.Call: _call,
        ast.List: _display,
        ast.Tuple: _display,
        ast.Set: _display,
        ast.Dict: _dict_display,
        ast.ListComp: _comprehension,
        ast.SetComp: _comprehension,
        ast.GeneratorExp: _comprehension,
        ast.DictComp: _comprehension,
        ast.NamedExpr: _walrus,
        ast.BoolOp: _any_of,
        ast.IfExp: _either,
        ast.BinOp: _operation,
        ast.Compare: _compared,
        ast.Lambda: _lambda,
    }


def _kind_of(left: Value, op: ast.operator, right: Value) -> str:
    """Of which kind an operator makes something: `+` and `*` make no set, unless it is a Counter."""
    if all(isinstance(thing, Made) and thing.kind == "sum" for thing in left) and left:
        return "sum"
    counted = any(isinstance(thing, Made) and thing.kind not in {"list", "sum", "tuple"} for thing in left | right)
    return "sum" if isinstance(op, ast.Add | ast.Mult) and not counted else "unknown"


_MADE_BY: dict[type[ast.AST], str] = {ast.SetComp: "set", ast.DictComp: "dict"}
_SPECIAL: dict[type[ast.operator], str] = {ast.Add: "__add__"}
