"""A session: one thread's conversation with the image, one transaction after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Self

import transaction
from transaction.interfaces import InvalidSavepointRollbackError

from batos.uvm.errors import CommitFateUnknown, SessionMisuse, Transient

Root = MutableMapping[str, Any]
"""The image's root: `root['lobby']` is the object from which all is reached; the growing trees stand beside it."""


class Savepoint:
    """A point within a transaction to which it can go back."""

    def __init__(self, point: Any) -> None:
        self._point = point

    def rollback(self) -> None:
        """Forget what was changed since.

        Raises:
            SessionMisuse: the transaction has ended, or went back to an earlier savepoint.
        """
        try:
            self._point.rollback()
        except InvalidSavepointRollbackError as wrong:
            raise SessionMisuse(
                "this savepoint is gone: its transaction ended, or went back to an earlier one"
            ) from wrong


class Session:
    """A connection to the image with a transaction manager of its own.

    Between `begin` and `commit` or `abort` it belongs to the thread that began, and so do all objects reached
    through it. It can be used for any number of transactions. Close it, or use it in a `with` statement.
    """

    def __init__(self, open_connection: Callable[[transaction.TransactionManager], Any], *, writable: bool) -> None:
        self._manager = transaction.TransactionManager(explicit=True)
        self._connection = open_connection(self._manager)
        self._writable = writable
        self._owner: int | None = None
        self._tid = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def begin(self) -> Root:
        """Start a transaction on the newest state. All that any client saw acknowledged is in it.

        Returns:
            The root mapping.

        Raises:
            ImageUnreachable: the storage does not answer.
            SessionMisuse: a transaction runs already, or the session is closed.
        """
        connection = self._open_connection()
        if self._owner is not None:
            raise SessionMisuse("a transaction runs already in this session: commit or abort it first")
        connection.writable = self._writable
        try:
            self._manager.begin()
            self._owner = threading.get_ident()
            self._tid = _seen_by(connection)
            root = self.root
        except BaseException as wrong:
            self._end(self._manager.abort)
            connection.complain(wrong, "beginning a transaction")
            raise
        return root

    @property
    def root(self) -> Root:
        """The image's root as the running transaction sees it."""
        self._in_transaction()
        return self._connection.root()  # type: ignore[no-any-return]  # ZODB has no types

    @property
    def snapshot_tid(self) -> str:
        """The newest transaction that the running one sees: 16 hexadecimal digits."""
        return self._tid

    @property
    def doomed(self) -> bool:
        """Whether the running transaction can only be aborted."""
        self._in_transaction()
        return bool(self._manager.isDoomed())

    def commit(self, *, user: str = "", note: str = "", cycle: str = "", mission: str = "") -> str:
        """Store what was changed. Whatever happens, the transaction has ended afterwards.

        Args:
            user: who did it.
            note: what it did, for people.
            cycle: id of the cycle that did it.
            mission: id of the mission that it was done for.

        Returns:
            The tid under which it was stored; where nothing was changed, `snapshot_tid`.

        Raises:
            ConflictError: (ZODB's) another transaction changed the same objects; nothing was stored.
            NotStorable: something does not belong in the image; nothing was stored.
            ImageUnreachable: the storage does not answer; nothing was stored.
            LockHeldTooLong: this session stood still at the very end and was thrown out; nothing was stored.
            DiskFull: a file could not grow; nothing was stored.
            CommitFateUnknown: the storage went away at the very end.
            SessionMisuse: the transaction is doomed, or a savepoint of it failed.
        """
        self._in_transaction()
        connection = self._connection
        current = self._manager.get()
        if user:
            current.user = user
        if note:
            current.note(note)
        for name, value in (("cycle", cycle), ("mission", mission)):
            if value:
                current.setExtendedInfo(name, value)
        connection.last_commit = None
        connection.finishing = False
        try:
            self._manager.commit()
        except BaseException as wrong:
            unfinished = connection.finishing
            self._end(self._manager.abort)
            if unfinished and not isinstance(wrong, Transient):  # a storage that knows raises the image's own error
                raise CommitFateUnknown(connection.db().address.uri) from wrong
            connection.complain(wrong, "committing")
            raise
        self._owner = None
        return connection.last_commit.hex() if connection.last_commit is not None else self._tid

    def abort(self) -> None:
        """Forget what was changed since `begin`. Does nothing where no transaction runs."""
        if self._owner is None:
            return
        self._in_transaction()
        self._end(self._manager.abort)

    def doom(self) -> None:
        """Make sure that the running transaction will never be committed."""
        self._in_transaction()
        self._manager.doom()

    def savepoint(self) -> Savepoint:
        """Remember the state so far within the running transaction.

        Raises:
            NotStorable: something does not belong in the image. The transaction can only be aborted.
            SessionMisuse: an earlier savepoint failed.
        """
        self._in_transaction()
        try:
            return Savepoint(self._manager.savepoint())
        except Exception as wrong:
            self._connection.complain(wrong, "taking a savepoint")
            raise

    def read_current(self, obj: Any) -> None:
        """Let the commit fail with a conflict if another transaction has changed `obj` meanwhile."""
        self._in_transaction()
        obj._p_activate()  # noqa: SLF001 - ZODB's public protocol; on a ghost the declaration would always fail
        self._connection.readCurrent(obj)

    def close(self) -> None:
        """Abort what runs and give the connection back. May be called twice."""
        connection = self._connection
        if connection is None:
            return
        self.abort()
        if connection.spoiled:
            connection.cacheMinimize()  # a refused change may have reached the memory of an object
            connection.spoiled = False
        connection.writable = True
        self._connection = None
        connection.close()

    def _open_connection(self) -> Any:
        if self._connection is None:
            raise SessionMisuse("this session is closed")
        return self._connection

    def _in_transaction(self) -> None:
        self._open_connection()
        if self._owner is None:
            raise SessionMisuse("no transaction runs in this session: call begin() first")
        if self._owner != threading.get_ident():
            raise SessionMisuse("this transaction belongs to the thread that began it")

    def _end(self, how: Callable[[], None]) -> None:
        self._owner = None
        try:
            how()
        except transaction.interfaces.NoTransaction:
            return


