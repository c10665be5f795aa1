"""LoRA adapters in the image: candidates, what is bound to whom, and the way back.

A persona's `dna` slot says which adapter it answers with, a base model at a time:
`{"temperature", "base_model_id", "version", "adapters": {model hash: name}, "previous": {model hash: [names, newest
last]}}`. In `previous` the empty name is the base model.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from batos.mind.collections import ADAPTER_ACTS, collection, existing, existing_repository, repository
from batos.mind.errors import Corrupt, MindError, NotAllowed, NotFound
from batos.mind.lobby import PERSONAS, persona, persona_slot, touch_organization
from batos.uvm import Root, UvmObject, plain, read_blob, store_blob

State = Literal["candidate", "bound", "retired"]

NAME_DIGITS = 16
"""Hexadecimal digits of the content's SHA-256 in an adapter's name."""


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter's record, without its weights."""

    name: str
    persona: str
    model_hash: str
    """Of the base model that it was trained on."""
    sha256: str
    """Of the archive."""
    size: int
    """Bytes of the archive."""
    state: State
    gate: dict[str, Any]
    """The gate's report; `passed` says whether it may be bound."""
    parent: str
    """What the persona answered with when this one was stored; empty for the base model."""
    dataset_id: str
    dataset_sha256: str
    """Hash of the data set's manifest."""
    order_id: str
    training: dict[str, Any]
    approver: str = ""
    """Who approved its last binding."""
    created_at: float = 0.0
    bound_at: float = 0.0


class Bound(NamedTuple):
    """What a binding changed."""

    previous: str
    """Name of the adapter that was bound before; empty for the base model."""
    dna_version: int


class RolledBack(NamedTuple):
    """What a rollback changed."""

    adapter: str
    """What is bound now; empty for the base model."""
    previous: str
    """What was bound before the rollback."""
    dna_version: int


def adapter_name(persona_name: str, sha256: str) -> str:
    """Return the serving name of an adapter: its persona and the first digits of its content's hash."""
    return f"{persona_name.lower()}-{sha256[:NAME_DIGITS]}"


def add_candidate(
    root: Root,
    *,
    persona_name: str,
    model_hash: str,
    archive: bytes | Path,
    gate: Mapping[str, Any],
    dataset_id: str,
    dataset_sha256: str,
    order_id: str,
    training: Mapping[str, Any],
) -> str:
    """Store an adapter unbound, with everything that says where it comes from. The same content twice is one adapter.

    Args:
        root: the image's root.
        persona_name: whose answers it was trained on.
        model_hash: hash of the base model as the engine reports it.
        archive: the tar of `batos.mind.archive`, or the file that holds it.
        gate: the gate's report; must say `passed`.
        dataset_id: data set that it was trained on.
        dataset_sha256: hash of that data set's manifest.
        order_id: order that it was trained for.
        training: how it was trained: settings, durations, losses.

    Returns:
        The adapter's name.
    """
    if not isinstance(gate.get("passed"), bool):
        raise NotAllowed("gate_report_invalid", "a candidate needs a gate report that says `passed`")
    slot = persona_slot(persona_name)
    content = archive if isinstance(archive, bytes) else archive.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    upper = persona_name.upper()
    name = adapter_name(upper, digest)
    records = repository(root)
    if name in records:
        return name
    records[name] = UvmObject(
        name=name,
        persona=upper,
        model_hash=model_hash,
        sha256=digest,
        size=len(content),
        state="candidate",
        gate=dict(gate),
        parent=_bound_to(root, slot, model_hash),
        dataset_id=dataset_id,
        dataset_sha256=dataset_sha256,
        order_id=order_id,
        training=dict(training),
        approver="",
        created_at=time.time(),
        bound_at=0.0,
        content=store_blob(content),
    )
    return name


def known(root: Root, name: str) -> bool:
    """Say whether the image holds this adapter."""
    return name in existing_repository(root)


def names(root: Root) -> list[str]:
    """Return the names of all adapters, sorted."""
    return list(existing_repository(root))


def get(root: Root, name: str) -> Adapter:
    """Return an adapter's record.

    Raises:
        NotFound: the image holds no such adapter.
    """
    record = _record(root, name)
    return Adapter(**{field: plain(getattr(record, field)) for field in Adapter.__struct_fields__})


