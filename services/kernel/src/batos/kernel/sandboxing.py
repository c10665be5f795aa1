"""The kernel's sandbox: in it runs what cycles wrote, bounded by the settings, and what was stopped is told.

What such a method declares it gets, but for three things. Objects that others hand to it as results may be asked and
are never set. Who belongs to the organization is set by its own methods alone: a persona or a state is not another's to
change, whether it came as a result, as an argument, or stands in a slot. And its own methods, too, leave alone what the
organization is known by: who has which name, who acts where, and who stands where.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from batos import mind
from batos.kernel.chronicle import thinking
from batos.kernel.errors import GivenUp
from batos.kernel.host import COVENANT_KEEPER, OFFERED
from batos.kernel.metrics import KernelMetrics
from batos.kernel.settings import KernelSettings
from batos.kernel.ticket import LogSink
from batos.mind.lobby import PSM_PROTOTYPES
from batos.protocol import EventType, Transient
from batos.uvm import BadPath, CovenantBroken, DataGuardian, UvmObject, place_at, plain, slots
from batos.uvm.capabilities import RESULTS, Capabilities
from batos.uvm.guardians import COVENANT
from batos.uvm.sandbox import AuditRecord, Limits, Sandbox

KNOWN_BY = frozenset({"name", "persona"})
"""What a persona or a state is known by, beside what no method of a cycle sets of any object (`UNTOUCHABLE`)."""
GOVERNS = "governs"
"""In the codex of who keeps the covenants: path of an object to the name of the covenant that its slots keep."""

_log = logging.getLogger("batos.kernel")


def kernel_sandbox(settings: KernelSettings, log: LogSink, metrics: KernelMetrics) -> Sandbox:
    """Build the sandbox of a kernel. Its worker processes start with the first call and end when it is closed.

    Args:
        settings: how much a call may use, and how many there may be at a time.
        log: gets a record of everything that was stopped, unless a cycle's own chronicle tells it.
        metrics: counts it.
    """

    def audit(record: AuditRecord) -> None:
        metrics.stopped.labels(record.rule).inc()
        _log.warning(
            "sandbox: %r by %s, asked of %s, was stopped in line %d by the rule %s: %r",
            record.method,
            record.author,
            record.receiver,
            record.line,
            record.rule,
            record.detail,
        )
        detail = {
            "author": record.author,
            "method": record.method,
            "receiver": record.receiver,
            "rule": record.rule,
            "detail": record.detail,
            "line": record.line,
        }
        chronicle = thinking()
        if chronicle is None:
            log.record(EventType.SANDBOX, detail=detail)
        else:
            chronicle.record(EventType.SANDBOX, detail=detail)

    limits = Limits(
        wall_s=settings.kernel_sandbox_wall_s,
        cpu_s=settings.kernel_sandbox_cpu_s,
        memory_bytes=settings.kernel_sandbox_memory_bytes,
    )
    return Sandbox(
        audit=audit,
        limits=limits,
        workers=settings.sandbox_workers,
        grants=granted,
        guard=guard,
        services=OFFERED,
        passing=(GivenUp, Transient),
    )


def granted(_receiver: UvmObject, _method: str, _author: str, declared: Capabilities) -> Capabilities:
    """Return what a method gets of what it declares."""
    if RESULTS not in declared:
        return declared
    return {**declared, RESULTS: replace(declared[RESULTS], sets=frozenset())}


def guard(receiver: UvmObject, obj: UvmObject, slot: str, value: Any) -> None:
    """Look at a slot that a cycle's method is about to set.

    Who belongs to the organization is set by its own methods alone, and not in what it is known by. And a value is held
    against the covenant that governs its slot, where one does: ALFRED's codex may say
    `governs: {"lobby.brick_prototype_obj": "brick_notes"}`. Then a slot of that object that the covenant has among its
    properties is set to what the schema says there. The same holds for who inherits from that object, and for its
    clones. Other slots are free.

    Args:
        receiver: whose method it is; stored in the image.
        obj: whose slot is to be set.
        slot: its name.
        value: what it is to be.

    Raises:
        CovenantBroken: it is another's part of the organization, or says how that is organized; the value breaks the
            covenant, or the codex names a covenant that it does not hold.
    """
    root = receiver._p_jar.root()  # noqa: SLF001 - ZODB's public protocol
    is_known_by = slot in KNOWN_BY or _is_place(root, obj, slot)
    if (obj is not receiver or is_known_by) and any(part is obj for part in mind.organized(root)):
        why = (
            "is what the organization is known by: no method of a cycle sets it"
            if is_known_by
            else "is of a part of the organization, which its own methods alone set: send it a message"
        )
        raise CovenantBroken(COVENANT, [f"{slot!r} {why}"])
    kin = list(_kin(obj))
    codex = mind.persona(root, COVENANT_KEEPER).codex
    for path, covenant in codex.get(GOVERNS, {}).items():
        if not _leads_to(root, path, kin):
            continue
        schema = plain(codex["covenants"].get(covenant))
        if schema is None:
            raise CovenantBroken("codex", [f"{path} is governed by {covenant!r}, which the codex does not hold"])
        of_slot = schema.get("properties", {}).get(slot)
        if of_slot is not None:
            DataGuardian.validate(
                {"type": "object", "additionalProperties": False, "required": [slot], "properties": {slot: of_slot}},
                {slot: value},
            )


def _is_place(root: mind.Root, obj: UvmObject, slot: str) -> bool:
    """Whether a part of the organization stands in this slot of the lobby or of the state machine."""
    front = mind.lobby(root)
    if obj is front:
        return slot in mind.LOBBY_SLOTS
    return obj is slots(front).get(PSM_PROTOTYPES) and isinstance(slots(obj).get(slot), UvmObject)


def _kin(obj: UvmObject) -> Iterator[UvmObject]:
    """Yield an object, all whom it inherits from, and all whom these were cloned from."""
    waiting, seen = [obj], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting.extend(one.parents)
        original = slots(one).get("ancestor")
        if isinstance(original, UvmObject):
            waiting.append(original)


def _leads_to(root: mind.Root, path: str, kin: list[UvmObject]) -> bool:
    try:
        found = place_at(root, path).value
    except BadPath:
        return False  # of an object that is not there yet, or not any more
    return any(found is one for one in kin)