def seen_tid(root: Root) -> str:
    """Up to which transaction a view sees, by its root: 16 hexadecimal digits. What that view shows does not change."""
    return _seen_by(root._p_jar)  # type: ignore[attr-defined]  # noqa: SLF001 - the root is a persistent mapping


def changed_in(root: Root) -> set[bytes]:
    """The ids of the stored objects that the running transaction has changed so far; new ones are not among them."""
    return set(root._p_jar.changed())  # type: ignore[attr-defined]  # noqa: SLF001 - the root is a persistent mapping


def _seen_by(connection: Any) -> str:
    """The newest tid in the connection's snapshot. ZODB keeps the first tid that is not in it."""
    before: bytes | None = connection.before or getattr(connection._storage, "_start", None)  # noqa: SLF001 - there is no public name for it
    if before is None:  # a storage with snapshots of its own
        return bytes(connection._storage.lastTransaction()).hex()  # noqa: SLF001 - as above
    return f"{int.from_bytes(before, 'big') - 1:016x}"


@contextmanager
def transaction_in(
    open_session: Callable[[], Session], *, user: str, note: str, cycle: str, mission: str
) -> Iterator[Root]:
    """Run one transaction in a session of its own: committed at the end, aborted on an exception."""
    with open_session() as session:
        yield session.begin()
        session.commit(user=user, note=note, cycle=cycle, mission=mission)


@contextmanager
def view_in(open_session: Callable[[], Session]) -> Iterator[Root]:
    """Read in a session of its own."""
    with open_session() as session:
        yield session.begin()
