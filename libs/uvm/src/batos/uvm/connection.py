"""The image's own ZODB connection: it writes only what belongs to the image, and keeps shapes true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transaction.interfaces import DoomedTransaction, TransactionFailedError
from ZODB.Connection import Connection
from ZODB.POSException import POSKeyError

from batos.uvm.errors import NoSuchMoment, ReadOnly, SessionMisuse
from batos.uvm.gate import ROLLED_BACK, GateWriter, is_left_over
from batos.uvm.objects import UvmObject
from batos.uvm.paths import path_of
from batos.uvm.shapes import ShapeTable


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
        try:
            super().register(obj)
        except TransactionFailedError as wrong:
            self.complain(wrong, "changing an object")
            raise

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
        if is_left_over(obj):
            raise SessionMisuse(ROLLED_BACK)
        try:
            super().setstate(obj)
        except Exception as wrong:
            self.complain(wrong, "reading an object")
            raise

    def complain(self, wrong: BaseException, doing: str) -> None:
        """Raise the image's own error where `wrong` says that the transaction is over, or the storage away or refusing.

        In a view of the past a record that is missing was packed away.
        """
        if isinstance(wrong, DoomedTransaction):
            raise SessionMisuse("this transaction is doomed: it can only be aborted") from wrong
        if isinstance(wrong, TransactionFailedError):
            raise SessionMisuse("a savepoint of this transaction failed: it can only be aborted") from wrong
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
        position, index, creating = state
        super()._rollback_savepoint((position, index, creating.copy()))  # ZODB goes on writing into what it is given

    def _invalidate_creating(self, creating: Iterable[bytes] | None = None) -> None:
        """ZODB's hook: new objects are parted from this connection, with the state that they have in memory.

        ZODB parts those that have none there as well: lists and objects are broken then, trees seem to be empty. They
        leave the cache alone, so that whoever asks them is told. Their ids are free: another object may get one, or
        they were stored after all, by a commit whose answer was lost; then each is read like any other.
        """
        made = list(self._creating if creating is None else creating)
        for oid in made:
            obj = self._cache.get(oid)
            if obj is not None and obj._p_changed is None:  # noqa: SLF001 - ZODB's public protocol has underscores
                del self._cache[oid]
        super()._invalidate_creating(made)
        if creating is None:
            self._creating.clear()

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
