"""What a method of a cycle may do, as it declares it in its own source: reviewed and kept with it.

    CAPABILITIES = {
        "self": {"reads": ["notes", "friend"], "sets": ["notes"], "sends": ["area"]},
        "friend": {"reads": ["n"], "sends": ["area"]},
        "arguments": {"reads": ["n"]},
        "results": {"sends": ["area"]},
    }

`friend` is a slot of the receiver: its entry holds for the objects that stand in that slot when the call begins. What
reads the slot itself (`self.friend`) is among the reads of `self`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

DECLARATION = "CAPABILITIES"
SELF, ARGUMENTS, RESULTS = "self", "arguments", "results"
KINDS = ("reads", "sets", "sends")
MAX_NAMES = 200

UNTOUCHABLE = frozenset({
    "parents", "codex", "dna", "pillars", "ancestor", "lora_repository",
    "successors", "synthesis_state", "first_state", "cycle_prototype",
})  # fmt: skip
"""Slots that no method of a cycle sets, whatever it declares: who an object is, and which way a thought takes."""
OWN_ONLY = frozenset({"codex", "dna"})
"""Slots that such a method reads of its receiver alone."""
SPOKEN = frozenset({"set", "send"})
"""What every object answers in the sandbox: `obj.set(name, value)` and `obj.send(message, ...)`."""


@dataclass(frozen=True)
class Rights:
    """What may be done with one object: names of slots to read and to set, and of messages to send."""

    reads: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    sends: frozenset[str] = frozenset()

    def __or__(self, other: Rights) -> Rights:
        return Rights(self.reads | other.reads, self.sets | other.sets, self.sends | other.sends)

    def __and__(self, other: Rights) -> Rights:
        return Rights(self.reads & other.reads, self.sets & other.sets, self.sends & other.sends)


NONE = Rights()
Capabilities = Mapping[str, Rights]


@dataclass(frozen=True)
class Misdeclared:
    """What is wrong with a declaration, and where."""

    rule: str
    node: ast.AST
    detail: str


def declared(tree: ast.Module) -> tuple[Capabilities, list[Misdeclared]]:
    """The capabilities that a source declares (none where it declares nothing), and what is wrong with them."""
    found = [node for node in tree.body if isinstance(node, ast.Assign) and _names(node) == [DECLARATION]]
    if not found:
        return {}, []
    wrong = [Misdeclared("declaration", extra, f"{DECLARATION} is assigned once") for extra in found[1:]]
    try:
        value: object = ast.literal_eval(found[0].value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return {}, [*wrong, Misdeclared("declaration", found[0], f"{DECLARATION} is a plain literal, without calls")]
    if not isinstance(value, dict):
        return {}, [*wrong, Misdeclared("declaration", found[0], f"{DECLARATION} is a dict: whom -> what")]
    capabilities = {}
    for whom, entry in value.items():
        faults = list(_faults(whom, entry))
        wrong += [Misdeclared(rule, found[0], detail) for rule, detail in faults]
        if not faults:
            capabilities[whom] = Rights(**{kind: frozenset(names) for kind, names in entry.items()})
    return capabilities, wrong


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _faults(whom: object, entry: object) -> Iterator[tuple[str, str]]:
    if not isinstance(whom, str) or not whom.isidentifier():
        yield "declaration", f"{whom!r} is neither self, arguments, results, nor the name of a slot"
        return
    if whom.startswith("_") or whom in UNTOUCHABLE:
        yield "tampering", f"what stands in {whom!r} is not for methods of a cycle"
    if not isinstance(entry, dict) or not set(entry) <= set(KINDS):
        yield "declaration", f"{whom!r} declares {', '.join(KINDS)} and nothing else"
        return
    for kind, names in entry.items():
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            yield "declaration", f"{kind} of {whom!r} is a list of names"
            continue
        if len(names) > MAX_NAMES:
            yield "declaration", f"{kind} of {whom!r} has more than {MAX_NAMES} names"
        for name in names:
            why = forbidden(kind, name, of_self=whom == SELF)
            if why is not None:
                yield why


def forbidden(kind: str, name: str, *, of_self: bool) -> tuple[str, str] | None:
    """The rule and its sentence, where no method of a cycle may ever do this; else None.

    Args:
        kind: `reads`, `sets` or `sends`.
        name: the slot or the message.
        of_self: whether it is the receiver's.
    """
    if (
        name in {"_slots", "_methods_", "_versions_", "__dict__"}
        or name.startswith(("_p_", "_v_"))
        or name == "parents"
    ):
        return "tampering", f"{name!r} is the image's own: a method of a cycle does not reach it"
    if name.startswith("_"):
        return "private-name", f"{name!r} begins with an underscore: such names are not for methods of a cycle"
    if kind == "sets" and name in UNTOUCHABLE:
        return (
            "tampering",
            f"{name!r} says who an object is or which way a thought takes: no method of a cycle sets it",
        )
    if kind == "reads" and name in OWN_ONLY and not of_self:
        return "tampering", f"{name!r} of others is not for methods of a cycle"
    return None
