"""RelStorage over PostgreSQL, held to what an image promises. Imported only where such an image is opened.

Waits are bounded, the password stands in no name, and any thread may ask for the newest state.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from relstorage.adapters.interfaces import UnableToAcquireLockError, UnableToAcquirePackUndoLockError
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.adapters.postgresql.connmanager import Psycopg2ConnectionManager
from relstorage.adapters.postgresql.drivers import select_driver
from relstorage.options import Options
from relstorage.storage import RelStorage
from relstorage.storage.interfaces import StorageDisconnectedDuringCommit
from ZODB.mvccadapter import HistoricalStorageAdapter
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64

from batos.uvm.errors import ImageRefused, NoImageYet, PackUnderWay, UvmError

DRIVER = "psycopg2"
"""Named, so that none that happens to be installed beside it is taken."""
CACHE_MB = 20
"""Memory for records of each open image, shared by its connections."""
PREPARING = -0x6261746F73
"""Advisory lock of whoever makes the tables. RelStorage uses -1, -2 and all that is not negative."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
KEEPALIVE_S = 10
_SHORTEST_CONNECT_S = 2

_AWAY = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05"})
"""The server ends this connection, or takes none yet."""
_REFUSED = re.compile(r" failed: \S+:  (?P<why>.+)")
"""How libpq tells what the server itself answered; what it found out alone has no severity before it."""
_SOON = (
    "starting up", "shutting down", "in recovery", "not yet accepting", "too many clients", "connection slots",
    "too many connections",
)  # fmt: skip
_TLS = ("certificate", "private key", "does not support SSL", "SSL error")
"""What libpq finds out about TLS: it will find the same again."""
_ADVICE = {
    **dict.fromkeys(
        _TLS, "correct sslmode, sslrootcert, sslcert and sslkey in the address, or the server's certificate"
    ),
    "password": "correct user and password in the address",
    "does not exist": "make it on the server (createuser, createdb), or correct the address",
    "": "correct the address, or what the server admits (pg_hba.conf)",
}


class _OneLine(logging.Filter):
    """RelStorage logs a traceback for each connection that an outage ends, and then opens another: a line will do."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = " ".join(record.getMessage().split()), ()
        record.exc_info = None
        return True


for _name in ("relstorage.adapters.connections", "relstorage.adapters.postgresql.connmanager"):
    logging.getLogger(_name).addFilter(_OneLine())


class Connections(Psycopg2ConnectionManager):  # type: ignore[misc]  # RelStorage has no types
    """RelStorage's, which tries for as long as the address allows, and adds the password only when it connects."""

    def __init__(self, driver: Any, place: str, options: Options, *, password: str | None, wait_s: float) -> None:
        super().__init__(driver, dsn=place, options=options)
        self._password = password
        self._wait_s = wait_s
        self._connect = driver.connect_with_isolation
        self._db_connect_with_isolation = self._connect_in_time

    def _connect_in_time(self, place: str, **settings: Any) -> Any:
        deadline = time.monotonic() + self._wait_s
        pause = PAUSE_FIRST_S
        while True:
            left = max(_SHORTEST_CONNECT_S, math.ceil(deadline - time.monotonic()))
            try:
                return self._connect(make_dsn(place, password=self._password, connect_timeout=left), **settings)
            except psycopg2.OperationalError as wrong:
                if _refusal(wrong) or time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, PAUSE_MOST_S)


class Past(HistoricalStorageAdapter):  # type: ignore[misc]  # ZODB has no types
    """ZODB's view of a past moment, which also ends its transaction in the database when it is put aside."""

    def afterCompletion(self) -> None:  # noqa: N802 - ZODB's name
        """ZODB's hook: nothing is read for a while."""
        self._storage.afterCompletion()


class RelationalStorage(RelStorage):  # type: ignore[misc]  # RelStorage has no types
    """RelStorage's, with a way to ask for the newest state from any thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._asking = threading.Lock()
        super().__init__(*args, **options)

    def newest(self) -> bytes:
        """The newest transaction in the database, also where this process has not heard of it."""
        with self._asking:
            self.poll_invalidations()
            try:
                return bytes(self.lastTransaction())
            finally:
                self.afterCompletion()

    def pack_until(self, stop: bytes) -> bytes:
        """Forget the states that no view from the newest transaction up to `stop` on needs, and lost objects.

        Clients go on meanwhile. PostgreSQL gives the space back when it vacuums.

        Returns:
            That transaction; empty where there was nothing to forget.

        Raises:
            PackUnderWay: somebody else packs it.
        """
        chosen = self._adapter.packundo.choose_pack_transaction(u64(stop))
        if chosen is None:
            return b""
        try:
            self.pack(chosen, referencesf)
        except UnableToAcquirePackUndoLockError as busy:
            raise PackUnderWay from busy
        return bytes(p64(chosen))

    def before_instance(self, before: bytes) -> Past:
        """ZODB's hook: a view of the state before that transaction."""
        return Past(self.new_instance(before=before), before)


