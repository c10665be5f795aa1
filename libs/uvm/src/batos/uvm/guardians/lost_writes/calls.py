"""Methods called on something: messages, changes in place, and what containers answer of what stands in them."""

from __future__ import annotations

import ast

from batos.uvm.guardians.lost_writes.containers import (
    BUILT_IN,
    CUTTING,
    GIVING,
    IN_PLACE,
    PAIRS,
    TAKING,
    TAKING_ALL,
    TEXTS,
    VIEWS,
)
from batos.uvm.guardians.lost_writes.heap import Args
from batos.uvm.guardians.lost_writes.library import Answers
from batos.uvm.guardians.lost_writes.names import PENDING, Env
from batos.uvm.guardians.lost_writes.things import (
    NOTHING,
    RECEIVER,
    Class,
    Instance,
    Library,
    Made,
    Thing,
    Value,
    in_order,
    is_copy,
)
from batos.uvm.guardians.lost_writes.writes import text_of


class Calls(Answers):
    """Methods called on something."""

    def called_on(self, holder: Value, name: str, args: Args, node: ast.AST, env: Env) -> Value:
        """What comes of a method called on whatever a value stands for."""
        self.step()
        if not holder:
            if name in TEXTS:
                return NOTHING
            return self.unknown(node, args, env)
        pending = env.get(PENDING)
        answers = [self._on(thing, holder, name, args, node, env) for thing in in_order(holder)]
        if pending is not None and len(holder) > 1:  # a slot of one of several is set: perhaps not of the receiver
            self.bind(PENDING, self.joined(pending, env.get(PENDING) or NOTHING), env)
        return self.all_of(answers)

    def _on(self, thing: Thing, among: Value, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: PLR0911 - one a kind of thing
        if thing is RECEIVER and isinstance(node, ast.Call):
            return self.spoken(node, name, args, env)
        if isinstance(thing, Library):
            return self.called(self.library(f"{thing.name}.{name}"), args, node, env)
        if isinstance(thing, Instance | Class):
            return self.called(self.attribute_of(thing, name), args, node, env)
        if not is_copy(thing) and not isinstance(thing, Made):
            return self.unknown(node, args, env)
        object_too = is_copy(thing) or (isinstance(thing, Made) and thing.kind == "answer")
        if object_too and name == "set":
            self.hand_over(self.reachable(self.all_of(args.all)), env)
            return NOTHING
        if object_too and (name in self.sent_to_others or name not in BUILT_IN):
            return self.answer(node, env)
        return self._on_container(thing, among, name, args, node, env)

    def _on_container(self, thing: Thing, among: Value, name: str, args: Args, node: ast.AST, env: Env) -> Value:  # noqa: PLR0911 - one a kind of method
        this: Value = frozenset({thing})
        inside = self.inner(this)
        key = text_of(node.args[0]) if isinstance(node, ast.Call) and node.args else None
        if name in IN_PLACE:
            self.write(this, node, env, among)
            self.put(this, self._taken(name, args), key if name == "setdefault" else None)
            self.passed_on(args, inside, env)
        if name == "popitem":
            return frozenset({self.container(node, "tuple", inside, role="popped")})
        if name in GIVING:
            return self.all_of(
                [self.at(this, key), *args.placed[1:], *args.named.values(), args.starred]
            )  # the first is a key
        if name in TEXTS or name in IN_PLACE:
            return NOTHING
        if name in CUTTING:
            return self.made(node, "list", NOTHING, env, role=name)
        if name in VIEWS:
            return self.made(node, "unknown", self.joined(inside, self.inside(args)), env, role=name)
        if name in PAIRS:
            pair = self.container(node, "tuple", inside, role=f"one of {name}")
            return self.made(node, "list", frozenset({pair}), env, role=name)
        if isinstance(thing, Made) and thing.kind == "fresh":
            self.passed_on(args, NOTHING, env)
            return this
        return self.unknown(node, args.after(this), env)

    def _taken(self, name: str, args: Args) -> Value:
        """What a container takes in by a method."""
        if name in TAKING:
            return self.all_of([*args.placed[name in {"insert", "setdefault"} :], *args.named.values(), args.starred])
        if name in TAKING_ALL:
            inside = self.items_of(self.inner(self.joined(self.all_of(args.placed), args.starred)))
            return self.all_of([inside, *args.named.values(), args.spread])
        return NOTHING
