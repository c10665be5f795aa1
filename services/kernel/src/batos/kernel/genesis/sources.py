"""The source of the live methods that genesis ships, function by function."""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files

METHODS_PACKAGE = "batos.kernel.genesis.methods"


@cache
def method_sources(file: str) -> dict[str, str]:
    """Return message name to source of the live methods in one file.

    Args:
        file: name of a file in `methods`, without its suffix.
    """
    text = files(METHODS_PACKAGE).joinpath(f"{file}.py").read_text(encoding="utf-8")
    return {
        node.name: f"{ast.get_source_segment(text, node)}\n"
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }
