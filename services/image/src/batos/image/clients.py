"""The storage server's side of its clients: who holds the commit lock for too long is thrown out, and the lock is free.

ZEO's own `transaction-timeout` closes such a connection and keeps the lock for ever (ZEO 6.2: `ServerProtocol.close`
marks the connection as closed, so that `connection_lost` does not tell the storage that its client is gone).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ZEO.asyncio.server import Acceptor, Delay, ServerProtocol
from ZEO.StorageServer import StorageServer, ZEOStorage
from ZODB.POSException import StorageError, StorageTransactionError

from batos.image.errors import NO_ROOM
from batos.image.room import Room
from batos.uvm.file_storage import sync
from batos.uvm.zeo_client import EXPELLED

DISK_THREADS = 2
"""How many blobs are written to the disk at a time, beside the thread that serves everybody."""
_PEER = struct.Struct("3i")
_log = logging.getLogger(__name__)


class ClientConnection(ServerProtocol):  # type: ignore[misc]  # ZEO has no types
    """A connection whose end always ends its client's transaction, whoever closes it."""

    def close(self) -> None:
        """Close it, and let go of what its client held."""
        handler = None if self.closed else self.zeo_storage
        super().close()
        if handler is not None:
            try:
                handler.notify_disconnected()
            finally:
                handler.connected = False  # whatever went wrong: the lock manager gives a lock of the dead to the next

    def expel(self, transaction: Any, held_s: float) -> None:
        """Close it without waiting until a client that does not read has read what was sent to it.

        It is told which transaction is gone, so that it knows for certain; a client whose connection takes no more
        bytes will not hear it, and other clients than ours do not listen.

        Args:
            transaction: the client's own id of it.
            held_s: for how long it may hold the commit lock.
        """
        transport = self.sm_protocol.transport
        self.async_("info", {EXPELLED: {"transaction": transaction, "held_s": held_s}})
        self.close()
        transport.abort()

    def message_received(self, message: bytes) -> None:
        """Take a message; one that came in the same packet as the last words of a closed connection is nobody's."""
        if not self.closed:
            super().message_received(message)

    def client(self) -> str:
        """Say who is at the other end, as far as the system knows."""
        transport = self.sm_protocol.transport
        end: socket.socket | None = transport.get_extra_info("socket")
        if end is not None and end.family == socket.AF_UNIX and hasattr(socket, "SO_PEERCRED"):
            pid, _, _ = _PEER.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            return f"process {pid}"
        return str(transport.get_extra_info("peername"))


