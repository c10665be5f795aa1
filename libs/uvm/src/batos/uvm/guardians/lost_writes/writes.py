"""The rules: which changes reach the image, and which are lost."""

from __future__ import annotations

import ast

from batos.uvm.capabilities import SPOKEN
from batos.uvm.guardians.lost_writes.heap import Args, Heap
from batos.uvm.guardians.lost_writes.names import GIVEN, PENDING, STALE, Env
from batos.uvm.guardians.lost_writes.things import (
    HOST,
    NOTHING,
    RECEIVER,
    Class,
    Copied,
    Instance,
    Made,
    Part,
    Pending,
    Thing,
    Value,
    in_order,
    is_copy,
    is_deep,
)

OWN_COPY = (
    "change one of your own, made by `list(...)`, `dict(...)` or, where it is nested, `copy.deepcopy(...)`, and "
    "`self.set(name, it)` or return it"
)
SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Mult: "*", ast.BitOr: "|", ast.BitAnd: "&", ast.Sub: "-", ast.BitXor: "^",
}  # fmt: skip
"""Operators that change a container in place, where they stand before `=`."""


class Writes(Heap):
    """What a source reads from slots, changes, and sets."""

    def read_slot(self, node: ast.AST, name: str, env: Env) -> Value:
        """A slot of the receiver is read."""
        if name in SPOKEN:
            return NOTHING
        if name not in self.rights.reads and not name.startswith("_"):
            self._undeclared(node, "reads", name)
        return self.read_copy(node, name, env)

    def read_copy(self, node: ast.AST, slot: str | None, env: Env) -> Value:
        """A slot is read; None where only the call will tell its name."""
        self.speaks()
        self.looked_at(env, slot)
        once = self.in_the_method() and self.loops == 0 and not self.repeated
        copied = self.copied(node, slot, once=once)
        if copied in (env.get(STALE) or NOTHING):
            self.bind(STALE, (env.get(STALE) or NOTHING) - {copied}, env)
        return frozenset({copied})

    def spoken(self, node: ast.Call, name: str, args: Args, env: Env) -> Value:
        """A message is sent to the receiver: what it answers."""
        told = text_of(node.args[0]) if node.args else None
        self.speaks()
        if name == "set":
            if told is not None and told not in self.rights.sets:
                self._undeclared(node, "sets", told)
            given = self.all_of([*args.placed[1:], *args.named.values(), args.starred, args.spread])
            self.set_slot(told, given, node, env)
            return NOTHING
        if name == "send":
            if told is not None and told not in self.rights.sends:
                self._undeclared(node, "sends", told)
        elif name not in self.rights.sends and not name.startswith("_"):
            self._undeclared(node, "sends", name)
        return self.answer(node, env)

    def answer(self, node: ast.AST, env: Env) -> Value:
        """What a message brings: a copy that belongs to the source, or an object."""
        self.sent(env)
        return self.made(node, "answer", NOTHING, env)

    def set_slot(self, slot: str | None, value: Value, node: ast.AST, env: Env) -> None:
        """A slot is set: what was changed in a copy of it is in the image now, where the copy is no older one.

        In Python several reads of a slot are one object; here the copies that were not set are out of date from now on.
        """
        stands = self.reachable(value)
        self._up_to_date(slot, stands, node, env)
        wholes = {whole for whole in map(_whole, stands) if whole is not None}
        of_slot = {whole for whole in wholes if whole.slot is None or whole.slot == slot}
        pending = env.get(PENDING) or NOTHING
        left = {
            one
            for one in pending
            if not isinstance(one, Pending) or one.copy.slot != slot or slot is None or of_slot - {one.copy}
        }
        if len(left) != len(pending):
            self.bind(PENDING, frozenset(left), env)
        if of_slot or slot is None or len(left) != len(pending):
            self.outdated(frozenset(one for one in self.copies - wholes if _may_be_of(one, slot)), env)
        self.hand_over(stands, env, slot)

    def _up_to_date(self, slot: str | None, stands: Value, node: ast.AST, env: Env) -> None:
        stale = env.get(STALE) or NOTHING
        whole = stands & stale
        copied = self.all_of(one.older for one in stands if isinstance(one, Made))
        if any(_may_be_of(one, slot) for one in whole | copied):
            told = "what is set comes of a copy of the slot that is older than the last message or change of it"
            self.say("lost-write", node, f"{told}: read the slot again before")

    def older(self, items: Value, env: Env) -> Value:
        """Copies that are out of date among those in which these items stand."""
        stale = env.get(STALE) or NOTHING
        return frozenset(one.whole for one in items if isinstance(one, Part) and one.whole in stale)

    def hand_over(self, stands: Value, env: Env, slot: str | None = None) -> None:
        """What was set to a slot is no longer the source's own: later changes of it stay here.

        Args:
            stands: all of it.
            env: the names there.
            slot: the slot of the receiver; None for another's. A copy of that very slot may be changed and set again.
        """
        made = frozenset(thing for thing in stands if isinstance(thing, Made) or _is_of_another(thing, slot))
        given = env.get(GIVEN) or NOTHING
        self.bind(GIVEN, self.joined(given, made), env)
        self.gave(made)

    def made(
        self, node: ast.AST, kind: str, within: Value, env: Env, *, role: str = "", older: Value | None = None
    ) -> Value:
        """A place makes a new container. Names that hold an older one of that place, and given away, keep a copy.

        Args:
            node: the place.
            kind: its type's name.
            within: what it is made with.
            env: the names there.
            role: which one, where a place makes several.
            older: copies out of date that it is made of; None where what it is made with says so.
        """
        thing = self.container(node, kind, within, role=role)
        thing.older = self.learned(thing.older, self.older(within, env) if older is None else older)
        given = env.get(GIVEN)
        if given is not None and thing in given and not thing.held:
            for layer in env.layers():
                for name, value in layer.names.items():
                    self.step()
                    if thing in value and name != GIVEN:
                        layer.names[name] = value - {thing} | {HOST}
            self.bind(GIVEN, given - {thing}, env)
        return frozenset({thing})

    def write(self, holder: Value, node: ast.AST, env: Env, among: Value = NOTHING) -> None:
        """Something is changed in place.

        Args:
            holder: what is changed.
            node: where: a call, the target of an assignment, or one with an operator.
            env: the names there.
            among: all that it may be that is changed, where `holder` is not.
        """
        given = env.get(GIVEN) or NOTHING
        stale = env.get(STALE) or NOTHING
        for thing in in_order(holder):
            self.step()
            whole = _whole(thing)
            if thing in given:
                self.say(
                    "lost-write", node, f"{self._told(node)} changes what was set, and reaches nobody: set it last"
                )
            elif whole is not None and whole in stale:
                told = (
                    f"{self._told(node)} changes a copy of {whole.slot!r} that is older than the last message or `set`"
                )
                self.say("lost-write", node, f"{told}: read the slot again, or {OWN_COPY}")
            elif whole is not None and whole.once and self.in_the_method():
                waits = env.get(PENDING) or NOTHING
                self.bind(PENDING, waits | {self._pending(node, whole)}, env)
            elif thing is HOST and any(is_deep(one) for one in holder | among):
                told = f"{self._told(node)} changes what may have been put there as it came, and reaches nobody"
                self.say("lost-write", node, f"{told}: put in `copy.deepcopy(it)`, or `str(it)` or `int(it)`")
            elif is_copy(thing) or thing is RECEIVER:
                self.say("lost-write", node, f"{self._told(node)} changes a copy and reaches nobody: {OWN_COPY}")

    def _pending(self, node: ast.AST, copy: Copied) -> Pending:
        found = self.pending.get((node, copy))
        if found is None:
            detail = f"{self._told(node)} changes a copy of {copy.slot!r}, and not every way from here sets that slot "
            detail += f"before anybody looks at it again: `self.set({copy.slot!r}, ...)`, or {OWN_COPY}"
            found = self.pending[node, copy] = Pending(copy, node, detail)
        return found

    def write_attribute(self, target: ast.Attribute, holder: Value, value: Value) -> None:
        """An attribute is assigned: a name of an instance or a class of the source, or else it is lost."""
        known = [thing for thing in holder if isinstance(thing, Instance | Class)]
        for thing in known:
            names = thing.of.attributes if isinstance(thing, Instance) else thing.names
            self.keep(names, target.attr, value)
        if not known or len(known) < len(holder):
            self.say(
                "lost-write",
                target,
                f"assigning {self.text(target)} reaches nobody: write `.set({target.attr!r}, value)`",
            )

    def _told(self, node: ast.AST) -> str:
        """What a change is called."""
        if isinstance(node, ast.Call):
            return f"`{node.func.attr if isinstance(node.func, ast.Attribute) else self.text(node.func)}`"
        if isinstance(node, ast.AugAssign):
            name = self.text(node.target)
            sign = SIGNS[type(node.op)]
            return f"`{name} {sign}= ...` (where it is to be new, write `{name} = {name} {sign} ...`)"
        return f"`{self.text(node)} = ...`"

    def leaves(self, env: Env) -> None:
        """The live method ends: what is pending is lost."""
        if self.in_the_method():
            self.looked_at(env, None)

    def _undeclared(self, node: ast.AST, kind: str, name: str) -> None:
        self.say("undeclared", node, f"{name!r} is not among the {kind} of `self` in CAPABILITIES: declare it")


def _is_of_another(thing: Thing, slot: str | None) -> bool:
    whole = _whole(thing)
    return whole is not None and (slot is None or whole.slot != slot)


def _may_be_of(copy: Thing, slot: str | None) -> bool:
    """Whether a copy may be one of that slot; None is any."""
    return isinstance(copy, Copied) and (slot is None or copy.slot in {slot, None})


def _whole(thing: Thing) -> Copied | None:
    if isinstance(thing, Part):
        return thing.whole
    return thing if isinstance(thing, Copied) else None


def text_of(node: ast.AST) -> str | None:
    """A text that stands in the source; None for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
