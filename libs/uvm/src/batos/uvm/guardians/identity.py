"""The IdentityGuardian: the organization that outlives every change of structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batos.uvm.errors import CovenantBroken
from batos.uvm.objects import UvmObject, slots, understands

PERSONAS = ("ROBIN", "BRICK", "BABS", "ALFRED")
PILLARS = 3
STATES = ("IDLE", "DECOMPOSING", "DELEGATING", "SYNTHESIZING", "VALIDATING", "COMPLETE", "FAILED")
ACTORS = (*PERSONAS, "ORCHESTRATOR")
"""Who may act in a state."""
HANDLER = "_process_synthesis_"
COVENANT = "identity covenant"


class IdentityGuardian:
    """Makes sure that the mind is still itself: its personas, its state machine, its bound adapters.

    Personas and states are known by their own `name`, so that none of them stands in another's place.
    """

    @staticmethod
    def check(root: Mapping[str, Any]) -> None:
        """Look at the organization that stands in the image.

        Raises:
            CovenantBroken: something is missing; the errors name what.
        """
        errors = list(_missing(root))
        if errors:
            raise CovenantBroken(COVENANT, errors)


def _missing(root: Mapping[str, Any]) -> Iterator[str]:
    lobby = root.get("lobby")
    if not isinstance(lobby, UvmObject):
        yield "lobby: there is none"
        return
    for persona in PERSONAS:
        yield from _missing_of_persona(lobby, f"{persona.lower()}_prototype_obj", persona)
    yield from _missing_states(lobby)
    yield from _missing_adapters(lobby)


def _missing_of_persona(lobby: UvmObject, slot: str, name: str) -> Iterator[str]:
    path = f"lobby.{slot}"
    persona = _read(lobby, slot)
    if not isinstance(persona, UvmObject):
        yield f"{path}: the persona is missing"
        return
    yield from _misnamed(persona, path, name)
    for part in ("codex", "dna"):
        if not _contents(_read(persona, part)):
            yield f"{path}.{part}: it is missing or empty"
    pillars = _contents(_read(persona, "pillars"))
    if len(pillars) != PILLARS or not all(pillars.values()):
        yield f"{path}.pillars: there are {sum(map(bool, pillars.values()))} of {PILLARS}"


def _missing_states(lobby: UvmObject) -> Iterator[str]:
    path = "lobby.psm_prototypes_obj"
    machine = _read(lobby, "psm_prototypes_obj")
    if not isinstance(machine, UvmObject):
        yield f"{path}: the state machine is missing"
        return
    for name in STATES:
        state = _read(machine, name)
        if not isinstance(state, UvmObject):
            yield f"{path}.{name}: the state is missing"
            continue
        yield from _misnamed(state, f"{path}.{name}", name)
        actor = _read(state, "persona")
        if actor not in ACTORS:
            yield f"{path}.{name}.persona: it says {actor!r:.40}, and is one of {', '.join(ACTORS)}"
        if not understands(state, HANDLER):
            yield f"{path}.{name}: it does not understand {HANDLER}"


def _misnamed(part: UvmObject, path: str, name: str) -> Iterator[str]:
    """Its own name, not an inherited one: so each stands in one place alone."""
    own = slots(part).get("name")
    if own != name:
        yield f"{path}.name: it says {own!r:.40}, and {name} is to stand here"


def _missing_adapters(lobby: UvmObject) -> Iterator[str]:
    repository = _read(_read(lobby, "pLLM_obj"), "lora_repository")
    if repository is None:
        yield "lobby.pLLM_obj.lora_repository: it is missing"
        return
    known = _contents(repository)
    for persona in PERSONAS:
        slot = f"{persona.lower()}_prototype_obj"
        bound = _contents(_contents(_read(_read(lobby, slot), "dna")).get("adapters"))
        for model, adapter in bound.items():
            if adapter and adapter not in known:
                yield f"lobby.{slot}.dna.adapters[{model!r}]: the adapter {adapter} is not in the repository"


def _read(holder: Any, name: str) -> Any:
    return getattr(holder, name, None) if isinstance(holder, UvmObject) else None


def _contents(value: Any) -> Mapping[Any, Any]:
    """What stands in a slot that is meant to hold named things: an object's slots, a mapping's items, or nothing."""
    if isinstance(value, UvmObject):
        return slots(value)
    if isinstance(value, str):
        return {"text": value} if value.strip() else {}
    return value if hasattr(value, "items") else {}