def open_database(
    uri: str,
    place: Mapping[str, Any],
    password: str | None,
    *,
    wait_s: float,
    blob_dir: str,
    blob_cache_bytes: int,
    read_only: bool,
) -> RelationalStorage:
    """Open the storage; make its tables where there are none yet.

    Args:
        uri: the image's address, for errors.
        place: parameters of libpq: where, which database, which user, TLS. Without the password.
        password: of that user; None where none is needed.
        wait_s: how long to wait for the server, and for a lock in it.
        blob_dir: folder of blobs that were seen.
        blob_cache_bytes: how large it may grow.
        read_only: for reading only; then nothing is made.

    Raises:
        NoImageYet: it is for reading only, and the database has no tables.
        ImageRefused: its tables are others.
        psycopg2.OperationalError: the server does not answer, or refuses; `absence` has words for it.
    """
    options = Options(
        name=f"postgresql:{place['host']}:{place['port'] or ''}/{place['dbname']}",
        keep_history=True,
        read_only=read_only,
        create_schema=not read_only,
        driver=DRIVER,
        commit_lock_timeout=math.ceil(wait_s),
        cache_local_mb=CACHE_MB,
        blob_dir=blob_dir,
        blob_cache_size=blob_cache_bytes,
    )
    bounded = {
        "keepalives_idle": KEEPALIVE_S,
        "keepalives_interval": KEEPALIVE_S,
        "keepalives_count": max(1, round(wait_s / KEEPALIVE_S) - 1),
        "tcp_user_timeout": round(wait_s * 1000),
    }
    where = make_dsn(**place, **bounded)
    connections = Connections(select_driver(DRIVER), where, options, password=password, wait_s=wait_s)
    adapter = PostgreSQLAdapter(dsn=where, options=options, connmanager=connections)
    # RelStorage's own adapter does this only for connections that it made itself.
    connections.add_on_store_opened(adapter.mover.on_store_opened)
    connections.add_on_load_opened(adapter.mover.on_load_opened)
    connections.add_on_store_opened(adapter.locker.on_store_opened)
    with _alone(connections, wait_s) as cursor:
        cursor.execute("SELECT to_regclass('object_state') IS NOT NULL, to_regclass('current_object') IS NOT NULL")
        has_states, has_history = cursor.fetchone()
        if read_only and not has_states:
            raise NoImageYet(uri)
        if has_states and not has_history:
            raise ImageRefused(
                uri, "its tables keep no history", "convert them (zodbconvert), or name another database"
            )
        return RelationalStorage(adapter, options=options)


@contextmanager
def _alone(connections: Connections, wait_s: float) -> Iterator[Any]:
    """Several vessels that open a new image at once would make the same tables: they take turns."""
    connection, cursor = connections.open(application_name="batos: opening")
    try:
        cursor.execute("SET lock_timeout = %s", (round(wait_s * 1000),))
        cursor.execute("SELECT pg_advisory_lock(%s)", (PREPARING,))
        yield cursor
    finally:
        connections.rollback_and_close(connection, cursor)


def absence(uri: str, wrong: BaseException) -> str | UvmError | None:
    """What to say where the database is not there (why, in a few words) or refuses (an error); None: it is neither."""
    cause = _away(wrong)
    if cause is None:
        return None
    refused = _refusal(cause)
    if not refused:
        return _line(cause)
    advice = next((advice for words, advice in _ADVICE.items() if words in refused), _ADVICE[""])
    return ImageRefused(uri, refused, advice)


def _away(wrong: BaseException) -> BaseException | None:
    """The error that says that the server is not there, or refuses to be spoken to."""
    cause: BaseException | None = wrong
    while cause is not None:
        lost = _is_lost(cause)
        if lost is not None:
            return cause if lost else None
        if type(cause) is not Exception and not isinstance(cause, UnableToAcquireLockError):
            return None
        cause = cause.__cause__ or cause.__context__  # RelStorage hides what went wrong in a lock or in its tidying up
    return None


def _is_lost(error: BaseException) -> bool | None:
    """Whether the connection is gone, or was never there; None where the error is not one of the database."""
    if isinstance(error, StorageDisconnectedDuringCommit | psycopg2.InterfaceError):
        return True
    if not isinstance(error, psycopg2.DatabaseError):
        return None
    code: str | None = error.pgcode
    if code is None:
        return isinstance(error, psycopg2.OperationalError) or type(error) is psycopg2.DatabaseError
    return code in _AWAY or code.startswith("08")


def _refusal(error: BaseException) -> str:
    """Why this server will never let this vessel in; empty where waiting may help."""
    line = _line(error)
    if any(word in line for word in _TLS):
        return line.rpartition(" failed: ")[2]
    found = _REFUSED.search(str(error))
    if found is None or any(soon in found["why"] for soon in _SOON):
        return ""
    return found["why"]


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
