"""Filling a new image. Whatever is already there is left alone: the image's copy is the one that counts.

An object that is missing is made, with all its slots. One that is there keeps the slots that it has: which of them were
taken away on purpose nobody can tell. So a release that gives new slots to such an object does it with a migration.
"""

from __future__ import annotations

from typing import Any

from batos import mind
from batos.kernel.genesis.covenants import COVENANTS
from batos.kernel.genesis.personas import CODEX, PILLARS, dna
from batos.kernel.genesis.sources import method_sources, shipped_files
from batos.kernel.genesis.states import FACET_ASKING, FIRST, STATES
from batos.kernel.interface import IMAGE
from batos.mind import compatibility
from batos.mind.lobby import (
    ALFRED,
    GENESIS,
    KNOWLEDGE_CATALOG,
    ORCHESTRATOR,
    PERSONAS,
    PLLM,
    PSM_PROTOTYPES,
    TRAITS,
    persona_slot,
)
from batos.uvm import IdentityGuardian, UvmObject, host_needed, install_method, method_history, own_methods, slots

AUTHOR = "genesis"
GENESIS_MISSION_ID = "00000000000070008000000000000001"
"""The one mission that nobody asks: the same in every image, so that it can never run twice in one."""
GENESIS_MISSION_TEXT = (
    "Write a short welcome message. It must say: I am a mind that lives in a database. Four personas "
    "think together here: ROBIN, BRICK, BABS and ALFRED. Every step of a thought is written to a log, and I learn from "
    "my own log."
)
GENESIS_WEAVER = ALFRED


def seed(root: mind.Root) -> None:
    """Make sure that the image holds everything that a mind begins with. Changes nothing where it does.

    Args:
        root: the image's root, within the caller's transaction.

    Raises:
        CovenantBroken: the organization in the image is not whole, and what is missing cannot be added.
    """
    lobby = mind.lobby(root)
    if not slots(lobby):  # it is born: nothing has to become what all of it already is
        compatibility.set_image_version(root, IMAGE.newest)
    traits = _object(root, lobby, TRAITS, "traits", FACET_ASKING)
    _object(
        root,
        lobby,
        GENESIS,
        "",
        {"mission_id": GENESIS_MISSION_ID, "mission_text": GENESIS_MISSION_TEXT, "weaver": GENESIS_WEAVER},
    )
    _object(root, lobby, PLLM, "pllm", {})
    mind.create_collections(root)
    _object(root, lobby, KNOWLEDGE_CATALOG, "", {"about": "Fractal Memory: what happened, and what it means"})
    orchestrator = _object(root, lobby, ORCHESTRATOR, "orchestrator", {"first_state": FIRST})
    _object(root, orchestrator, "cycle_prototype", "cycle", {})
    machine = _object(root, lobby, PSM_PROTOTYPES, "", {})
    for name, own in STATES.items():
        _object(root, machine, name, name.lower(), {"name": name, **own})
    for name in PERSONAS:
        codex = {**CODEX[name], "covenants": COVENANTS} if name == ALFRED else CODEX[name]
        own = {"name": name, "codex": codex, "dna": dna(name), "pillars": PILLARS[name]}
        _object(root, lobby, persona_slot(name), name.lower(), own, parents=(traits,))
    for path, file in shipped_files().items():
        for name in method_sources(file):
            compatibility.note_method(root, f"{path}.{name}")
    IdentityGuardian.check(root)


def _object(
    root: mind.Root,
    holder: UvmObject,
    slot: str,
    file: str,
    own: dict[str, Any],
    parents: tuple[UvmObject, ...] = (),
) -> UvmObject:
    """Return the object in a slot, made where it is missing, with every live method that it lacks added.

    Args:
        root: the image's root.
        holder: whose slot.
        slot: its name.
        file: where its live methods are shipped; empty where it has none.
        own: slots of a new object.
        parents: what a new object delegates to.
    """
    found: UvmObject | None = slots(holder).get(slot)
    if found is None:
        found = UvmObject(parents, **own)
        setattr(holder, slot, found)
    present = slots(found)
    installed = own_methods(found)
    for name, source in method_sources(file).items() if file else ():
        # What was deleted in the image stays deleted, and what a kernel of an older release lacks has to wait until all
        # are rolled; `upgrade` says so.
        missing = name not in installed and name not in present and not method_history(found, name)
        if missing and not compatibility.lacking_host(root, host_needed(source)):
            install_method(found, name, source, author=AUTHOR)
    return found
