"""The image's own ZODB connection: it writes only what belongs to the image, and keeps shapes true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from persistent.mapping import PersistentMapping
from ZODB.Connection import Connection
from ZODB.POSException import InvalidObjectReference, POSKeyError
from ZODB.serialize import ObjectWriter

from batos.uvm.errors import BelongsToVessel, NoSuchMoment, NotStorable, ReadOnly
from batos.uvm.objects import UvmObject
from batos.uvm.paths import first_refused, path_of
from batos.uvm.shapes import ShapeTable
from batos.uvm.values import ATOMS, BTREES, PERSISTENT_VALUES, PLAIN_MUTABLE, ZONED, ImageObject

RECORDS: frozenset[type] = PERSISTENT_VALUES | {PersistentMapping}
"""Persistent classes beside `UvmObject` that have records. ZODB's own mapping is the image's root."""
_INLINE: frozenset[type] = ATOMS | ZONED | {tuple, list, dict, set, frozenset}
_BY_NAME: frozenset[type] = ATOMS | ZONED | RECORDS | {UvmObject, set, frozenset}
"""Classes that a record may name."""


class GateWriter(ObjectWriter):  # type: ignore[misc]  # ZODB has no types
    """Turns objects into records, and refuses what is not of the image, with its path."""

    def __init__(self, connection: Any, stack: list[Any]) -> None:
        super().__init__()
        self._jar = connection
        self._stack = stack

    def persistent_id(self, obj: Any) -> Any:
        """ZODB's hook: called for every value in a record. None means that it is stored within the record."""
        kind = type(obj)
        if kind in ATOMS:
            return None
        if isinstance(obj, ImageObject):
            reference = super().persistent_id(obj)
            return (reference[0], UvmObject) if type(reference) is tuple else reference
        if kind in RECORDS:
            return super().persistent_id(obj)
        if kind in _INLINE or (isinstance(obj, type) and obj in _BY_NAME):
            return None
        raise BelongsToVessel("", kind)

    def serialize(self, obj: Any) -> bytes:
        """One object's record. It always names `batos.uvm.UvmObject`, whatever shape the object wears."""
        try:
            if isinstance(obj, ImageObject):
                return self._dump(UvmObject, obj.__getstate__())  # type: ignore[no-any-return]  # ZODB has no types
            if type(obj) not in RECORDS:
                raise BelongsToVessel("", type(obj))
            _refuse_unwatched(obj)
            return super().serialize(obj)  # type: ignore[no-any-return]  # ZODB has no types
        except NotStorable as refusal:
            raise refusal.inside(path_of(obj) + ("" if refusal.path else first_refused(obj))) from None
        except InvalidObjectReference as foreign:
            raise NotStorable(
                path_of(obj), "it refers to an object of another session; copy that object, or write both in one"
            ) from foreign


def _refuse_unwatched(obj: Any) -> None:
    """A plain list, dict or set directly in a tree or in the root could be changed without anyone noticing."""
    kind = type(obj)
    if kind in BTREES:
        if not hasattr(obj, "items"):
            return
        pairs = obj.items() if hasattr(obj, "_next") else _own_pairs(obj)
    elif kind is PersistentMapping:
        pairs = obj.items()
    else:
        return
    for key, value in pairs:
        if type(value) in PLAIN_MUTABLE:
            raise _unwatched(key, value)


