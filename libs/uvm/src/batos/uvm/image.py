"""Opening an image, and the ways to read and change it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Self, TypeVar

import stamina
from transaction import TransactionManager
from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZODB.POSException import ConflictError, POSKeyError, ReadOnlyError, StorageError

from batos.uvm.address import Address
from batos.uvm.addresses import resolve
from batos.uvm.calling import Runner
from batos.uvm.database import ImageDatabase
from batos.uvm.errors import (
    Contention,
    ImageInUse,
    ImageUnusable,
    NoImageYet,
    NoSuchMoment,
    UvmError,
)
from batos.uvm.moments import reached
from batos.uvm.objects import UvmObject
from batos.uvm.session import Root, Session, transaction_in, view_in

T = TypeVar("T")
LOBBY = "lobby"
PACKED = "packed"
"""In the root of an image that was packed: the earliest transaction as of which it can be looked at."""
OPENING_ATTEMPTS = 10
"""How often a new image is set up, where several vessels set it up at once."""
RETRY_FIRST_S, RETRY_MOST_S, RETRY_JITTER_S = 0.002, 0.25, 0.05


class Image:
    """An open image. May be used from any thread; each transaction belongs to the thread that runs it.

    Attributes:
        uri: where it was opened.
        read_only: whether it was opened for reading only.
    """

    def __init__(self, database: ImageDatabase, address: Address, *, read_only: bool) -> None:
        self._database = database
        self._address = address
        self.uri = address.uri
        self.read_only = read_only
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def sandbox(self) -> Runner | None:
        """What runs the methods that cycles wrote, in all sessions of this image; None refuses them (`NoSandbox`).

        Whoever sets it closes it; it is not closed with the image.
        """
        return self._database.sandbox

    @sandbox.setter
    def sandbox(self, runner: Runner | None) -> None:
        self._database.sandbox = runner

    def session(self) -> Session:
        """A session of its own, for a thread that runs several transactions or long ones."""
        return Session(self._database.open, writable=not self.read_only)

    def transaction(
        self, *, user: str = "", note: str = "", cycle: str = "", mission: str = ""
    ) -> AbstractContextManager[Root]:
        """One transaction: `with image.transaction() as root:` commits at the end, aborts on an exception.

        Args:
            user: who does it.
            note: what it does, for people.
            cycle: id of the cycle that does it.
            mission: id of the mission that it is done for.

        Raises:
            What `Session.begin` and `Session.commit` raise.
        """
        return transaction_in(self.session, user=user, note=note, cycle=cycle, mission=mission)

    def snapshot(self) -> AbstractContextManager[Root]:
        """The newest state, for reading: `with image.snapshot() as root:`. A change in it raises `ReadOnly`."""
        return view_in(lambda: Session(self._database.open, writable=False))

    def at(self, moment: str | dt.datetime) -> AbstractContextManager[Root]:
        """The state as of a past transaction or time, for reading.

        A time means what the image's transactions say of theirs, and these never go back, whatever the clock did: it
        sees every transaction up to the end of the microsecond that it names. Where the clock was set back, those after
        that follow the last one before it by nanoseconds; name them by their tids.

        Args:
            moment: a tid (16 hexadecimal digits), or a time with its time zone; either may be a text.

        Raises:
            BadMoment: it is neither.
            NoSuchMoment: it lies in the future, before the image's beginning, or was packed away. Also raised by a read
                in the view, where what stood there then was packed away.
        """
        return view_in(lambda: Session(partial(self._open_at, moment), writable=False))

    def run(
        self,
        work: Callable[[Root], T],
        *,
        user: str = "",
        note: str = "",
        cycle: str = "",
        mission: str = "",
        attempts: int = 20,
        timeout_s: float = 60.0,
    ) -> T:
        """Do `work` in a transaction and commit it; start again on a fresh state where others were faster.

        Args:
            work: gets the root; it may be called several times, so it must have no effects outside of the image.
            user: who does it.
            note: what it does, for people.
            cycle: id of the cycle that does it.
            mission: id of the mission that it is done for.
            attempts: how often it is tried at most.
            timeout_s: no attempt begins later than this, in seconds.

        Returns:
            What `work` returned. An object of the image in it must not be used after the call.

        Raises:
            Contention: every attempt met a conflict.
        """
        return self.commit(
            work, user=user, note=note, cycle=cycle, mission=mission, attempts=attempts, timeout_s=timeout_s
        )[0]

    def commit(
        self,
        work: Callable[[Root], T],
        *,
        user: str = "",
        note: str = "",
        cycle: str = "",
        mission: str = "",
        attempts: int = 20,
        timeout_s: float = 60.0,
    ) -> tuple[T, str]:
        """Do what `run` does.

        Returns:
            What `work` returned, and the transaction (where nothing was changed, the newest that it saw).

        Raises:
            Contention: every attempt met a conflict.
        """
        tried = 0
        try:
            for attempt in stamina.retry_context(
                on=ConflictError,
                attempts=attempts,
                timeout=timeout_s,
                wait_initial=RETRY_FIRST_S,
                wait_max=RETRY_MOST_S,
                wait_jitter=RETRY_JITTER_S,
            ):
                tried = attempt.num
                with attempt, self.session() as session:
                    found = work(session.begin())
                    return found, session.commit(user=user, note=note, cycle=cycle, mission=mission)
        except ConflictError as conflict:
            raise Contention(note, tried) from conflict
        raise AssertionError("unreachable: the last attempt returns or raises")

    def last_tid(self) -> str:
        """The newest transaction of the image: 16 hexadecimal digits."""
        try:
            return self._database.newest().hex()
        except Exception as wrong:
            named = self._address.named(wrong, "asking for its newest state")
            if named is None:
                raise
            raise named from wrong

    def close(self) -> None:
        """Abort what still runs and let go of the storage. May be called twice."""
        if not self._closed:
            self._closed = True
            self._database.close()
            self._address.release()

    def _open_at(self, moment: str | dt.datetime, manager: TransactionManager) -> Any:
        newest = self.last_tid()
        tid = min(reached(moment, newest), newest)
        self._refuse_packed(moment, tid)
        connection = self._database.open(manager, at=bytes.fromhex(tid))
        try:
            connection.root()
        except (POSKeyError, NoSuchMoment) as gone:
            connection.close()
            raise NoSuchMoment(moment, "the image had not begun then, or that time was packed away") from gone
        return connection

    def _refuse_packed(self, moment: str | dt.datetime, tid: str) -> None:
        """Some objects still have their states of before the last pack: a view would have holes."""
        with self.snapshot() as root:
            earliest = str(root.get(PACKED, ""))
        if tid < earliest:
            raise NoSuchMoment(moment, f"it was packed away; the earliest transaction to be looked at is {earliest}")


def open_image(uri: str, *, read_only: bool = False) -> Image:
    """Open an image; where there is none yet, make one with an empty lobby.

    Args:
        uri: `file:///abs/live_image.fs[?blob_dir=...]`, `zeo:///path/to/socket[?...]`, `zeo://host:port[?...]` with
            the parameters blob_dir, shared_blob_dir (1 where the server's own folder can be reached), blob_cache_size,
            wait_timeout (seconds), storage and tls (folder of the client's certificate; asked for where the host is not
            this machine); `postgresql://user:password@host:port/database[?...]` with wait_timeout, blob_dir,
            blob_cache_size, sslmode, sslrootcert, sslcert, sslkey and, instead of a host, host (a socket's folder);
            all of these with connection_pool_size and connection_cache_size; or any other scheme that zodburi knows.
        read_only: for reading only; then nothing is made.

    Raises:
        BadImageUri: the address cannot be understood.
        ImageUnreachable: the storage does not answer in time.
        ImageInUse: another process has the file open for writing.
        TlsUnusable: a certificate is missing or unusable.
        ImageRefused: the storage does not let this vessel in.
        ImageUnusable: the storage refuses to open (damaged, no permission).
        NoImageYet: there is nothing to read.
    """
    address = resolve(uri)
    storage = None
    try:
        storage = address.open_storage(read_only)
        database = _database(storage, address)
        image = Image(database, address, read_only=read_only)
        if not read_only:
            image.run(_ensure_lobby, user="uvm", note="an empty lobby", attempts=OPENING_ATTEMPTS)
    except BaseException as wrong:
        if storage is not None:
            storage.close()
        address.release()
        named = _named(wrong, address, storage_opened=storage is not None)
        if named is None:
            raise
        raise named from wrong
    return image


def _named(wrong: BaseException, address: Address, *, storage_opened: bool) -> UvmError | None:
    """The image's own error for what a storage raised while it was opened; None where it needs no other words."""
    if isinstance(wrong, UvmError):
        return None
    away = address.named(wrong, "opening it")
    if away is not None:
        return away
    if isinstance(wrong, LockError):
        return ImageInUse(address.uri)
    if isinstance(wrong, FileNotFoundError | ReadOnlyError):
        return NoImageYet(address.uri)
    if isinstance(wrong, OSError | StorageError) or (isinstance(wrong, Exception) and not storage_opened):
        return ImageUnusable(address.uri, wrong)  # what a damaged file raises is not limited to storage errors
    return None


def _database(storage: Any, address: Address) -> ImageDatabase:
    for attempt in stamina.retry_context(
        on=ConflictError, attempts=OPENING_ATTEMPTS, wait_initial=RETRY_FIRST_S, wait_jitter=RETRY_JITTER_S
    ):
        with attempt:
            return ImageDatabase(storage, address)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _ensure_lobby(root: Root) -> None:
    if LOBBY not in root:
        root[LOBBY] = UvmObject()


def note_packed(root: Root, earliest: str) -> str:
    """Note, within the caller's transaction, what a pack left: the earliest transaction that can be looked at.

    Args:
        root: the image's root in that transaction.
        earliest: 16 hexadecimal digits.

    Returns:
        What is noted now: it never goes back.
    """
    noted = str(root.get(PACKED, ""))
    if earliest <= noted:
        return noted
    root[PACKED] = earliest
    return earliest
