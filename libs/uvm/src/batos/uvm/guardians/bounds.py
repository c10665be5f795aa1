"""How much a source may be: bounds that keep those from harm who read it, the parser first.

They all run in the kernel, for anybody who writes a method.
"""

from __future__ import annotations

import ast

from batos.uvm.sandbox_errors import Fault

MAX_CHARS = 20_000
MAX_NODES = 8_000
MAX_DEPTH = 60
"""How deeply a source's syntax may be nested."""
MAX_LINKS = 90
"""How much longer chains of `elif` and of operators may be: the sandbox's parser nests them."""
MAX_BRACKETS = 100
"""How deeply brackets may be nested: looked at before the source is parsed."""
MAX_INDENT = 80
MAX_CHAIN = 400
"""How many operator signs may follow each other: looked at before the source is parsed."""


def fault_at(rule: str, node: ast.AST, detail: str) -> Fault:
    """A fault in its place."""
    return Fault(rule, getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1, detail)


def parsed(source: str) -> ast.Module | Fault:
    """The syntax of a source that may be parsed; or what is wrong with it."""
    try:
        tree = ast.parse(source)
    except (RecursionError, MemoryError):
        return Fault("depth", 0, 0, "it is nested too deeply for the parser")
    except (SyntaxError, ValueError) as wrong:
        line = getattr(wrong, "lineno", 0) or 0
        return Fault("syntax", line, getattr(wrong, "offset", 0) or 0, str(getattr(wrong, "msg", wrong)))
    return _too_deep(tree) or tree


def too_much(source: str) -> Fault | None:
    """Bounds that keep the parser itself from harm: it runs in this process."""
    if len(source) > MAX_CHARS:
        return Fault("size", 0, 0, f"{len(source)} characters are more than {MAX_CHARS}")
    depth = chain = 0
    for line, text in enumerate(source.splitlines(), 1):
        if len(text) - len(text.lstrip()) > MAX_INDENT:
            return Fault("depth", line, 1, f"indented by more than {MAX_INDENT}")
        for column, sign in enumerate(text, 1):
            chain = chain + 1 if sign in "-+~" else 0
            depth = depth + 1 if sign in "([{" else max(0, depth - 1) if sign in ")]}" else depth
            if depth > MAX_BRACKETS or chain > MAX_CHAIN:
                return Fault("depth", line, column, "brackets or signs are nested too deeply")
    return None


def _too_deep(tree: ast.Module) -> Fault | None:
    stack: list[tuple[ast.AST, int, int, ast.AST]] = [(tree, 0, 0, tree)]
    nodes = 0
    while stack:
        node, depth, links, place = stack.pop()
        nodes += 1
        if nodes > MAX_NODES:
            return Fault("size", 0, 0, f"more than {MAX_NODES} parts of speech: make it two methods")
        if depth > MAX_DEPTH or links > MAX_LINKS:
            return fault_at(
                "depth", place, f"nested more than {MAX_DEPTH} deep, or chained more than {MAX_LINKS} times"
            )
        link = _link(node)
        for child in ast.iter_child_nodes(node):
            deeper = (depth, links + 1) if child is link else (depth + 1, links)
            stack.append((child, *deeper, child if hasattr(child, "lineno") else place))
    return None


def _link(node: ast.AST) -> ast.AST | None:
    """The next link of a chain: an `elif`, or all that stands before an operator of several."""
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        return node.orelse[0]
    return node.left if isinstance(node, ast.BinOp) and isinstance(node.left, ast.BinOp) else None
