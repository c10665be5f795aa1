"""What the names of a source stand for, where they come from a module."""

from __future__ import annotations

import ast


class Imports:
    """The imports of one source.

    Args:
        tree: the source.
        assigned: names that it gives a meaning of its own: what they stand for is not known.
    """

    def __init__(self, tree: ast.Module, assigned: frozenset[str]) -> None:
        self._assigned = assigned
        self.modules: dict[str, str] = {}
        self.names: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.modules |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                self.names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def origin(self, node: ast.expr) -> str:
        """The dotted name of what stands here, such as `datetime.date.today`; its own name where it is a plain one.

        Returns:
            Nothing where it is an attribute of what comes from no module, or a name of the source's own.
        """
        if isinstance(node, ast.Name):
            return "" if node.id in self._assigned else self.modules.get(node.id) or self.names.get(node.id, node.id)
        if not isinstance(node, ast.Attribute):
            return ""
        holder = node.value.id if isinstance(node.value, ast.Name) else ""
        from_module = holder in self.modules or holder in self.names or isinstance(node.value, ast.Attribute)
        before = self.origin(node.value) if from_module else ""
        return f"{before}.{node.attr}" if before else ""
