"""One round after the other over a source, until nothing more is learned."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from batos.uvm.capabilities import Capabilities
from batos.uvm.guardians.lost_writes.ledger import Found, TooFar
from batos.uvm.guardians.lost_writes.names import GIVEN, Env
from batos.uvm.guardians.lost_writes.statements import Statements
from batos.uvm.guardians.lost_writes.things import HOST, RECEIVER, Function

_DOING = (ast.Call, ast.NamedExpr)
_ASIDE = "in an annotation, after `except` or for a decorator"


def faults_of_flow(name: str, tree: ast.Module, capabilities: Capabilities) -> list[Found]:
    """Writes that would be lost, and what is used of the receiver without being declared.

    Args:
        name: the message that the source answers.
        tree: the source, of bounded size and depth.
        capabilities: what it declares.
    """
    return Flow(name, tree, capabilities).run()


def _aside(tree: ast.Module) -> Iterator[Found]:
    """Calls where nobody looks for them: in annotations, after `except`, and in what is given to a decorator."""
    for node in ast.walk(tree):
        beside = [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.ExceptHandler):
            beside.append(node.type)
        for decorator in getattr(node, "decorator_list", ()):
            parts = [*decorator.args, *decorator.keywords] if isinstance(decorator, ast.Call) else ()
            beside += [part.value if isinstance(part, ast.keyword) else part for part in parts]
        for part in beside:
            if part is not None and any(isinstance(one, _DOING) for one in ast.walk(part)):
                yield "unsupported", part, f"nothing is called {_ASIDE}: do it before"


class Flow(Statements):
    """The analysis of one source."""

    def run(self) -> list[Found]:
        """Go round until nothing changes; the faults of the last round stand."""
        try:
            self._round()
            while self.changed:
                self._round()
        except (TooFar, RecursionError):
            return [("flow", self.tree, "its values change places more often than can be followed: make it simpler")]
        return [*self.found.values(), *_aside(self.tree)]

    def _round(self) -> None:
        self.changed = False
        self.found = {}
        self.block(self.tree.body, Env(self.scopes[self.tree]))
        done: set[ast.AST] = set()
        while left := [one for node, one in self.functions.items() if node not in done]:
            for function in left:
                done.add(function.node)
                self._through(function)

    def _through(self, function: Function) -> None:
        """Go through a function, called with whatever it may be called with."""
        if function.live:
            self._begin(function)
        env = Env(function.scope)
        self.current.append(function)
        for name, value in function.params.items():
            self.bind(name, value, env)
        if function.given:
            self.bind(GIVEN, function.given, env)
        if isinstance(function.node, ast.Lambda):
            function.result = self.learned(function.result, self.value(function.node.body, env))
        elif self.block(function.node.body, env):
            self.leaves(env)
        self.current.pop()

    def _begin(self, function: Function) -> None:
        """The live method is called by the image: with its receiver, and with copies."""
        node = function.node.args
        for place, one in enumerate([*node.posonlyargs, *node.args, *node.kwonlyargs]):
            self.grow(function.params, one.arg, frozenset({RECEIVER if place == 0 else HOST}))
        for rest, kind in ((node.vararg, "tuple"), (node.kwarg, "dict")):
            if rest is not None:
                self.grow(function.params, rest.arg, frozenset({self.container(rest, kind, frozenset({HOST}))}))
