"""ZEO's storage server in a thread of its own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# ZEO takes uvloop wherever it can be imported, and beside uvloop its invalidations come out of order (stale reads).
sys.modules["uvloop"] = None  # type: ignore[assignment]

from ZEO.StorageServer import StorageServer  # noqa: E402 - after the line above

from batos.image.errors import StorageUnusable  # noqa: E402
from batos.image.listening import Listening  # noqa: E402
from batos.image.storage import open_storage  # noqa: E402

STORAGE_NAME = "1"
JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """What the server has done since its start; `clients`, `waiting` and `size_bytes` are as of now."""

    clients: int
    waiting: int
    loads: int
    stores: int
    commits: int
    aborts: int
    conflicts: int
    size_bytes: int


class ImageServer:
    """Serves one folder at one address. Its event loop is a thread's own: nothing else runs in it.

    No `transaction-timeout` is set: when it fires the server keeps its commit lock for ever (ZEO 6.2).
    """

    def __init__(self, folder: Path, listening: Listening, on_death: Callable[[BaseException | None], None]) -> None:
        """Begin closed.

        Args:
            folder: of the image's files.
            listening: where to be reached.
            on_death: called, in the server's thread, when the server ends without having been closed.
        """
        self._folder = folder
        self._listening = listening
        self._on_death = on_death
        self._server: Any = None
        self._storage: Any = None
        self._thread = threading.Thread(target=self._serve, name="image-server", daemon=True)
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._closing = False

    def open(self) -> None:
        """Open the storage and listen. Blocks; large images whose index is missing are read through.

        Raises:
            StorageUnusable: the files or the address cannot be used.
        """
        self._listening.check()
        self._storage = open_storage(self._folder)
        try:
            self._listening.clear()
        except StorageUnusable:
            self._storage.close()
            raise
        self._thread.start()
        self._opened.wait()
        if self._error is not None:
            self._storage.close()
            raise self._error
        if self._closing:
            self.close()

    def close(self) -> None:
        """Stop listening, end every connection, then close the storage. Blocks for some seconds at most."""
        self._closing = True
        server, self._server = self._server, None
        if server is None:
            return
        acceptor = server.acceptor
        for protocol in [zeo.connection for zeo in server.zeo_storages_by_storage_id[STORAGE_NAME]]:
            protocol.call_soon_threadsafe(protocol.close)
        acceptor.close()
        self._thread.join(JOIN_TIMEOUT_S)
        self._storage.close()
        self._listening.closed()

    def counts(self) -> ServerCounts | None:
        """Return what the server counts; None while it is not open."""
        server = self._server
        if server is None:
            return None
        stats = server.stats[STORAGE_NAME]
        return ServerCounts(
            clients=len(stats.connections),
            waiting=len(server.lock_managers[STORAGE_NAME].waiting),
            loads=stats.loads,
            stores=stats.stores,
            commits=stats.commits,
            aborts=stats.aborts,
            conflicts=stats.conflicts,
            size_bytes=self._storage.getSize(),
        )

    def _serve(self) -> None:
        try:
            listening = self._listening
            server = StorageServer(listening.address, {STORAGE_NAME: self._storage}, ssl=listening.tls)
            listening.opened()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._error = listening.named(error) if isinstance(error, OSError) else error
            self._opened.set()
            return
        self._server = server
        self._opened.set()
        death: BaseException | None = None
        try:
            server.loop()
        except BaseException as error:  # noqa: BLE001 - handed on
            death = error
        if not self._closing:
            self._on_death(death)
