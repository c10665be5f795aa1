"""The BTrees that grow beside the lobby."""

from __future__ import annotations

from typing import Any

from BTrees.OOBTree import OOBTree, OOTreeSet

from batos.mind.lobby import LORA_REPOSITORY, ORGANIZATION, PLLM, lobby
from batos.uvm import Root, UvmObject

DATASETS = "datasets"
"""Data set id to its record."""
ORDERS = "orders"
"""Training order id to its record."""
ADAPTER_ACTS = "adapter_acts"
"""Request id of a rollback to what it did, so that a retry does it once."""
LOG_BATCHES = "log_batches"
"""(incarnation, first seq) to a batch of log records."""
LOG_POSITIONS = "log_positions"
"""Kernel name to (segment, offset in bytes) up to which its log is in memory."""
LOG_HEADS = "log_heads"
"""Incarnation to the last seq of it that is in memory."""
LOG_CYCLES = "log_cycles"
"""Set of (cycle id, incarnation, first seq): the batches in which a cycle stands."""
LOG_OUTCOMES = "log_outcomes"
"""Set of (outcome, cycle id)."""
LOG_PERSONAS = "log_personas"
"""Set of (persona, cycle id): the cycles in which a persona answered."""

_KINDS: dict[str, type] = {
    DATASETS: OOBTree,
    ORDERS: OOBTree,
    ADAPTER_ACTS: OOBTree,
    LOG_BATCHES: OOBTree,
    LOG_POSITIONS: OOBTree,
    LOG_HEADS: OOBTree,
    LOG_CYCLES: OOTreeSet,
    LOG_OUTCOMES: OOTreeSet,
    LOG_PERSONAS: OOTreeSet,
}


def create_collections(root: Root) -> None:
    """Add every collection that is missing, the adapters' repository and the `organization` record among them."""
    for name in _KINDS:
        collection(root, name)
    repository(root)
    if ORGANIZATION not in root:
        root[ORGANIZATION] = UvmObject(changes=0, author="genesis")


def collection(root: Root, name: str) -> Any:
    """Return a collection to write into; an image that does not have it yet gets it."""
    found = root.get(name)
    if found is None:
        root[name] = found = _KINDS[name]()
    return found


def existing(root: Root, name: str) -> Any:
    """Return a collection to read from; an image that does not have it yet looks like one with an empty one."""
    found = root.get(name)
    return _KINDS[name]() if found is None else found


def repository(root: Root) -> Any:
    """Return the adapters' repository to write into: an OOBTree of adapter name to record."""
    front = lobby(root)
    pllm = getattr(front, PLLM, None)
    if pllm is None:
        pllm = UvmObject()
        setattr(front, PLLM, pllm)
    found = getattr(pllm, LORA_REPOSITORY, None)
    if found is None:
        found = OOBTree()
        setattr(pllm, LORA_REPOSITORY, found)
    return found


def existing_repository(root: Root) -> Any:
    """Return the adapters' repository to read from; empty where genesis has not run."""
    found = getattr(getattr(lobby(root), PLLM, None), LORA_REPOSITORY, None)
    return OOBTree() if found is None else found
