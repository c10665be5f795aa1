"""Newer shipped methods into an image that lives: three ways, and nothing that was changed there is lost.

For each shipped method three sources are compared: what genesis installed last (the base), what is in force in the
image, and what this release ships. Where only the release changed, the image follows; where only the image did, it
keeps its own; where both did, it keeps its own too, and the Architect is told, who may take the shipped one. A slot of
data in a method's place is the image's own, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from batos import mind
from batos.kernel.genesis.seed import AUTHOR
from batos.kernel.genesis.sources import method_sources, shipped_files
from batos.mind import compatibility
from batos.uvm import LiveMethod, UvmObject, install_method, method_history, own_methods, place_at, slots
from batos.uvm.compiling import checked_source, digest
from batos.uvm.sketch import short_text

Outcome = Literal["added", "replaced", "taken", "kept", "conflict", "deleted"]
WRITES: frozenset[Outcome] = frozenset({"added", "replaced", "taken"})


@dataclass(frozen=True)
class Upgrade:
    """What becomes of one shipped method whose version in the image differs.

    Attributes:
        path: of the method.
        outcome: `added`: the image did not have it; `replaced`: nobody had changed it; `taken`: changed, and replaced
            because the Architect says so; `kept`: changed in the image alone; `conflict`: changed on both sides, kept;
            `deleted`: deleted in the image, which stays so.
        author: of the version in force in the image; empty where there is none.
        current: its source; where data stands in its place, `name = value`; empty where nothing does.
        shipped: source that this release ships.
    """

    path: str
    outcome: Outcome
    author: str
    current: str
    shipped: str


def upgrade(root: mind.Root, take: Collection[str] = ()) -> tuple[list[Upgrade], int]:
    """Install what this release ships wherever the image follows it.

    Args:
        root: the image's root, within the caller's transaction; who only wants to know aborts it.
        take: paths of methods to replace although they were changed in the image.

    Returns:
        What differs and what became of it, and how many methods do not differ.

    Raises:
        BadPath: an object that methods are shipped for is not in the image.
        NotFound: nothing is shipped for a path in `take`.
        Incompatible: a registered kernel does not serve what a method needs.
    """
    found, same = [], 0
    taking = set(take)
    for path, obj, name, source in _shipped(root):
        decided = _decide(f"{path}.{name}", obj, name, source, take)
        taking.discard(f"{path}.{name}")
        if decided is None:
            same += 1
            continue
        if decided.outcome in WRITES:
            install_method(obj, name, source, author=AUTHOR)
            compatibility.note_method(root, decided.path)
        found.append(decided)
    if taking:
        raise mind.NotFound(
            "method", min(taking), "nothing is shipped for this path: see `batos image upgrade --dry-run`"
        )
    return found, same


def _shipped(root: mind.Root) -> Iterator[tuple[str, UvmObject, str, str]]:
    for path, file in shipped_files().items():
        obj = place_at(root, path).value
        for name, source in method_sources(file).items():
            yield path, obj, name, checked_source(name, source)


def _decide(path: str, obj: UvmObject, name: str, shipped: str, take: Collection[str]) -> Upgrade | None:
    current: LiveMethod | None = own_methods(obj).get(name)
    history = method_history(obj, name)
    base = next((version.hash for version in reversed(history) if version.author == AUTHOR), "")
    new = digest(shipped)
    if current is not None and current.hash == new:
        return None
    if current is not None and current.hash == base:
        return Upgrade(path, "replaced", current.author, current.source, shipped)
    outcome: Outcome = "taken" if path in take else "kept" if base == new else "conflict"
    if current is not None:
        return Upgrade(path, outcome, current.author, current.source, shipped)
    if name in slots(obj):
        return Upgrade(path, outcome, "", f"{name} = {short_text(slots(obj)[name])}", shipped)
    return Upgrade(path, _missing(path, was_there=bool(history), take=take), "", "", shipped)


def _missing(path: str, *, was_there: bool, take: Collection[str]) -> Outcome:
    if not was_there:
        return "added"
    return "taken" if path in take else "deleted"
