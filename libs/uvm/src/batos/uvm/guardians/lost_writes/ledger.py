"""What an analysis keeps from one round to the next: things, faults, and how much it may still do."""

from __future__ import annotations

import ast
from collections.abc import Iterable, MutableMapping

from batos.uvm.capabilities import SELF, Capabilities, Rights
from batos.uvm.guardians.lost_writes.names import Env, Scope, scopes_of
from batos.uvm.guardians.lost_writes.things import NOTHING, Class, Copied, Function, Library, Made, Pending, Value

MAX_STEPS = 400_000
"""How much an analysis does before it gives up: it runs in this process, for anybody who writes a method."""

MAX_TOLD = 80
"""How many characters of an expression a fault shows."""

Found = tuple[str, ast.AST, str]


class TooFar(Exception):  # noqa: N818 - it is no error: the source is refused
    """The analysis has done all that it may."""


class Ledger:
    """The state of one analysis. What it knows of things only ever grows: so it comes to an end.

    Attributes:
        steps: how much was done.
        changed: whether this round learned something.
        found: the faults of this round.
    """

    def __init__(self, name: str, tree: ast.Module, capabilities: Capabilities) -> None:
        self.name = name
        self.tree = tree
        self.capabilities = capabilities
        self.rights = capabilities.get(SELF, Rights())
        self.sent_to_others = frozenset[str]().union(
            *(rights.sends for whom, rights in capabilities.items() if whom != SELF)
        )
        self.names_told = frozenset[str]().union(*(one.reads | one.sends for one in capabilities.values()))
        self.scopes = scopes_of(tree)
        self.steps = 0
        self.changed = False
        self.found: dict[tuple[str, ast.AST], Found] = {}
        self.functions: dict[ast.AST, Function] = {}
        self.current: list[Function] = []
        self.repeated = False  # whether the source calls the live method itself
        self.loops = 0  # how many loops are around what is looked at
        self.weak = 0  # more than 0: what is bound here may as well not be
        self.logs: list[dict[str, Value]] = []  # all that was bound, a log for every `try` that is around
        self.left: dict[ast.AST, dict[str, Value]] = {}  # what loops leave behind, for their next time round
        self._made: dict[tuple[ast.AST, str, str], Made] = {}
        self.copies = NOTHING  # all that were read from slots
        self._copied: dict[ast.AST, Copied] = {}
        self.jumps: list[tuple[Env, dict[str, Value]]] = []  # the loops around, and what leaves them half-way
        self.classes: dict[ast.AST, Class] = {}
        self.pending: dict[tuple[ast.AST, Copied], Pending] = {}
        self._libraries: dict[str, Library] = {}
        self._texts: dict[ast.AST, str] = {}
        self.abrupt: dict[ast.AST, bool] = {}

    def step(self, count: int = 1) -> None:
        """Count what is done.

        Raises:
            TooFar: it was too much.
        """
        self.steps += count
        if self.steps > MAX_STEPS:
            raise TooFar

    def say(self, rule: str, node: ast.AST, detail: str) -> None:
        """Keep a fault."""
        self.found[rule, node] = (rule, node, detail)

    def text(self, node: ast.AST) -> str:
        """What stands in the source, cut where it is long; worked out once, not in every round."""
        text = self._texts.get(node)
        if text is None:
            whole = ast.unparse(node)
            text = self._texts[node] = whole if len(whole) <= MAX_TOLD else f"{whole[:MAX_TOLD]}..."
        return text

    # Things

    def joined(self, old: Value, new: Value) -> Value:
        """Both, counted: most of the time one has it all."""
        self.step(1 + (len(new) >> 3))
        return old if new <= old else old | new

    def learned(self, old: Value, new: Value) -> Value:
        """Both, where this is what the next round begins with."""
        value = self.joined(old, new)
        self.changed = self.changed or len(value) != len(old)
        return value

    def grow(self, known: MutableMapping[str, Value], name: str, value: Value) -> None:
        """Add to what a name is known to stand for."""
        old = known.get(name)
        known[name] = self.learned(NOTHING if old is None else old, value)
        self.changed = self.changed or old is None

    def held(self, old: Value, new: Value) -> Value:
        """What something holds after more was put into it."""
        for thing in new - old:
            thing.held = True
        return self.learned(old, new)

    def container(self, node: ast.AST, kind: str, within: Value = NOTHING, *, role: str = "") -> Made:
        """The container that a place in the source makes.

        Args:
            node: the place.
            kind: its type's name.
            within: what it is made with.
            role: which one, where a place makes several.
        """
        made = self._made.get((node, kind, role))
        if made is None:
            made = self._made[node, kind, role] = Made(kind)
        made.within = self.held(made.within, within)
        made.loose = self.learned(made.loose, within)
        return made

    def copied(self, node: ast.AST, slot: str | None, *, once: bool) -> Copied:
        """The copy that a place in the source reads."""
        copied = self._copied.get(node)
        if copied is None:
            copied = self._copied[node] = Copied(slot, once)
            self.copies |= {copied}
        elif copied.once and not once:
            copied.once = False
            self.changed = True
        return copied

    def library(self, name: str) -> Value:
        """What the sandbox brings along under a name."""
        thing = self._libraries.get(name)
        if thing is None:
            thing = self._libraries[name] = Library(name)
        return frozenset({thing})

    # Names

    def bind(self, name: str, value: Value, env: Env) -> None:
        """Let a name stand for a value from here on."""
        self.step(1 + len(self.logs))
        if self.weak:
            value = self.joined(env.get(name) or NOTHING, value)
        for log in self.logs:
            log[name] = self.joined(log.get(name, NOTHING), value)
        if name in env.scope.foreign:
            self._bind_around(name, value, env.scope)
            return
        env.names[name] = value
        if name in env.scope.shared:
            self.keep(env.scope.cells, name, value)

    def keep(self, names: MutableMapping[str, Value], name: str, value: Value) -> None:
        """Add to what a name stands for that others see too: it holds the things."""
        self.held(names.get(name, NOTHING), value)
        self.grow(names, name, value)

    def _bind_around(self, name: str, value: Value, scope: Scope) -> None:
        outer = scope.outer
        while outer is not None and outer.outer is not None and name not in outer.cells:
            outer = outer.outer
        if outer is not None:
            self.keep(outer.cells, name, value)

    def looked_up(self, name: str, env: Env) -> Value | None:
        """What a name stands for; None where the source never binds it."""
        found = env.get(name)
        scope: Scope | None = env.scope
        while scope is not None:
            self.step()
            if name in scope.cells and (found is None or scope is env.scope):
                return self.joined(found or NOTHING, scope.cells[name])
            scope = scope.outer
        return found

    def merge(self, env: Env, ends: Iterable[Env]) -> None:
        """One of these blocks, which lie over `env`, was gone through: a name stands for what any of them leaves."""
        ends = list(ends)
        left: dict[str, Value] = {}
        bound: dict[str, int] = {}
        for end in ends:
            for name, value in end.names.items():
                left[name] = self.joined(left.get(name, NOTHING), value)
                bound[name] = bound.get(name, 0) + 1
        for name, value in left.items():
            before = env.get(name) if bound[name] < len(ends) else None
            env.names[name] = value if before is None else self.joined(before, value)

    def all_of(self, things: Iterable[Value]) -> Value:
        """Everything in several values."""
        value = NOTHING
        for more in things:
            value = self.joined(value, more)
        return value

    def in_the_method(self) -> bool:
        """Whether what is looked at stands in the live method itself, outside of functions within."""
        return bool(self.current) and self.current[-1].live

    def speaks(self) -> None:
        """The function that is looked at reads a slot or sends a message."""
        if self.current and not self.current[-1].speaks:
            self.current[-1].speaks = self.changed = True