def _own_pairs(tree: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs that stand in the tree's own record: those of a tree so small that it holds its only bucket itself."""
    state = tree.__getstate__()
    if state is not None and len(state) == 1:  # a tree of several buckets has a second part: the first bucket
        pairs = state[0][0][0]
        yield from zip(pairs[::2], pairs[1::2], strict=True)


def _unwatched(key: Any, value: Any) -> NotStorable:
    kind = type(value).__name__
    return NotStorable(
        f"[{key!r}]",
        f"changes made in place of a plain {kind} here would be lost: store a Persistent{kind.capitalize()} or a tuple",
    )


class ImageConnection(Connection):  # type: ignore[misc]  # ZODB has no types
    """One thread's view of the image.

    Attributes:
        shapes: through what its objects read what they inherit.
        writable: whether objects may be changed.
        last_commit: the tid of the latest commit through this connection, as stored bytes; None before the first.
        finishing: whether a commit was voted for and is being finished: if it fails now, its fate is unknown.
    """

    def __init__(self, db: Any, *args: Any, **options: Any) -> None:
        self.shapes = ShapeTable(self)
        self.writable = True
        self.spoiled = False
        self.last_commit: bytes | None = None
        self.finishing = False
        super().__init__(db, *args, **options)
        if self.before is None:
            self._watch_finish()

    def _watch_finish(self) -> None:
        storage = self._storage
        finish = storage.tpc_finish

        def watched(transaction: Any, *args: Any) -> Any:
            self.finishing = True
            self.last_commit = finish(transaction, *args)
            self.finishing = False
            return self.last_commit

        storage.tpc_finish = watched

    def register(self, obj: Any) -> None:
        """ZODB's hook: an object is about to be changed."""
        if not self.writable:
            self.spoiled = True
            raise ReadOnly(path_of(obj))
        super().register(obj)

    def changed(self) -> set[bytes]:
        """The ids of the stored objects that the running transaction has changed; new ones are not among them."""
        changed = {obj._p_oid for obj in self._registered_objects}  # noqa: SLF001 - ZODB's public protocol
        made = {*self._added, *self._creating}
        if self._savepoint_storage is not None:  # what was changed before the latest savepoint
            changed.update(self._savepoint_storage.index)
            made.update(self._savepoint_storage.creating)
        return changed - made

    def get(self, oid: bytes) -> Any:
        """The object with this id; ZODB's own, with the image's words where the storage does not answer."""
        try:
            return super().get(oid)
        except Exception as wrong:
            self.complain(wrong, "looking for an object")
            raise

    def setstate(self, obj: Any) -> None:
        """ZODB's hook: an object's record is needed."""
        try:
            super().setstate(obj)
        except Exception as wrong:
            self.complain(wrong, "reading an object")
            raise

    def complain(self, wrong: BaseException, doing: str) -> None:
        """Raise the image's own error where `wrong` says that this connection's storage is not there or refuses.

        In a view of the past a record that is missing was packed away.
        """
        if self.before is not None and isinstance(wrong, POSKeyError):
            seen = int.from_bytes(self.before, "big") - 1
            raise NoSuchMoment(f"{seen:016x}", "what stood there then was packed away") from wrong
        database = self.db()
        named = None if database is None else database.address.named(wrong, doing)
        if named is not None:
            raise named from wrong

    def _store_objects(self, writer: Any, transaction: Any) -> None:
        super()._store_objects(GateWriter(self, writer._stack), transaction)  # noqa: SLF001 - how ZODB hands it over

    def afterCompletion(self, transaction: Any) -> None:  # noqa: N802 - ZODB's name
        """ZODB's hook: a transaction ended, the cache will be tidied."""
        self.shapes.keep_young()
        super().afterCompletion(transaction)

    def abort(self, transaction: Any) -> None:
        """ZODB's hook: changes are forgotten."""
        self._part_from_new_objects()
        super().abort(transaction)

    def tpc_abort(self, transaction: Any) -> None:
        """ZODB's hook: a commit failed."""
        self._part_from_new_objects()
        try:
            transaction.data(self)
        except KeyError:  # a savepoint failed: no commit had begun, and `abort` has cleaned up already
            return
        super().tpc_abort(transaction)

    def _rollback_savepoint(self, state: Any) -> None:
        self._part_from_new_objects()
        super()._rollback_savepoint(state)

    def _part_from_new_objects(self) -> None:
        """Objects that were stored nowhere lose their connection; ZODB does not tell them, so we do."""
        new = dict.fromkeys(self._creating)
        if self._savepoint_storage is not None:
            new.update(dict.fromkeys(self._savepoint_storage.creating))
        leaving = [*self._added.values(), *(self._cache.get(oid) for oid in new)]
        for obj in leaving:
            if isinstance(obj, UvmObject):
                self.shapes.forget(obj)

    def _resetCache(self) -> None:  # noqa: N802 - ZODB's name
        self.shapes.empty_all()
        super()._resetCache()