def content(root: Root, name: str) -> bytes:
    """Return an adapter's archive, verified against its hash.

    Raises:
        NotFound: the image holds no such adapter.
        Corrupt: the stored bytes are not those that were named.
    """
    record = _record(root, name)
    data = read_blob(record.content)
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.sha256:
        raise Corrupt(
            "adapter_corrupt",
            f"the image's bytes of adapter {name} have the hash {digest[:NAME_DIGITS]}…",
            "restore the image's blobs from a backup, or roll the persona back",
        )
    return data


def bound(root: Root, model_hash: str) -> dict[str, str]:
    """Return persona to adapter for every persona that has one bound on this base model."""
    found = {name: _bound_to(root, persona_slot(name), model_hash) for name in PERSONAS}
    return {name: adapter for name, adapter in found.items() if adapter}


def bind(root: Root, name: str, approver: str) -> Bound:
    """Bind an adapter to its persona, for the base model that it was trained on. Binding what is bound changes nothing.

    Raises:
        NotFound: the image holds no such adapter or persona.
        NotAllowed: the gate refused it.
    """
    record = _record(root, name)
    if not record.gate["passed"]:
        raise NotAllowed(
            "gate_not_passed",
            f"the gate refused adapter {name}: {record.gate.get('verdict', 'it did not win')}",
            "curate more rows and train again",
        )
    owner = persona(root, record.persona)
    model_hash = record.model_hash
    dna = plain(owner.dna)
    past = list(dna.get("previous", {}).get(model_hash, []))
    before = dna.get("adapters", {}).get(model_hash, "")
    if before == name:
        return Bound(past[-1] if past else "", dna["version"])
    _write_dna(owner, dna, model_hash, name, [*past, before])
    if before:
        _record(root, before).state = "retired"
    record.state = "bound"
    record.approver = approver
    record.bound_at = time.time()
    touch_organization(root, approver)
    return Bound(before, dna["version"] + 1)


def rollback(root: Root, persona_name: str, model_hash: str, approver: str, *, request_id: str = "") -> RolledBack:
    """Bind what was bound before, the base model where there was nothing.

    Args:
        root: the image's root.
        persona_name: whose binding goes back.
        model_hash: on which base model.
        approver: who wants it.
        request_id: the same id twice is one rollback; empty for no such memory.

    Raises:
        NotAllowed: nothing is bound.
    """
    done = existing(root, ADAPTER_ACTS).get(request_id) if request_id else None
    if done is not None:
        return RolledBack(done.adapter, done.previous, done.dna_version)
    owner = persona(root, persona_name)
    dna = plain(owner.dna)
    current = dna.get("adapters", {}).get(model_hash, "")
    if not current:
        raise NotAllowed(
            "nothing_bound",
            f"{persona_name.upper()} already answers with the base model",
            "nothing has to be rolled back",
        )
    past = list(dna.get("previous", {}).get(model_hash, []))
    target = past.pop() if past else ""
    _write_dna(owner, dna, model_hash, target, past)
    _record(root, current).state = "retired"
    if target:
        restored = _record(root, target)
        restored.state = "bound"
        restored.approver = approver
        restored.bound_at = time.time()
    touch_organization(root, approver)
    result = RolledBack(target, current, dna["version"] + 1)
    if request_id:
        collection(root, ADAPTER_ACTS)[request_id] = UvmObject(
            act="rollback", persona=persona_name.upper(), approver=approver, done_at=time.time(), **result._asdict()
        )
    return result


def _record(root: Root, name: str) -> Any:
    found = existing_repository(root).get(name)
    if found is None:
        raise NotFound("adapter", name, "see `batos status` for what is bound")
    return found


def _bound_to(root: Root, slot: str, model_hash: str) -> str:
    try:
        owner = persona(root, slot.removesuffix("_prototype_obj"))
    except MindError:
        return ""
    dna = getattr(owner, "dna", None)
    return "" if dna is None else str(dna.get("adapters", {}).get(model_hash, ""))


def _write_dna(owner: UvmObject, dna: dict[str, Any], model_hash: str, adapter: str, past: list[str]) -> None:
    """Write a new version of a persona's DNA; the slot is replaced as a whole, so that its history shows each one."""
    adapters = {**dna.get("adapters", {}), model_hash: adapter}
    if not adapter:
        del adapters[model_hash]
    owner.dna = {
        **dna,
        "version": dna["version"] + 1,
        "adapters": adapters,
        "previous": {**dna.get("previous", {}), model_hash: past},
    }
