"""What stands in things, and what a call of a function of the source does: its parameters grow, its result is known."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from batos.uvm.guardians.lost_writes.ledger import Ledger
from batos.uvm.guardians.lost_writes.names import GIVEN, PENDING, STALE, Env
from batos.uvm.guardians.lost_writes.things import (
    DEEP,
    HOST,
    NOTHING,
    RECEIVER,
    Bound,
    Class,
    Copied,
    Function,
    Instance,
    Library,
    Made,
    Part,
    Pending,
    Thing,
    Value,
    in_order,
    is_copy,
    is_deep,
)


@dataclass(frozen=True)
class Args:
    """The arguments of a call.

    Attributes:
        placed: by their place.
        named: by their name.
        starred: what `*` spreads: it may come to any place.
        spread: what `**` spreads: it may come to any name.
    """

    placed: Sequence[Value] = ()
    named: dict[str, Value] = field(default_factory=dict)
    starred: Value = NOTHING
    spread: Value = NOTHING

    @property
    def all(self) -> list[Value]:
        """Every argument."""
        return [*self.placed, *self.named.values(), self.starred, self.spread]

    def after(self, *first: Value) -> Args:
        """The same with more before them."""
        return replace(self, placed=[*first, *self.placed])


class Heap(Ledger, ABC):
    """What things hold, and calls of what the source defines."""

    # Contents

    def inner(self, value: Value) -> Value:
        """What stands in a container."""
        return self.all_of(self._inner_of(thing) for thing in value)

    def _inner_of(self, thing: Thing) -> Value:
        self.step()
        if thing is HOST or thing is RECEIVER:
            return frozenset({HOST})
        holder = _holder(thing)
        if holder is not None:
            return holder.within | _found_in(thing)
        items = self.from_special(thing, "__iter__")
        own = frozenset(one for one in items if not isinstance(one, Instance))  # an iterator: often it is itself
        return self.from_special(thing, "__getitem__") | self.inner(own)

    def from_special(self, thing: Thing, name: str) -> Value:
        """What a special method of an instance answers."""
        if not isinstance(thing, Instance):
            return NOTHING
        return self.all_of(one.result for one in self._functions_of(thing.of, name))

    def reachable(self, value: Value, *, in_instances: bool = True) -> Value:
        """All that can be come to from a value, itself among it."""
        found, left = set(value), list(value)
        while left:
            thing = left.pop()
            more = [self._inner_of(thing)]
            if isinstance(thing, Instance) and in_instances:
                more += [*thing.of.attributes.values(), *thing.of.names.values()]
            elif isinstance(thing, Bound) and in_instances:
                more.append(frozenset({thing.receiver}))
            for one in more:
                self.step(1 + len(one))
                left += one - found
                found |= one
        return frozenset(found)

    def items(self, value: Value) -> Value:
        """What one comes to going over a container: nothing that was put under a text, for over a dict it is keys."""
        return self.all_of(self._at(thing, "") for thing in value)

    def at(self, value: Value, key: str | None) -> Value:
        """What stands under a key; None where only the call will tell which."""
        return self.all_of(self._at(thing, key) for thing in value)

    def _at(self, thing: Thing, key: str | None) -> Value:
        holder = _holder(thing)
        if key is None or holder is None:
            return self._inner_of(thing)
        return self.joined(holder.loose, holder.keyed.get(key, NOTHING)) | _found_in(thing)

    def put(self, holder: Value, content: Value, key: str | None = None) -> None:
        """Something is put into a container: under a key, where it is known."""
        for thing in holder:
            into = _holder(thing)
            if into is None:
                continue
            new = content - {into} if is_deep(into) else content
            into.within = self.held(into.within, new)
            if key is None:
                into.loose = self.learned(into.loose, new)
            else:
                self.grow(into.keyed, key, new)

    def attribute_of(self, thing: Thing, name: str) -> Value:
        """What an attribute of something that is not the receiver stands for."""
        self.step()
        if is_copy(thing):
            return frozenset({HOST})
        if isinstance(thing, Made):
            more = {HOST} if thing.kind == "answer" else {thing} if thing.kind in DEEP else set()
            return thing.within | more
        if isinstance(thing, Library):
            return self.library(f"{thing.name}.{name}")
        if isinstance(thing, Class):
            return thing.names.get(name, NOTHING)
        if isinstance(thing, Instance):
            stands = thing.of.names.get(name, NOTHING)
            bound = [self._bound(one, thing) if isinstance(one, Function) else one for one in in_order(stands)]
            return frozenset(bound) | thing.of.attributes.get(name, NOTHING)
        return NOTHING

    @staticmethod
    def _bound(function: Function, receiver: Thing) -> Bound:
        return function.bound.setdefault(receiver, Bound(function, receiver))

    @staticmethod
    def _functions_of(owner: Class, name: str) -> list[Function]:
        return [one for one in in_order(owner.names.get(name, NOTHING)) if isinstance(one, Function)]

    # Calls

    def enter(self, function: Function, args: Args, env: Env) -> Value:
        """A function of the source is called."""
        node = function.node.args
        self._fill(
            function, [one.arg for one in [*node.posonlyargs, *node.args]], [one.arg for one in node.kwonlyargs], args
        )
        function.given = self.learned(function.given, env.get(GIVEN) or NOTHING)
        if function.gave:
            self.bind(GIVEN, self.joined(env.get(GIVEN) or NOTHING, function.gave), env)
            self.gave(function.gave)
        if function.speaks:
            self.sent(env)
        if function.live and not self.repeated:
            self.repeated = self.changed = True
        return function.result

    def special(self, thing: Thing, name: str, env: Env) -> Value:
        """The interpreter calls a special method of an instance: what it answers."""
        if not isinstance(thing, Instance):
            return NOTHING
        this = Args([frozenset({thing})])
        return self.all_of(self.enter(one, this, env) for one in self._functions_of(thing.of, name))

    def looked_at(self, env: Env, slot: str | None) -> None:
        """Somebody looks at a slot, or may: changes of its copies that are still to be set would be missed.

        Args:
            env: where.
            slot: which; None where it may be any.
        """
        for pending in in_order(env.get(PENDING) or NOTHING):
            if isinstance(pending, Pending) and (slot is None or pending.copy.slot in {slot, None}):
                self.say("lost-write", pending.node, pending.detail)

    def sent(self, env: Env) -> None:
        """A message is sent, or may be: it may look at any slot, and change it."""
        self.speaks()
        self.looked_at(env, None)
        self.outdated(self.copies, env)

    def outdated(self, copies: Value, env: Env) -> None:
        """Copies may be older than what stands in the image from here on."""
        if copies:
            self.bind(STALE, self.joined(env.get(STALE) or NOTHING, copies), env)

    def gave(self, things: Value) -> None:
        """The function that is looked at set these to slots."""
        if self.current:
            function = self.current[-1]
            function.gave = self.learned(function.gave, things)

    def _fill(self, function: Function, places: list[str], names: list[str], args: Args) -> None:
        node, params = function.node.args, function.params
        anywhere = self.joined(args.starred, args.spread)
        for name, value in zip(places, args.placed, strict=False):
            self.grow(params, name, value)
        for name, value in args.named.items():
            if name in places or name in names:
                self.grow(params, name, value)
        if anywhere:
            for name in [*places[len(args.placed) :], *names]:
                self.grow(params, name, anywhere)
        if node.vararg is not None:
            rest = self.all_of([*args.placed[len(places) :], args.starred])
            self.grow(params, node.vararg.arg, frozenset({self.container(node.vararg, "tuple", rest)}))
        if node.kwarg is not None:
            rest = self.all_of([args.spread, *(v for k, v in args.named.items() if k not in places)])
            self.grow(params, node.kwarg.arg, frozenset({self.container(node.kwarg, "dict", rest)}))

    def made_of(self, owner: Class, args: Args, env: Env) -> Value:
        """A class of the source is called."""
        this: Value = frozenset({owner.instance})
        makers = self._functions_of(owner, "__init__")
        for maker in makers:
            self.enter(maker, args.after(this), env)
        if not makers:
            given = [*zip(owner.fields, args.placed, strict=False), *args.named.items()]
            for name, value in given:
                self.keep(owner.attributes, name, value)
            for name in owner.fields if args.starred or args.spread else ():
                self.keep(owner.attributes, name, self.joined(args.starred, args.spread))
        return this

    def called(self, callee: Value, args: Args, node: ast.AST, env: Env) -> Value:
        """Whatever a value stands for is called."""
        answers = [self._called_one(thing, args, node, env) for thing in in_order(callee)]
        return self.all_of(answers) if answers else self.unknown(node, args, env)

    def _called_one(self, thing: Thing, args: Args, node: ast.AST, env: Env) -> Value:
        self.step()
        if isinstance(thing, Function):
            return self.enter(thing, args, env)
        if isinstance(thing, Bound):
            return self.enter(thing.function, args.after(frozenset({thing.receiver})), env)
        if isinstance(thing, Class):
            return self.made_of(thing, args, env)
        if isinstance(thing, Library):
            return self.of_library(thing.name, args, node, env)
        if isinstance(thing, Instance):
            this: Value = frozenset({thing})
            calls = self._functions_of(thing.of, "__call__")
            return self.all_of(self.enter(one, args.after(this), env) for one in calls)
        return self.unknown(node, args.after(frozenset({thing})), env)

    @abstractmethod
    def of_library(self, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        """What something that the sandbox brings along answers."""

    def unknown(self, node: ast.AST, args: Args, env: Env) -> Value:
        """A call of which nothing is known may answer, hold, and call with each other, all that it was given."""
        given = self.all_of(args.all)
        everything = self.reachable(given)
        held = Args(starred=self.reachable(given, in_instances=False))
        answers = self.passed_on(held, everything, env)
        everything = self.joined(everything, answers)
        return everything | {self.container(node, "unknown", everything)}

    def passed_on(self, args: Args, items: Value, env: Env) -> Value:
        """Functions among the arguments are called with what else is there: what they answer."""
        given = Args(starred=items)
        passed = self.all_of(args.all)
        within = self.all_of(one.within for one in passed if isinstance(one, Made) and one.kind in {"sum", "unknown"})
        called = [one for one in in_order(passed | within) if isinstance(one, Function | Bound | Class | Instance)]
        return self.all_of([self._called_one(one, given, self.tree, env) for one in called])


def _holder(thing: Thing) -> Made | Copied | None:
    """What takes in whatever is put into it."""
    if isinstance(thing, Part):
        return thing.whole
    return thing if isinstance(thing, Made | Copied) else None


def _found_in(thing: Thing) -> Value:
    """What stands in it without having been put there."""
    if isinstance(thing, Copied):
        return frozenset({thing.part})
    return frozenset({thing}) if is_deep(thing) else NOTHING
