"""What a past transaction wrote, object by object: as it found it, as it left it, and what became of it since."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ZODB.blob import Blob
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf

from batos.uvm.errors import NoSuchMoment
from batos.uvm.image import PACKED
from batos.uvm.sameness import same
from batos.uvm.session import Root, Session, view_in

TID_DIGITS = 16
_PACKED_STATUS = "p"
"""What a storage notes with the transactions up to a pack: what stood before them may be gone."""


@dataclass(frozen=True)
class Written:
    """An object that a past transaction wrote.

    Attributes:
        oid: its id.
        obj: the object, as the running transaction has it.
        made: whether that transaction made it.
        before: its state before that transaction; None where it was made by it.
        gained: ids of the objects that it refers to since that transaction.
        lost: ids of the objects that it referred to until then.
        again: what changed it again, for people; empty where it stands as that transaction left it.
    """

    oid: bytes
    obj: Any
    made: bool
    before: Any
    gained: frozenset[bytes]
    lost: frozenset[bytes]
    again: str


def written_in(root: Root, tid: str) -> list[Written]:
    """Return what a past transaction wrote. Nothing is changed for it.

    Args:
        root: the image's root in the running transaction.
        tid: of the past transaction, 16 hexadecimal digits.

    Raises:
        NoSuchMoment: there was no such transaction, or what stood before it was packed away.
    """
    if len(tid) != TID_DIGITS or not set(tid) <= set("0123456789abcdef"):
        raise NoSuchMoment(tid, f"a transaction has {TID_DIGITS} hexadecimal digits")
    jar: Any = root._p_jar  # type: ignore[attr-defined]  # noqa: SLF001 - the root is a persistent mapping
    number = bytes.fromhex(tid)
    records: dict[bytes, bytes] = {}
    packed = tid <= str(root.get(PACKED, ""))
    for found in jar.db().storage.iterator(number, number):
        packed = packed or found.status == _PACKED_STATUS
        records.update({record.oid: record.data for record in found})
    if packed:
        raise NoSuchMoment(
            f"the time before {tid}",
            "it was packed away, and an undo brings back what stood then: put right by hand what that transaction did",
        )
    if not records:
        raise NoSuchMoment(tid, "there was no such transaction, or it was packed away")
    pending = jar.changed()
    with view_in(partial(Session, partial(jar.db().open, before=number), writable=False)) as past:
        return [
            _written(jar, oid, data, _record(past, oid), tid, pending=oid in pending) for oid, data in records.items()
        ]


def _record(past: Root, oid: bytes) -> bytes | None:
    """An object's record in a view of the past; None where there was no such object."""
    storage: Any = past._p_jar._storage  # type: ignore[attr-defined]  # noqa: SLF001 - ZODB gives records by no public name
    try:
        return bytes(storage.load(oid)[0])
    except POSKeyError:
        return None


def _written(jar: Any, oid: bytes, data: bytes, before: bytes | None, tid: str, *, pending: bool) -> Written:
    obj = jar.get(oid)
    obj._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    refers, referred = (frozenset(referencesf(record)) if record else frozenset() for record in (data, before))
    return Written(
        oid,
        obj,
        made=before is None,
        before=None if before is None else _state(jar, before),
        gained=refers - referred,
        lost=referred - refers,
        again=_again(jar, obj, data, tid, pending=pending),
    )


def _again(jar: Any, obj: Any, data: bytes, tid: str, *, pending: bool) -> str:
    """What changed an object again since; empty where it stands as its record says, whoever wrote that."""
    serial = obj._p_serial.hex()  # noqa: SLF001 - ZODB's public protocol has underscores
    # The bytes of a blob stand in no record.
    stands = not isinstance(obj, Blob) and same(obj.__getstate__(), _state(jar, data))
    if stands or (serial == tid and not pending):
        return ""
    return "in this transaction" if pending else f"by {serial}"


def _state(jar: Any, record: bytes) -> Any:
    """The state that a record holds, with this connection's objects in it."""
    return jar._reader.getState(record)  # noqa: SLF001 - ZODB's `oldstate` finds no record once there was a savepoint
