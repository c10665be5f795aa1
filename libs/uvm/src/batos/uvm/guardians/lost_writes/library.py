"""What the sandbox's own functions answer, as far as it is known how deep in it their arguments stand.

What stands in none of these tables may answer and hold all that it was given.
"""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from batos.uvm.guardians.lost_writes.containers import BUILT_IN, GIVING, IN_PLACE, PAIRS, VIEWS
from batos.uvm.guardians.lost_writes.heap import Args
from batos.uvm.guardians.lost_writes.names import Env
from batos.uvm.guardians.lost_writes.things import HOST, NOTHING, RECEIVER, Instance, Made, Value, in_order, is_copy
from batos.uvm.guardians.lost_writes.writes import Writes

_PLAIN = frozenset({
    "abs", "all", "any", "bin", "bool", "bytes", "chr", "complex", "divmod", "float", "format", "hasattr", "hash",
    "hex", "id", "int", "isinstance", "len", "oct", "ord", "pow", "print", "range", "repr", "round", "slice", "str",
})  # fmt: skip
_PLAIN_MODULES = frozenset({"base64", "binascii", "datetime", "decimal", "hashlib", "math", "unicodedata"})
"""What these answer are numbers, texts and other values that nobody writes into."""
_FRESH_MODULES = frozenset({"csv", "json", "re", "tomllib"})
"""What these answer is new, however deep."""
_COPIES = frozenset({
    "list", "tuple", "set", "frozenset", "sorted", "reversed", "iter", "filter", "collections.deque",
    "collections.Counter", "itertools.chain", "itertools.islice", "itertools.cycle", "itertools.compress",
    "itertools.takewhile", "itertools.dropwhile", "itertools.filterfalse",
})  # fmt: skip
"""New containers of what stands in the arguments."""
_TUPLES = frozenset({
    "enumerate", "zip", "itertools.product", "itertools.combinations", "itertools.permutations", "itertools.pairwise",
    "itertools.combinations_with_replacement", "itertools.zip_longest",
})  # fmt: skip

_KINDS = {"tuple": "tuple", "set": "set", "frozenset": "set", "collections.Counter": "dict"}
"""What they make, where it is no list."""


