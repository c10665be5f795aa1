"""The source of the live methods that genesis ships, function by function."""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files

from batos.kernel.genesis.states import STATES
from batos.mind.lobby import LOBBY, ORCHESTRATOR, PERSONAS, PLLM, PSM_PROTOTYPES, TRAITS, persona_slot

METHODS_PACKAGE = "batos.kernel.genesis.methods"


@cache
def method_sources(file: str) -> dict[str, str]:
    """Return message name to source of the live methods in one file.

    What the file assigns at its top level (`HOST`, the version of the host interface that its methods need) stands in
    front of each of them.

    Args:
        file: name of a file in `methods`, without its suffix.
    """
    text = files(METHODS_PACKAGE).joinpath(f"{file}.py").read_text(encoding="utf-8")
    body = ast.parse(text).body
    shared = "".join(f"{ast.get_source_segment(text, node)}\n\n\n" for node in body if isinstance(node, ast.Assign))
    return {
        node.name: f"{shared}{ast.get_source_segment(text, node)}\n"
        for node in body
        if isinstance(node, ast.FunctionDef)
    }


def shipped_files() -> dict[str, str]:
    """Return path of each object that has shipped methods, and the file they are in."""
    paths = {TRAITS: "traits", PLLM: "pllm", ORCHESTRATOR: "orchestrator", f"{ORCHESTRATOR}.cycle_prototype": "cycle"}
    paths |= {f"{PSM_PROTOTYPES}.{name}": name.lower() for name in STATES}
    paths |= {persona_slot(name): name.lower() for name in PERSONAS}
    return {f"{LOBBY}.{path}": file for path, file in paths.items()}
