"""ZEO's client, which says more precisely what became of a commit and of a blob that found no room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ZEO.asyncio.client import ClientThread
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.blob import rename_or_copy_blob
from ZODB.POSException import StorageTransactionError

from batos.uvm.commit_errors import DiskFull, LockHeldTooLong, no_room
from batos.uvm.errors import ImageUnreachable
from batos.uvm.file_storage import sync

EXPELLED = "expelled"
"""Key under which the image tells a client, with its last words, which transaction it threw out and after how long."""
STOOD_STILL_S = 0.5
"""A finish that comes so long after the vote first hears what the image has said meanwhile."""
HEARING_S = 0.02
ENDING_S = 1.0
"""How long what was cancelled may take to end, in seconds."""
TURNS = 3
"""Of the loop, until the socket of a connection that was given up is closed: TLS, transport, socket."""
PIECE_BYTES = 59_000
"""Of a blob, in one message: as ZEO has it."""
NOT_RECEIVED = "the blob could not be brought there to be read, and stays in the image as it is"
LOST = "the connection was lost before the commit was finished, so that nothing of it is stored"


class EndingLoop(asyncio.SelectorEventLoop):
    """An event loop that ends its tasks and its connections when it is closed: ZEO leaves open what it was making."""

    def close(self) -> None:
        """End what still runs, and close."""
        if not self.is_closed():
            self.run_until_complete(self._end())
        super().close()

    async def _end(self) -> None:
        running = asyncio.all_tasks(self) - {asyncio.current_task(self)}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=ENDING_S)
        connections: Mapping[int, asyncio.WriteTransport] = self._transports  # type: ignore[attr-defined]  # no public name
        for connection in list(connections.values()):
            connection.abort()
        for _ in range(TURNS):
            await asyncio.sleep(0)


class ImageThread(ClientThread):  # type: ignore[misc]  # ZEO has no types
    """The thread in which a client talks to its image."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.loop = EndingLoop()
        super().__init__(*args, **options)