class Answers(Writes):
    """Calls of what the sandbox brings along."""

    def of_library(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        """What something that the sandbox brings along answers."""
        answer = self._answers.get(name)
        module = name.partition(".")[0] if "." in name else ""
        if answer is not None:
            return answer(self, name, args, node, env)
        if module in _FRESH_MODULES:
            self.passed_on(args, NOTHING, env)
            return self.made(node, "fresh", NOTHING, env, role=name)
        if name in _PLAIN or module in _PLAIN_MODULES:
            return NOTHING
        return self.unknown(node, args, env)

    @abstractmethod
    def operated(self, node: ast.AST, left: Value, op: ast.operator, right: Value, env: Env) -> Value:
        """What an operator makes of two values."""

    def inside(self, args: Args) -> Value:
        """What stands in any of the arguments."""
        return self.inner(self.all_of(args.all))

    def first(self, args: Args) -> Value:
        """The first argument."""
        return args.placed[0] if args.placed else args.starred

    def _copy(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        inside = self.inside(args) if name == "collections.Counter" else self.items(self.all_of(args.all))
        answers = self.passed_on(args, inside, env)
        items = self.joined(inside, answers) if name == "iter" else inside  # `iter(function, end)`
        return self.made(node, _KINDS.get(name, "list"), items, env, role=name)

    def _dict(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        named = self.all_of([*args.named.values(), args.spread])
        items = self.items_of(self.inner(self.joined(self.all_of(args.placed), args.starred)))
        return self.made(node, "dict", self.joined(items, named), env, role=name)

    def items_of(self, inside: Value) -> Value:
        """What stands in a dict that takes these: where they are pairs, what is in them."""
        kinds = {"tuple", "list", "sum", "unknown"}
        pairs = frozenset(thing for thing in inside if isinstance(thing, Made) and thing.kind in kinds)
        return self.joined(inside, self.inner(pairs))

    def _tuples(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        items = self.joined(
            self.items(self.all_of(args.all)), self.all_of(args.named.values())
        )  # `fillvalue` is one itself
        pair = self.container(node, "tuple", items, role=f"one of {name}")
        return self.made(node, "list", frozenset({pair}), env, role=name)

    def _groups(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        inside = self.inside(args)
        keys = self.passed_on(args, inside, env)
        group = self.container(node, "list", inside, role=f"group of {name}")
        pair = self.container(node, "tuple", keys | inside | {group}, role=f"one of {name}")
        return self.made(node, "list", frozenset({pair, group}), env, role=name)

    def _one(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: ARG002 - as the others
        inside = self.inner(self.first(args))
        self.passed_on(args, self.inside(args), env)
        return self.all_of([inside, *args.placed[1:], args.named.get("default", NOTHING)])

    def _most(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        if len(args.placed) == 1 and not args.starred:
            return self._one(name, args, node, env)
        self.passed_on(args, self.all_of([*args.placed, args.starred]), env)
        return self.all_of([*args.placed, args.starred, self.inner(args.starred)])

    def _sum(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        start = self.all_of([*args.placed[1:], args.named.get("start", NOTHING)])
        if not start:
            return NOTHING
        items = self.inner(self.first(args))
        added = self.operated(node, start, ast.Add(), items, env)
        made = self.made(node, "list", self.inner(items | start), env, role=name)
        return self.all_of([made, added, frozenset(one for one in start if isinstance(one, Instance))])

    def _insort(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: ARG002 - as the others
        self.write(self.first(args), node, env)
        self.put(self.first(args), self.all_of(args.placed[1:]))
        return NOTHING

    def _map(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        items = Args([self.inner(one) for one in args.placed[1:]], starred=self.inner(args.starred))
        answers = self.called(self.first(args), items, node, env)
        return self.made(node, "list", answers, env, role=name)

    def _reduce(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: ARG002 - as the others
        function = self.first(args)
        answers = self.joined(self.inside(args), self.all_of(args.placed[2:]))
        for _ in range(2):  # what it answers is what it is given next
            answers = self.joined(answers, self.called(function, Args([answers, answers]), node, env))
        return answers

    def _deepcopy(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        made = self.made(node, "fresh", NOTHING, env, role=name, older=self.older(self.inside(args), env))
        return self._instances(args) or made

    def _shallow(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        return self._instances(args) | self.made(node, "unknown", self.inside(args), env, role=name)

    def _instances(self, args: Args) -> Value:
        return frozenset(thing for thing in self.all_of(args.all) if isinstance(thing, Instance))

    def _defaultdict(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        missing = self.called(args.placed[0], Args(), node, env) if args.placed else NOTHING
        made = self._dict(name, Args(args.placed[1:], args.named, args.starred, args.spread), node, env)
        self.put(made, missing)
        return made

    def _type(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: ARG002 - as the others
        return frozenset(thing.of for thing in self._instances(args) if isinstance(thing, Instance))

    def _field(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: ARG002 - as the others
        maker = args.named.get("default_factory", NOTHING)
        made = self.called(maker, Args(), node, env) if maker else NOTHING
        return self.joined(made, args.named.get("default", NOTHING))

    def _setattr(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: ARG002 - as the others
        self.say("lost-write", node, f"{name} reaches nobody: write `.set(name, value)`")
        return NOTHING

    def _getattr(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        told = node.args[1] if isinstance(node, ast.Call) and len(node.args) > 1 else None
        text = told.value if isinstance(told, ast.Constant) and isinstance(told.value, str) else None
        found = self.read(self.first(args), text, node, env)
        return self.all_of([found, *args.placed[2:]]) if name == "getattr" else NOTHING

    def read(self, holder: Value, name: str | None, node: ast.AST, env: Env) -> Value:
        """What an attribute stands for.

        Args:
            holder: of what.
            name: which; None where only the call will tell.
            node: where.
            env: the names there.
        """
        if any(is_copy(thing) for thing in holder):  # perhaps an object, perhaps the receiver: a slot is read
            self.speaks()
            self.looked_at(env, name)
        if name in BUILT_IN and name not in self.names_told and self._holds_methods(holder, name):
            self.say("unsupported", node, f"`.{name}` is called at once or not at all in the sandbox: write a lambda")
        found = []
        for thing in in_order(holder):
            if thing is RECEIVER:
                found.append(self.read_slot(node, name, env) if name is not None else self.read_copy(node, None, env))
            elif name is not None:
                found.append(self.attribute_of(thing, name))
            else:
                found.append(self.reachable(frozenset({thing})) - holder | {HOST})
        return self.all_of(found)

    @staticmethod
    def _holds_methods(holder: Value, name: str) -> bool:
        """Whether it is a container of whose methods this may be one, and nothing else."""
        return bool(holder) and all(
            (is_copy(thing) and name in IN_PLACE | GIVING | VIEWS | PAIRS)
            or (isinstance(thing, Made) and thing.kind in {"list", "dict", "set", "tuple"})
            for thing in holder
        )

    _answers: ClassVar[dict[str, Callable[..., Value]]] = {
        **dict.fromkeys(_COPIES, _copy),
        **dict.fromkeys(_TUPLES, _tuples),
        **dict.fromkeys(("itertools.groupby", "itertools.tee", "itertools.batched"), _groups),
        **dict.fromkeys(("max", "min"), _most),
        **dict.fromkeys(("bisect.insort", "bisect.insort_left", "bisect.insort_right"), _insort),
        **dict.fromkeys(("setattr", "delattr"), _setattr),
        **dict.fromkeys(("getattr", "hasattr"), _getattr),
        "dict": _dict,
        "next": _one,
        "sum": _sum,
        "map": _map,
        "type": _type,
        "functools.reduce": _reduce,
        "copy.deepcopy": _deepcopy,
        "copy.copy": _shallow,
        "collections.defaultdict": _defaultdict,
        "dataclasses.field": _field,
    }
