"""Names under which the image's parts are reached, and the way to them."""

from __future__ import annotations

from typing import cast

from batos.mind.errors import NotFound
from batos.uvm import IdentityGuardian, Root, UvmObject

LOBBY = "lobby"
ORGANIZATION = "organization"

TRAITS = "traits_obj"
GENESIS = "genesis_obj"
PLLM = "pLLM_obj"
LORA_REPOSITORY = "lora_repository"
KNOWLEDGE_CATALOG = "knowledge_catalog_obj"
ORCHESTRATOR = "orchestrator_obj"
PSM_PROTOTYPES = "psm_prototypes_obj"

ROBIN = "ROBIN"
BRICK = "BRICK"
BABS = "BABS"
ALFRED = "ALFRED"
PERSONAS = (ROBIN, BRICK, BABS, ALFRED)

LOBBY_SLOTS = (
    TRAITS,
    GENESIS,
    PLLM,
    KNOWLEDGE_CATALOG,
    ORCHESTRATOR,
    PSM_PROTOTYPES,
    *(f"{name.lower()}_prototype_obj" for name in PERSONAS),
)


def lobby(root: Root) -> UvmObject:
    """Return the object from which all is reached."""
    found = root.get(LOBBY)
    if found is None:
        raise NotFound("collection", LOBBY, "was the image opened by open_image()?")
    return cast(UvmObject, found)


def persona_slot(name: str) -> str:
    """Return the lobby's slot for a persona, whatever the case of its name.

    Raises:
        NotFound: there is no such persona.
    """
    upper = name.upper()
    if upper not in PERSONAS:
        raise NotFound("persona", name, f"known personas: {', '.join(PERSONAS)}")
    return f"{upper.lower()}_prototype_obj"


def persona(root: Root, name: str) -> UvmObject:
    """Return a persona's prototype, whatever the case of its name.

    Raises:
        NotFound: there is no such persona, or genesis has not made it yet.
    """
    slot = persona_slot(name)
    found = getattr(lobby(root), slot, None)
    if found is None:
        raise NotFound("persona", name, "genesis has not run on this image yet: start a kernel")
    return cast(UvmObject, found)


def touch_organization(root: Root, author: str) -> None:
    """Note that the organization was changed, and make sure that it is still whole. Call it last in such a transaction.

    The `organization` record is written by every such transaction, so that of two concurrent ones only one commits.

    Raises:
        CovenantBroken: (of batos.uvm) the identity covenant does not hold any more.
    """
    record = root.get(ORGANIZATION)
    if record is None:
        root[ORGANIZATION] = UvmObject(changes=1, author=author)
    else:
        record.changes = record.changes + 1
        record.author = author
    IdentityGuardian.check(root)
