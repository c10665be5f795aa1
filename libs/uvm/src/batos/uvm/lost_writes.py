"""Which values of a source are copies of what stands in the image, and what it writes into them.

A small abstract interpretation: every expression has a standing (how far its inner parts are the source's own), every
name the standing of what was last assigned to it, functions are followed until nothing changes any more. A write into
a copy reaches nobody; a write into a list that the source built is its own affair. Where it cannot tell, it refuses a
write to an attribute and lets a change of a container pass that came from a message: nobody expects more of that.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from batos.uvm.capabilities import SELF, SPOKEN, Capabilities, Rights
from batos.uvm.standings import (
    ANSWER,
    DEEPEST_HOST,
    HOST,
    INSTANCE,
    OBJECT,
    OWN,
    RECEIVER,
    answer_of_container,
    inner,
    shallow,
    wrapped,
)

_ROUNDS = 20
"""How often a source is gone through at most: each time costs no more than its length."""

IN_PLACE = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "setdefault", "sort",
    "symmetric_difference_update", "update",
})  # fmt: skip
_SHALLOW = frozenset({"list", "dict", "set", "frozenset", "tuple", "sorted", "reversed", "iter", "filter"})
_SHALLOW_MODULES = frozenset({"collections", "itertools"})
_PAIRING = frozenset({"enumerate", "zip"})
_TAKING = frozenset({"next", "min", "max", "reduce"})

Function = ast.FunctionDef | ast.Lambda
Env = dict[str, int]
Found = tuple[str, ast.AST, str]


@dataclass
class Known:
    """What is known about one function of the source.

    Attributes:
        params: the standing of each parameter, over all calls seen.
        outer: the names around it.
        result: the standing of what it returns.
    """

    node: Function
    params: Env = field(default_factory=dict)
    outer: Env = field(default_factory=dict)
    result: int = INSTANCE


def faults_of_flow(name: str, tree: ast.Module, capabilities: Capabilities) -> list[Found]:
    """Writes that would be lost, and what is used of the receiver without being declared."""
    return _Flow(name, tree, capabilities).run()


class _Flow:
    """One pass after the other over a source, until the standings stand still."""

    def __init__(self, name: str, tree: ast.Module, capabilities: Capabilities) -> None:
        self._name = name
        self._tree = tree
        self._capabilities = capabilities
        self._rights = capabilities.get(SELF, Rights())
        self._sent_to_others = frozenset[str]().union(
            *(rights.sends for whom, rights in capabilities.items() if whom != SELF)
        )
        self._classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self._methods = {
            part.name: part
            for node in self._classes.values()
            for part in node.body
            if isinstance(part, ast.FunctionDef)
        }
        self._attributes: Env = {}
        self._loops: dict[int, Env] = {}
        self._known: dict[int, Known] = {}
        self._by_name: dict[str, list[Known]] = {}
        self._current: list[Known] = []
        self._changed = False
        self._found: dict[tuple[str, int], Found] = {}

    def run(self) -> list[Found]:
        """Go round until nothing changes; the faults of the last round stand."""
        for _ in range(_ROUNDS):
            self._changed = False
            self._found = {}
            self._block(self._tree.body, {})
            done: set[int] = set()
            while left := [known for key, known in self._known.items() if key not in done]:
                for known in left:
                    done.add(id(known.node))
                    self._function(known)
            if not self._changed:
                return list(self._found.values())
        return [("flow", self._tree, "its values change places more often than can be followed: make it simpler")]

    # Functions

    def _define(self, node: Function, env: Env, *, in_class: bool = False) -> Known:
        known = self._known.get(id(node))
        if known is None:
            known = self._known[id(node)] = Known(node)
            if isinstance(node, ast.FunctionDef) and not in_class:
                self._by_name.setdefault(node.name, []).append(known)
            live = not in_class and node in self._tree.body and getattr(node, "name", "") == self._name
            for place, parameter in enumerate(_parameters(node)):
                first = RECEIVER if live else INSTANCE if in_class else OWN
                known.params[parameter] = first if place == 0 else HOST if live else OWN
        self._lower_all(known.outer, env)
        return known

    def _function(self, known: Known) -> None:
        env = {**known.outer, **known.params}
        for default in [*known.node.args.defaults, *filter(None, known.node.args.kw_defaults)]:
            self._value(default, env)
        self._current.append(known)
        if isinstance(known.node, ast.Lambda):
            self._returns(self._value(known.node.body, env))
        else:
            self._block(known.node.body, env)
        self._current.pop()

    def _returns(self, standing: int) -> None:
        if self._current and standing < self._current[-1].result:
            self._current[-1].result = standing
            self._changed = True

    def _called(self, known: Known, args: Sequence[int], named: dict[str, int], *, bound: bool) -> int:
        names = _parameters(known.node)[1 if bound else 0 :]
        given = {name: standing for name, standing in zip(names, args, strict=False)}  # noqa: C416 - says what it pairs
        rest = known.node.args.vararg
        if rest is not None and len(args) > len(names):
            given[rest.arg] = min(wrapped(standing) for standing in args[len(names) :])
        given.update({name: standing for name, standing in named.items() if name in known.params})
        self._lower_all(known.params, given, only_known=True)
        return min(known.result, OWN) if known.result != INSTANCE else OWN

    def _lower_all(self, standings: Env, given: Env, *, only_known: bool = False) -> None:
        for name, standing in given.items():
            if name not in standings:
                if only_known:
                    continue
                standings[name] = standing
                self._changed = True
            elif standing < standings[name]:
                standings[name] = standing
                self._changed = True

    # Statements

    def _block(self, body: Iterable[ast.stmt], env: Env) -> None:
        for statement in body:
            self._statement(statement, env)

    def _statement(self, node: ast.stmt, env: Env) -> None:  # noqa: C901, PLR0912 - one branch a kind of statement
        if isinstance(node, ast.FunctionDef):
            self._define(node, env)
            env[node.name] = OWN
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    self._define(part, env, in_class=True)
                elif isinstance(part, ast.AnnAssign | ast.Assign) and part.value is not None:
                    self._value(part.value, env)
            env[node.name] = OWN
        elif isinstance(node, ast.Return):
            self._returns(OWN if node.value is None else self._value(node.value, env))
        elif isinstance(node, ast.Assign):
            standing = self._value(node.value, env)
            for target in node.targets:
                self._bind(target, standing, env, node.value)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._bind(node.target, self._value(node.value, env), env, node.value)
        elif isinstance(node, ast.AugAssign):
            standing = self._value(node.value, env)
            if isinstance(node.target, ast.Name):
                env[node.target.id] = shallow(min(env.get(node.target.id, OWN), standing))
            else:
                self._bind(node.target, standing, env)
        elif isinstance(node, ast.For):
            self._loop(node.body, node.orelse, env, node.target, inner(self._value(node.iter, env)))
        elif isinstance(node, ast.While):
            self._value(node.test, env)
            self._loop(node.body, node.orelse, env)
        elif isinstance(node, ast.If):
            self._value(node.test, env)
            self._branches(env, node.body, node.orelse)
        elif isinstance(node, ast.Try):
            self._branches(env, node.body, [])
            self._branches(env, *(handler.body for handler in node.handlers), node.orelse)
            self._block(node.finalbody, env)
        elif isinstance(node, ast.With):
            for item in node.items:
                standing = self._value(item.context_expr, env)
                if item.optional_vars is not None:
                    self._bind(item.optional_vars, standing, env)
            self._block(node.body, env)
        elif isinstance(node, ast.Match):
            subject = self._value(node.subject, env)
            for case in node.cases:
                for pattern in ast.walk(case.pattern):
                    named = getattr(pattern, "name", None) or getattr(pattern, "rest", None)
                    if isinstance(named, str):
                        env[named] = min(subject, HOST) if subject <= DEEPEST_HOST else inner(subject)
            self._branches(env, *(case.body for case in node.cases))
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr) and not isinstance(node, ast.Delete):
                    self._value(child, env)

    def _branches(self, env: Env, *bodies: Sequence[ast.stmt]) -> None:
        """Any of these may run: a name stands as low as any of them leaves it."""
        ends = []
        for body in bodies:
            end = dict(env)
            self._block(body, end)
            ends.append(end)
        for end in ends:
            for name, standing in end.items():
                others = [other.get(name, standing) for other in ends]
                env[name] = min(others)

    def _loop(
        self,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt],
        env: Env,
        target: ast.expr | None = None,
        item: int = OWN,
    ) -> None:
        left = self._loops.setdefault(id(body), {})  # what one time round leaves, the next begins with
        for name, standing in left.items():
            env[name] = min(standing, env.get(name, standing))
        if target is not None:
            self._bind(target, item, env)
        self._branches(env, body, [])
        self._lower_all(left, env)
        self._block(orelse, env)

    def _bind(self, target: ast.expr, standing: int, env: Env, value: ast.expr | None = None) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = standing
        elif isinstance(target, ast.Starred):
            self._bind(target.value, shallow(standing), env)
        elif isinstance(target, ast.Tuple | ast.List):
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
                for part, source in zip(target.elts, value.elts, strict=True):
                    self._bind(part, self._value(source, env), env, source)
            else:
                for part in target.elts:
                    self._bind(part, inner(standing), env)
        elif isinstance(target, ast.Attribute):
            self._bind_attribute(target, standing, env)
        elif isinstance(target, ast.Subscript):
            holder = self._value(target.value, env)
            self._value(target.slice, env)
            if holder <= HOST:
                self._say(
                    "lost-write", target, "this changes a copy: build the new value and `self.set(name, value)` it"
                )
            else:
                self._put(target.value, standing, env)

    def _bind_attribute(self, target: ast.Attribute, standing: int, env: Env) -> None:
        holder = self._value(target.value, env)
        if holder == INSTANCE or (holder == OWN and self._classes):
            self._lower_all(self._attributes, {target.attr: standing})
        else:
            self._say(
                "lost-write",
                target,
                f"assigning {ast.unparse(target)} reaches nobody: write `.set({target.attr!r}, value)`",
            )

    def _put(self, holder: ast.expr, standing: int, env: Env) -> None:
        """Something was put into a container of the source's own: it holds that from now on."""
        if isinstance(holder, ast.Name) and holder.id in env:
            env[holder.id] = min(env[holder.id], wrapped(standing))
            if self._current and holder.id in self._current[-1].outer and env[holder.id] < OWN:
                self._lower_all(self._current[-1].outer, {holder.id: env[holder.id]})

    def _say(self, rule: str, node: ast.AST, detail: str) -> None:
        self._found[rule, id(node)] = (rule, node, detail)

    # Expressions

    def _value(self, node: ast.expr, env: Env) -> int:  # noqa: C901, PLR0911, PLR0912 - one branch a kind of expression
        if isinstance(node, ast.Constant):
            return OWN
        if isinstance(node, ast.Name):
            return env.get(node.id, OWN)
        if isinstance(node, ast.Attribute):
            return self._read(node, node.attr, self._value(node.value, env))
        if isinstance(node, ast.Subscript):
            holder = self._value(node.value, env)
            self._value(node.slice, env)
            return shallow(holder) if isinstance(node.slice, ast.Slice) else inner(holder)
        if isinstance(node, ast.Call):
            return self._call(node, env)
        if isinstance(node, ast.Starred):
            return inner(self._value(node.value, env))
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return min((wrapped(self._value(item, env)) for item in node.elts), default=OWN)
        if isinstance(node, ast.Dict):
            for key in filter(None, node.keys):
                self._value(key, env)
            return min(
                (
                    shallow(self._value(item, env)) if key is None else wrapped(self._value(item, env))
                    for key, item in zip(node.keys, node.values, strict=True)
                ),
                default=OWN,
            )
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            within = self._generators(node.generators, env)
            if isinstance(node, ast.DictComp):
                self._value(node.key, within)
                return wrapped(self._value(node.value, within))
            return wrapped(self._value(node.elt, within))
        if isinstance(node, ast.BoolOp):
            return min(self._value(value, env) for value in node.values)
        if isinstance(node, ast.IfExp):
            self._value(node.test, env)
            return min(self._value(node.body, env), self._value(node.orelse, env))
        if isinstance(node, ast.NamedExpr):
            standing = self._value(node.value, env)
            self._bind(node.target, standing, env)
            return standing
        if isinstance(node, ast.BinOp):
            return shallow(min(self._value(node.left, env), self._value(node.right, env)))
        if isinstance(node, ast.Lambda):
            self._define(node, env)
            return OWN
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._value(child, env)
        return OWN

    def _generators(self, generators: Sequence[ast.comprehension], env: Env) -> Env:
        within = dict(env)
        for generator in generators:
            self._bind(generator.target, inner(self._value(generator.iter, within)), within)
            for test in generator.ifs:
                self._value(test, within)
        return within

    def _read(self, node: ast.AST, name: str, holder: int) -> int:
        if holder == RECEIVER:
            if name in SPOKEN:
                return OWN
            if name not in self._rights.reads and name not in self._capabilities and not name.startswith("_"):
                self._undeclared(node, "reads", name)
            return OBJECT if name in self._capabilities else HOST
        if holder == INSTANCE or (holder == OWN and name in self._attributes):
            return self._attributes.get(name, OWN)
        return inner(holder)

    def _undeclared(self, node: ast.AST, kind: str, name: str) -> None:
        self._say("undeclared", node, f"{name!r} is not among the {kind} of `self` in CAPABILITIES: declare it")

    def _call(self, node: ast.Call, env: Env) -> int:
        args = [self._value(argument, env) for argument in node.args]
        named = {keyword.arg or "": self._value(keyword.value, env) for keyword in node.keywords}
        self._passed_on(node, min([*args, *named.values()], default=OWN), env)
        if isinstance(node.func, ast.Name):
            return self._call_by_name(node, node.func.id, args, named, env)
        if isinstance(node.func, ast.Attribute):
            return self._call_on(node, node.func, args, named, env)
        self._value(node.func, env)
        return OWN

    def _passed_on(self, node: ast.Call, least: int, env: Env) -> None:
        """Functions given to a call are called with what stands in its other arguments."""
        for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if isinstance(value, ast.Lambda):
                self._lower_all(self._define(value, env).params, dict.fromkeys(_parameters(value), inner(least)))
            elif isinstance(value, ast.Name):
                for known in self._by_name.get(value.id, ()):
                    self._lower_all(known.params, dict.fromkeys(known.params, inner(least)))

    def _call_by_name(self, node: ast.Call, name: str, args: list[int], named: dict[str, int], env: Env) -> int:
        if name in self._classes:
            return self._made(name, args, named)
        if name in self._by_name:
            return min(self._called(known, args, named, bound=False) for known in self._by_name[name])
        if name in env:
            return OWN
        return self._call_of_builtin(node, name, args)

    def _call_of_builtin(self, node: ast.Call, name: str, args: list[int]) -> int:
        least = min(args, default=OWN)
        if name in {"setattr", "delattr"}:
            self._say("lost-write", node, f"{name} reaches nobody: write `.set(name, value)`")
        elif name in {"getattr", "hasattr"} and args:
            told = _text(node.args[1]) if len(node.args) > 1 else None
            found = HOST if told is None and args[0] <= HOST else self._read(node, told or "", args[0])
            return min([found, *args[2:]]) if name == "getattr" else OWN
        elif name == "map":
            made = [known.result for known in self._by_name.get(getattr(node.args[0], "id", ""), ())] if args else []
            return wrapped(min([*made, *(inner(standing) for standing in args[1:])], default=OWN))
        elif name in _PAIRING:
            return wrapped(wrapped(inner(least)))
        elif name in _TAKING:
            return inner(least) if len(args) == 1 else least
        return shallow(least) if name in _SHALLOW else OWN

    def _made(self, name: str, args: list[int], named: dict[str, int]) -> int:
        """An instance of one of the source's classes is made."""
        body = self._classes[name].body
        maker = next((part for part in body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        if maker is not None and id(maker) in self._known:
            self._called(self._known[id(maker)], args, named, bound=True)
        elif maker is None and (args or named):  # a dataclass: any field may hold any of it
            fields = [
                part.target.id for part in body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
            self._lower_all(self._attributes, dict.fromkeys(fields, min([*args, *named.values()])))
        return INSTANCE

    def _call_on(self, node: ast.Call, func: ast.Attribute, args: list[int], named: dict[str, int], env: Env) -> int:
        holder = self._value(func.value, env)
        name = func.attr
        least = min([*args, *named.values()], default=OWN)
        if holder in {RECEIVER, OBJECT}:
            if holder == RECEIVER:
                self._spoken(node, name)
            return ANSWER
        if holder in {INSTANCE, OWN} and name in self._methods:
            known = self._known.get(id(self._methods[name]))
            return OWN if known is None else self._called(known, args, named, bound=True)
        if isinstance(func.value, ast.Name) and func.value.id not in env:  # a module
            return self._call_in_module(func.value.id, name, args)
        if name in IN_PLACE and holder == HOST and name not in self._sent_to_others:
            self._say(
                "lost-write",
                node,
                f"`{name}` changes a copy and reaches nobody: build the new value and `self.set(name, value)` it",
            )
        elif name in IN_PLACE and args:
            taken = name in {"extend", "update", "extendleft"}
            kept = min(args[1:], default=OWN) if name in {"setdefault", "insert"} else least  # a key is no container
            self._put(func.value, inner(kept) if taken else kept, env)
        return answer_of_container(name, holder)

    def _call_in_module(self, module: str, name: str, args: list[int]) -> int:
        least = min(args, default=OWN)
        if (module, name) == ("copy", "deepcopy"):
            return OWN
        if name in _TAKING:
            return inner(least)
        if module in _SHALLOW_MODULES or name == "copy":
            return shallow(least)
        return OWN

    def _spoken(self, node: ast.Call, name: str) -> None:
        told = _text(node.args[0]) if node.args else None
        if name == "set":
            if told is not None and told not in self._rights.sets:
                self._undeclared(node, "sets", told)
        elif name == "send":
            if told is not None and told not in self._rights.sends:
                self._undeclared(node, "sends", told)
        elif name not in self._rights.sends and not name.startswith("_"):
            self._undeclared(node, "sends", name)


def _parameters(node: Function) -> list[str]:
    arguments = node.args
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in [*found, *filter(None, [arguments.vararg, arguments.kwarg])]]


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