class ImageClient(ClientStorage):  # type: ignore[misc]  # ZEO has no types
    """A connection to an image vessel."""

    def __init__(self, target: Any, *, uri: str, wait_s: float, **options: Any) -> None:
        """Connect.

        Args:
            target: path of a socket, or host and port.
            uri: the image's address, for errors.
            wait_s: how long an answer is waited for.
            options: ZEO's own.
        """
        self._uri = uri
        self._wait_s = wait_s
        self._expelled: tuple[int, float] | None = None
        self._voted_at = 0.0
        self._not_received: dict[tuple[Any, ...], OSError] = {}
        super().__init__(target, wait_timeout=wait_s, _client_factory=ImageThread, **options)
        self._call = self._asked

    def info(self, dict: dict[str, Any]) -> None:  # noqa: A002 - ZEO's name
        """ZEO's hook, in its own thread: the server tells something about itself, or says that it throws us out."""
        told = dict.pop(EXPELLED, None)
        if told is not None:
            self._expelled = told["transaction"], told["held_s"]
        super().info(dict)

    def tpc_finish(self, txn: Any, *args: Any) -> Any:
        """ZODB's hook: finish a commit that was voted for.

        Raises:
            LockHeldTooLong: the image had thrown this transaction out; nothing of it is stored.
            ImageUnreachable: the connection was lost before the finish was asked for; nothing of it is stored.
            ClientDisconnected: it was lost after that; nobody knows.
        """
        try:
            if time.monotonic() - self._voted_at > STOOD_STILL_S:
                # A process that was stopped has not read yet what came: it would finish into a closed connection.
                self._server.io_call(asyncio.sleep(HEARING_S))
            self._check_trans(txn, "tpc_finish")
        except (ClientDisconnected, StorageTransactionError) as wrong:
            raise self._not_stored(txn) from wrong
        try:
            return super().tpc_finish(txn, *args)
        except StorageTransactionError as wrong:
            # It was asked of a server, or of a connection, that had never seen its vote.
            raise self._not_stored(txn) from wrong
        except ClientDisconnected as wrong:
            if self._was_expelled(txn):
                raise self._not_stored(txn) from wrong
            raise

    def _was_expelled(self, txn: Any) -> bool:
        return self._expelled is not None and self._expelled[0] == id(txn)

    def _not_stored(self, txn: Any) -> LockHeldTooLong | ImageUnreachable:
        if self._expelled is not None and self._was_expelled(txn):
            return LockHeldTooLong(self._uri, self._expelled[1])
        return ImageUnreachable(self._uri, self._wait_s, "committing", LOST)

    def tpc_vote(self, txn: Any) -> Any:
        """ZODB's hook: vote; from the answer on, this client holds the commit lock."""
        voted = super().tpc_vote(txn)
        self._voted_at = time.monotonic()
        return voted

    def tpc_begin(self, txn: Any, *args: Any, **options: Any) -> None:
        """ZODB's hook: begin a commit. What was said of an earlier one, whose id this may have again, is forgotten."""
        super().tpc_begin(txn, *args, **options)
        self._expelled = None

    def tpc_abort(self, txn: Any, *args: Any, **options: Any) -> None:
        """ZODB's hook: give a commit up. ZEO itself would leave its blobs lying in the folder of blobs."""
        try:
            held = txn.data(self)
        except KeyError:
            held = None
        try:
            super().tpc_abort(txn, *args, **options)
        finally:
            for _, path in held.blobs if held is not None else ():
                Path(path).unlink(missing_ok=True)

    def storeBlob(  # noqa: N802 - ZODB's name
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, version: str, txn: Any
    ) -> Any:
        """ZODB's hook: take a blob's file, which is the storage's from now on.

        It is brought to the folder of blobs first, which may be on another disk. ZEO itself would leave it lying there,
        or a part of it, when that disk is full or the connection is lost.

        Raises:
            DiskFull: there is no room in the folder of blobs.
        """
        del version  # ZODB has none any more
        near = ""
        try:
            held = self._check_trans(txn, "storeBlob")
            self.fshelper.getPathForOID(oid, create=True)
            descriptor, near = self.fshelper.blob_mkstemp(oid, serial)
            os.close(descriptor)
            rename_or_copy_blob(blobfilename, near)
            serials = self.store(oid, serial, data, "", txn)
            if self.shared_blob_dir:
                sync(near)  # the server only gives it another name
                self._async("storeBlobShared", oid, serial, data, Path(near).name, id(txn))
            else:
                self._async_iter(_sent(near, oid, serial, data, id(txn)))
                held.storeBlob(oid, near)
        except BaseException as wrong:
            for left in filter(None, (near, blobfilename)):
                with contextlib.suppress(OSError):
                    Path(left).unlink()
            full = no_room(wrong, str(self.fshelper.base_dir))
            if full is None:
                raise
            raise full from wrong
        return serials

    def loadBlob(self, oid: bytes, serial: bytes) -> str:  # noqa: N802 - ZODB's name
        """ZODB's hook: bring a blob to the folder of blobs, unless it is there.

        Raises:
            DiskFull: there is no room in that folder.
        """
        try:
            return str(super().loadBlob(oid, serial))
        except OSError as wrong:  # at its folder or its lock
            raise self._unread(wrong) from wrong

    def _asked(self, method: str, *args: Any, **options: Any) -> Any:
        """Ask the server, as ZEO does; of a blob that was sent make sure that all of it came.

        Whoever asks for a blob has its lock: nobody else receives the same one meanwhile.
        """
        answer = self._server.call(method, *args, **options)
        wrong = self._not_received.pop(args, None) if method == "sendBlob" else None
        if wrong is not None and not Path(self.fshelper.getBlobFilename(*args)).exists():
            raise self._unread(wrong) from wrong
        return answer

    def _unread(self, wrong: OSError) -> DiskFull | OSError:
        return no_room(wrong, str(self.fshelper.base_dir), lost=NOT_RECEIVED) or wrong

    def receiveBlobStart(self, oid: bytes, serial: bytes) -> None:  # noqa: N802 - ZEO's name
        """ZEO's hook, in its own thread: a blob begins to come.

        What these three raise ZEO logs, and goes on: it would take what came of a blob for the whole of it.
        """
        self._not_received.pop((oid, serial), None)
        with self._remembered(oid, serial):
            self._arriving(oid, serial).unlink(missing_ok=True)  # a connection that was lost leaves a part
            super().receiveBlobStart(oid, serial)

    def receiveBlobChunk(self, oid: bytes, serial: bytes, chunk: bytes) -> None:  # noqa: N802 - ZEO's name
        """ZEO's hook, in its own thread: a part of it comes."""
        if (oid, serial) in self._not_received:
            return
        with self._remembered(oid, serial):
            with self._arriving(oid, serial).open("r+b", buffering=0) as file:
                file.seek(0, os.SEEK_END)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
            self._blob_data_bytes_loaded += len(chunk)
            self._check_blob_size(self._blob_data_bytes_loaded)

    def receiveBlobStop(self, oid: bytes, serial: bytes) -> None:  # noqa: N802 - ZEO's name
        """ZEO's hook, in its own thread: it has come; where a part of it could not be written, none of it is kept."""
        if (oid, serial) not in self._not_received:
            with self._remembered(oid, serial):
                super().receiveBlobStop(oid, serial)
        if (oid, serial) in self._not_received:
            self._arriving(oid, serial).unlink(missing_ok=True)

    def _arriving(self, oid: bytes, serial: bytes) -> Path:
        return Path(f"{self.fshelper.getBlobFilename(oid, serial)}.dl")

    @contextlib.contextmanager
    def _remembered(self, oid: bytes, serial: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as wrong:
            self._not_received[oid, serial] = wrong


def _sent(path: str, oid: bytes, serial: bytes, data: bytes, transaction: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What is said to the server to send it a blob; the file is read as the connection takes it."""
    yield "storeBlobStart", ()
    with Path(path).open("rb") as file:
        while chunk := file.read(PIECE_BYTES):
            yield "storeBlobChunk", (chunk,)
    yield "storeBlobEnd", (oid, serial, data, transaction)