class ClientHandler(ZEOStorage):  # type: ignore[misc]  # ZEO has no types
    """What a client may ask for. Packing is not among it: it has to heed pins and backups (`batos image pack`)."""

    _unwritten: tuple[str, OSError] | None = None
    """What could not be written of the running transaction, and where: the vote says so."""
    _writing: tuple[Future[None], ...] = ()
    """Its blobs, on their way to the disk."""

    def tpc_finish(self, id: Any) -> Any:  # noqa: A002 - ZEO's name
        """Finish a transaction.

        ZEO itself answers a transaction that it does not know with None, which a client takes for success: one that was
        thrown out and has connected again would believe that it had committed.

        Raises:
            StorageTransactionError: there is no such transaction (any more).
        """
        self._check_tid(id, exc=StorageTransactionError)
        finished = super().tpc_finish(id)
        self._room.found()
        return finished

    def pack(self, time: float, wait: bool = True) -> None:
        """Refuse.

        Raises:
            StorageError: always.
        """
        del time, wait
        raise StorageError("an image is packed by its own vessel, which heeds pins and backups: use `batos image pack`")

    def storea(self, oid: bytes, serial: bytes, data: bytes, id: Any) -> None:  # noqa: A002 - ZEO's name
        """Take an object.

        Nobody waits for an answer to this message nor to those of a blob: ZEO itself closes the connection where one
        fails, and the client tries again for ever.
        """
        with self._noted(tempfile.gettempdir()):
            super().storea(oid, serial, data, id)

    def storeBlobStart(self) -> None:  # noqa: N802 - ZEO's name
        """Make a file for a blob that begins to come."""
        with self._noted(self.storage.temporaryDirectory()):
            super().storeBlobStart()

    def storeBlobChunk(self, chunk: bytes) -> None:  # noqa: N802 - ZEO's name
        """Take a part of a blob, the whole of it: ZEO itself does not notice when a full disk takes a piece only."""
        if self.blob_tempfile is None:
            return  # no file could be made for it
        with self._noted(self.storage.temporaryDirectory()):
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self.blob_tempfile[0], rest) :]

    def storeBlobEnd(self, oid: bytes, serial: bytes, data: bytes, id: Any) -> None:  # noqa: A002, N802 - ZEO's names
        """Take the whole of a blob, as far as there is a file with it, and begin to write it to the disk.

        The storage waits for the disk when it is voted, in the thread that serves everybody: by then this is done.
        """
        self._check_tid(id, exc=StorageTransactionError)
        if self.blob_tempfile is not None:
            _, path = self.blob_tempfile
            with self._noted(self.storage.temporaryDirectory()):
                super().storeBlobEnd(oid, serial, data, id)
                self._writing += (self.server.disk.submit(sync, path),)

    @contextlib.contextmanager
    def _noted(self, where: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._unwritten = self._unwritten or (where, error)

    def vote(self, tid: Any) -> Any:
        """Wait for the commit lock and write the transaction, unless something of it is missing already."""
        self._check_tid(tid, exc=StorageTransactionError)
        for written in self._writing:
            if not written.done():
                return self._vote_after(written, tid)
            with self._noted(self.storage.temporaryDirectory()):
                written.result()
        if self._unwritten is not None:
            where, error = self._unwritten
            self.tpc_abort(tid)
            raise self._refused(where, error) from error
        return super().vote(tid)

    def _vote_after(self, written: Future[None], tid: Any) -> Delay:
        """Answer a vote when a blob is on the disk, or the next one is."""
        answer = Delay()
        transaction = self.transaction

        def vote() -> None:
            if self.transaction is not transaction:
                return  # its client has given it up, or is gone
            try:
                voted = self.vote(tid)
            except Exception:  # noqa: BLE001 - it is what the client is answered
                answer.error(sys.exc_info())
                return
            if isinstance(voted, Delay):
                voted.set_sender(answer.msgid, answer.protocol)
            else:
                answer.reply(voted)

        written.add_done_callback(lambda _: self.call_soon_threadsafe(vote))
        return answer

    def _vote(self, delay: Any = None) -> Any:
        try:
            return super()._vote(delay)
        except OSError as error:
            raise self._refused(self.storage.getName(), error) from error

    def _refused(self, where: str, error: OSError) -> StorageError:
        _log.error("a commit was refused: %s: %s", where, error)
        nothing = "nothing of this transaction is stored, all that was stored stays readable"
        if error.errno not in NO_ROOM:
            return StorageError(
                f"the image cannot write ({where}: {error.strerror or error}): {nothing}; see to that disk and its "
                "folders, and look for damage with `batos image verify`"
            )
        self._room.missing(where, error)
        return StorageError(
            f"the image's disk is full ({where}: {error.strerror}): {nothing}; free space there, or give back what "
            "packing can reclaim with `batos image pack`"
        )

    @property
    def _room(self) -> Room:
        room: Room = self.server.room
        return room

    def _clear_transaction(self) -> None:
        self._unwritten = None
        self._writing = ()
        super()._clear_transaction()


class ClientAcceptor(Acceptor):  # type: ignore[misc]  # ZEO has no types
    """Accepts clients."""

    def factory(self) -> ClientConnection:
        """Make the protocol of a new connection."""
        return ClientConnection(self.event_loop, self.addr, self.storage_server.create_client_handler(), self.msgpack)


class ClientServer(StorageServer):  # type: ignore[misc]  # ZEO has no types
    """ZEO's server with these clients."""

    def __init__(
        self, address: Any, storages: dict[str, Any], *, tls: Any, commit_timeout_s: float, room: Room
    ) -> None:
        """Listen.

        Args:
            address: a path, or host and port.
            storages: by name.
            tls: what clients have to show.
            commit_timeout_s: seconds for which a client may hold the commit lock.
            room: is told when a commit finds the disk full, and when one is stored again.
        """
        self.room = room
        self.disk = ThreadPoolExecutor(DISK_THREADS, "image-disk")
        super().__init__(address, storages, ssl=tls, Acceptor=ClientAcceptor)
        self.deadlines = {
            name: CommitDeadline(self.acceptor.event_loop, commit_timeout_s) for name in self.lock_managers
        }
        for name, manager in self.lock_managers.items():
            manager.timeout = self.deadlines[name]

    def create_client_handler(self) -> ClientHandler:
        """Make what serves a new client."""
        return ClientHandler(self, self.read_only)


class CommitDeadline:
    """In the place of ZEO's timeout thread: a timer of the server's loop, in whose thread the lock is taken and freed.

    Attributes:
        expelled: how many clients were thrown out.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.expelled = 0

    def begin(self, client: Any) -> None:
        """A client has the lock from now on."""
        self._timer = self._loop.call_later(self._seconds, self._expired, client)

    def end(self, client: Any) -> None:
        """It has given it back."""
        del client
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_alive(self) -> bool:
        """Whether it watches; for ZEO's own status."""
        return True

    def _expired(self, client: Any) -> None:
        self.expelled += 1
        transaction = client.transaction
        user, note = (transaction.user, transaction.description) if transaction is not None else (b"", b"")
        _log.warning(
            "%s held the commit lock for more than %g s and is thrown out; its transaction (%r, %r) is not stored",
            client.connection.client(),
            self._seconds,
            user.decode(errors="replace"),
            note.decode(errors="replace"),
        )
        client.connection.expel(transaction.id if transaction is not None else None, self._seconds)
