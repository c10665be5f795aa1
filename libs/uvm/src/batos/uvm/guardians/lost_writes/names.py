"""Names of a source: which function binds them, and what they stand for at one point of its flow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batos.uvm.guardians.lost_writes.things import Value

GIVEN = "given to the image"
"""Not a name of the source: under it an environment keeps what was set to slots already."""
PENDING = "pending"
"""Under it an environment keeps changes of copies that no `set` has brought to the image yet."""
STALE = "stale"
"""Under it an environment keeps copies that may be older than what stands in the image: a message was sent since."""


@dataclass(eq=False)
class Scope:
    """The names of one function, or of the source as a whole.

    Attributes:
        outer: the scope around it.
        shared: its names that functions within mention: they see whatever is assigned, whenever.
        foreign: names that it declares `nonlocal`.
        cells: what its shared names stand for, over the whole call.
    """

    outer: Scope | None
    shared: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    cells: dict[str, Value] = field(default_factory=dict)


def scopes_of(tree: ast.Module) -> dict[ast.AST, Scope]:
    """The scope of a source and of each of its functions."""
    found: dict[ast.AST, Scope] = {tree: Scope(None)}
    stack: list[tuple[ast.AST, Scope]] = [(tree, found[tree])]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            scope = found[node] = Scope(scope)
        mentioned = [node.id] if isinstance(node, ast.Name) else []
        if isinstance(node, ast.Nonlocal):
            mentioned = node.names
            scope.foreign.update(node.names)
        outer = scope.outer
        while mentioned and outer is not None:
            outer.shared.update(mentioned)
            outer = outer.outer
        stack += [(child, scope) for child in ast.iter_child_nodes(node)]
    return found


@dataclass(eq=False)
class Env:
    """What names stand for at one point: a layer over that of the block around it.

    Attributes:
        comprehension: the comprehension whose names these are; else None.
    """

    scope: Scope
    base: Env | None = None
    comprehension: ast.AST | None = None
    names: dict[str, Value] = field(default_factory=dict)

    def layer(self, comprehension: ast.AST | None = None) -> Env:
        """The environment of a block within this one."""
        return Env(self.scope, self, comprehension)

    def layers(self) -> Iterator[Env]:
        """This one and those below it, to the function's own."""
        env: Env | None = self
        while env is not None:
            yield env
            env = env.base

    def get(self, name: str) -> Value | None:
        """What a name stands for; None where this function has not bound it."""
        for env in self.layers():
            if name in env.names:
                return env.names[name]
        return None
