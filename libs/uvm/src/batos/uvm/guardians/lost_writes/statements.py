"""What statements do to the names of a source, one after the other."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import ClassVar

from batos.uvm.guardians.lost_writes.expressions import Expressions
from batos.uvm.guardians.lost_writes.names import Env
from batos.uvm.guardians.lost_writes.things import (
    DEEP,
    HOST,
    NOTHING,
    Class,
    Copied,
    Function,
    Instance,
    Made,
    Thing,
    Value,
    in_order,
    is_copy,
)
from batos.uvm.guardians.lost_writes.writes import SIGNS, text_of

_SEVERAL = (ast.Tuple, ast.List)
_ABRUPT = (ast.Return, ast.Break, ast.Continue)


class Statements(Expressions):
    """Statements, one method for each kind; each says whether what follows it is come to."""

    def block(self, body: Sequence[ast.stmt], env: Env) -> bool:
        """Go through statements: whether the end is come to."""
        return all(self._statement(statement, env) for statement in body)

    def _statement(self, node: ast.stmt, env: Env) -> bool:
        self.step()
        kind = self._statements.get(type(node))
        if kind is not None:
            return kind(self, node, env) is not False
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and not isinstance(node, ast.Delete):
                self.value(child, env)
        return not isinstance(node, ast.Raise)

    # Definitions

    def _function(self, node: ast.FunctionDef, env: Env) -> None:
        self.bind(node.name, frozenset({self.defined(node, env)}), env)

    def _class(self, node: ast.ClassDef, env: Env) -> None:
        owner = self.classes.get(node)
        if owner is None:
            fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
            owner = self.classes[node] = Class([one.id for one in fields if isinstance(one, ast.Name)])
        within = env.layer()
        self.block(node.body, within)
        for name, value in within.names.items():
            self.keep(owner.names, name, value)
            for one in value if name.startswith("__") and name != "__call__" else ():
                if isinstance(one, Function):
                    self._special(one, owner, name)
        self.bind(node.name, frozenset({owner}), env)

    def _special(self, function: Function, owner: Class, name: str) -> None:
        """The interpreter calls it: with an instance, and anything."""
        arguments = function.node.args
        names = [one.arg for one in [*arguments.posonlyargs, *arguments.args]]
        for place, one in enumerate(names):
            if place == 0:
                self.grow(function.params, one, frozenset({owner.instance}))
            elif name != "__init__":
                self.grow(function.params, one, frozenset({HOST}))

    def _import(self, node: ast.Import, env: Env) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name.partition(".")[0], self.library(alias.name), env)

    def _import_from(self, node: ast.ImportFrom, env: Env) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name, self.library(f"{node.module}.{alias.name}"), env)

    # Assignments

    def _assign(self, node: ast.Assign, env: Env) -> None:
        pairs = _pairs(node)
        if pairs:  # `a, b = b, a`: each gets its own
            values = [self.value(value, env) for _, value in pairs]
            for (target, _), value in zip(pairs, values, strict=True):
                self.bind_target(target, value, env)
            return
        value = self.value(node.value, env)
        for target in node.targets:
            self.bind_target(target, value, env)

    def _annotated(self, node: ast.AnnAssign, env: Env) -> None:
        if node.value is not None:
            self.bind_target(node.target, self.value(node.value, env), env)

    def bind_target(self, target: ast.expr, value: Value, env: Env) -> None:
        """Something is assigned to a target, or unpacked into it."""
        self.step()
        if isinstance(target, ast.Name):
            self.bind(target.id, value, env)
        elif isinstance(target, ast.Tuple | ast.List):
            inside = self.items(value)
            for part in target.elts:
                if isinstance(part, ast.Starred):
                    self.bind_target(part.value, self.made(part, "list", inside, env), env)
                else:
                    self.bind_target(part, inside, env)
        elif isinstance(target, ast.Attribute):
            self.write_attribute(target, self.value(target.value, env), value)
        elif isinstance(target, ast.Subscript):
            holder = self.value(target.value, env)
            self.value(target.slice, env)
            self.write(holder, target, env)
            self.put(holder, self.inner(value) if isinstance(target.slice, ast.Slice) else value, text_of(target.slice))

    def _augmented(self, node: ast.AugAssign, env: Env) -> None:
        target = node.target
        if isinstance(target, ast.Attribute):
            holder = self.value(target.value, env)
            old = self.all_of(self.attribute_of(thing, target.attr) for thing in in_order(holder))
        else:
            old = self.value(target, env)
        more = self.value(node.value, env)
        new = self._in_place(node, old, more, env)
        if isinstance(target, ast.Name):
            self.bind(target.id, new, env)
        else:
            self.bind_target(target, new, env)

    def _in_place(self, node: ast.AugAssign, old: Value, more: Value, env: Env) -> Value:
        """`a += b` changes `a` where it is a list; in the sandbox `|=` and its like change nothing in place."""
        sign = SIGNS.get(type(node.op))
        here = frozenset(thing for thing in old if is_copy(thing) or isinstance(thing, Made))
        if sign is None or not here:
            return self.operated(node, old, node.op, more, env)
        copies = frozenset(thing for thing in here if is_copy(thing))
        whole = all(isinstance(thing, Copied) for thing in old)
        if sign != "+" and isinstance(node.target, ast.Name) and whole and len(old) == 1:
            return self._another(node, old, more, env)
        self._unlike(node, sign, here, more)
        if copies and (more or sign == "*"):
            self.write(copies, node, env)
        elif copies:
            return old - copies  # of one number or text, another one
        self.write(here - copies, node, env)
        self.put(here, self.inner(more))
        return self.all_of([old, self.operated(node, old - here, node.op, more, env)])

    def _another(self, node: ast.AugAssign, old: Value, more: Value, env: Env) -> Value:
        """`a -= b` of a slot's copy leaves another one in the name; what else still holds the copy holds an old one."""
        new = self.operated(node, old, node.op, more, env)
        if more or isinstance(node.op, ast.Mult):
            self.write(old, node, env)
            self.outdated(old, env)
        return new

    def _unlike(self, node: ast.AugAssign, sign: str, here: Value, more: Value) -> None:
        """What the sandbox does otherwise with containers, where it is known that it is one, or may be."""
        kinds, taken = _kinds(here), _kinds(more)
        name = self.text(node.target)
        if sign == "+":
            if kinds == {"list"} and (not taken or taken & {"dict", "set", "tuple"}):
                told = "`+=` takes nothing but a list in the sandbox"
                self.say("unsupported", node, f"{told}: write `{name}.extend(...)`")
            return
        known = not kinds & DEEP and kinds & ({"list"} if sign == "*" else {"dict", "set"})
        unsure = {"copy", "unknown", *DEEP} | ({"sum"} if sign == "*" else set())
        perhaps = kinds & unsure and not isinstance(node.target, ast.Subscript)
        if known or (perhaps and (more or sign == "*")):
            told = f"`{sign}=` changes what stands there in Python, and makes a new one in the sandbox"
            self.say("unsupported", node, f"{told}: write `{name} = {name} {sign} ...`")

    # Ways

    def _return(self, node: ast.Return, env: Env) -> bool:
        value = NOTHING if node.value is None else self.value(node.value, env)
        self.leaves(env)
        if self.current:
            function = self.current[-1]
            function.result = self.learned(function.result, value)
        return False

    def _jump(self, node: ast.stmt, env: Env) -> bool:  # noqa: ARG002 - as the others
        around, left = self.jumps[-1]
        seen: set[str] = set()
        for layer in env.layers():
            if layer is around:
                break
            for name, value in layer.names.items():
                self.step()
                if name not in seen:
                    self.grow(left, name, value)
            seen |= layer.names.keys()
        return False

    def _if(self, node: ast.If, env: Env) -> bool:
        ends: list[Env] = []
        self.value(node.test, env)
        while True:
            self._way(node.body, env, ends)
            if len(node.orelse) != 1 or not isinstance(node.orelse[0], ast.If):
                break
            node = node.orelse[0]  # a chain of `elif` is as long as it likes
            self.weak += 1
            self.value(node.test, env)
            self.weak -= 1
        self._way(node.orelse, env, ends)
        self.merge(env, ends)
        return bool(ends)

    def _way(self, body: Sequence[ast.stmt], env: Env, ends: list[Env]) -> None:
        way = env.layer()
        if self.block(body, way):
            ends.append(way)

    def _for(self, node: ast.For, env: Env) -> bool:
        items = self.items(self.value(node.iter, env))
        return self._loop(node, env, lambda within: self.bind_target(node.target, items, within))

    def _while(self, node: ast.While, env: Env) -> bool:
        return self._loop(node, env, lambda within: self.value(node.test, within))

    def _loop(self, node: ast.For | ast.While, env: Env, begin: Callable[[Env], object]) -> bool:
        """What one time round leaves, the next begins with; after it stands what any of them left, or none."""
        left = self.left.setdefault(node, {})
        self._left(left, env)
        self.loops += 1
        self.jumps.append((env, left))
        within = env.layer()
        begin(within)
        for name, value in within.names.items():
            self.grow(left, name, value)
        if self.block(node.body, within):
            for name, value in within.names.items():
                self.grow(left, name, value)
        self.jumps.pop()
        self.loops -= 1
        self._left(left, env)
        if node.orelse:
            ends = [env.layer()]  # a `break` goes past what stands in `else`
            self._way(node.orelse, env, ends)
            self.merge(env, ends)
        return True

    def _left(self, left: dict[str, Value], env: Env) -> None:
        for name, value in left.items():
            env.names[name] = self.joined(env.get(name) or NOTHING, value)

    def _try(self, node: ast.Try, env: Env) -> bool:
        log: dict[str, Value] = {}
        to_the_end: dict[str, Value] = {}
        ends: list[Env] = []
        self.logs += [to_the_end, log]
        body = env.layer()
        ended = self.block(node.body, body)
        self.logs.pop()
        if ended and self.block(node.orelse, body):
            ends.append(body)
        for handler in node.handlers:
            way = env.layer()
            self._left(log, way)
            if handler.name is not None:
                self.bind(handler.name, frozenset({self.container(handler, "unknown", frozenset({HOST}))}), way)
            if self.block(handler.body, way):
                ends.append(way)
        self.logs.pop()
        self.merge(env, ends)
        if not node.finalbody:
            return bool(ends)
        self._left(to_the_end, env)
        ended = self.block(node.finalbody, env)
        if ended and self._is_abrupt(node):  # it may go on from here to elsewhere
            self.leaves(env)
            if self.jumps:
                self._jump(node, env)
        return ended and bool(ends)

    def _is_abrupt(self, node: ast.Try) -> bool:
        """Whether anything in it leaves it half-way; found once, not in every round."""
        if node not in self.abrupt:
            self.abrupt[node] = any(isinstance(part, _ABRUPT) for part in ast.walk(node))
        return self.abrupt[node]

    def _with(self, node: ast.With, env: Env) -> bool:
        """The `__exit__` of an instance may swallow what its body raises: so that is a `try`."""
        log: dict[str, Value] = {}
        swallows = False
        managers: list[Thing] = []
        for item in node.items:
            value = self.value(item.context_expr, env)
            swallows = swallows or any(isinstance(thing, Instance) for thing in value)
            these = in_order(value)
            managers += these
            entered = [self.special(thing, "__enter__", env) or frozenset({thing}) for thing in these]
            if item.optional_vars is not None:
                self.bind_target(item.optional_vars, self.all_of(entered), env)
        self.logs.append(log)
        ended = self.block(node.body, env)
        self.logs.pop()
        if swallows:
            self._left(log, env)
        for thing in reversed(managers):
            self.special(thing, "__exit__", env)
        return ended or swallows

    def _match(self, node: ast.Match, env: Env) -> bool:
        subject = self.value(node.subject, env)
        inside = self.reachable(subject)
        ends = [env.layer()]
        for case in node.cases:
            way = env.layer()
            for pattern in ast.walk(case.pattern):
                self.step()
                if isinstance(pattern, ast.MatchStar | ast.MatchMapping):
                    name = pattern.name if isinstance(pattern, ast.MatchStar) else pattern.rest
                    value = self.made(pattern, "unknown", inside, way)
                else:
                    name = getattr(pattern, "name", None)
                    value = subject if pattern is case.pattern else inside
                if name is not None:
                    self.bind(name, value, way)
            if case.guard is not None:
                self.value(case.guard, way)
            self._left(way.names, env)  # what it bound stays, whether its guard holds or not
            if self.block(case.body, way):
                ends.append(way)
        self.merge(env, ends)
        return True

    _statements: ClassVar[dict[type[ast.AST], Callable[..., bool | None]]] = {
        ast.FunctionDef: _function,
        ast.ClassDef: _class,
        ast.Import: _import,
        ast.ImportFrom: _import_from,
        ast.Assign: _assign,
        ast.AnnAssign: _annotated,
        ast.AugAssign: _augmented,
        ast.Return: _return,
        ast.Break: _jump,
        ast.Continue: _jump,
        ast.If: _if,
        ast.For: _for,
        ast.While: _while,
        ast.Try: _try,
        ast.With: _with,
        ast.Match: _match,
    }


def _pairs(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    """What is assigned to what, where both are as many items, none of them starred."""
    target, value = node.targets[0], node.value
    if len(node.targets) > 1 or not isinstance(target, _SEVERAL) or not isinstance(value, _SEVERAL):
        return []
    starred = any(isinstance(item, ast.Starred) for item in [*target.elts, *value.elts])
    return [] if starred or len(target.elts) != len(value.elts) else list(zip(target.elts, value.elts, strict=True))


def _kinds(value: Value) -> set[str]:
    """Of which kinds the containers in a value are; `copy` for what came from the image."""
    return {
        thing.kind if isinstance(thing, Made) else "copy"
        for thing in value
        if isinstance(thing, Made) or is_copy(thing)
    }
