"""ZEO's storage server in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batos.image.clients import ClientServer
from batos.image.errors import CareError, StorageUnusable
from batos.image.listening import Listening
from batos.image.packing import Horizon, pack
from batos.image.room import Room
from batos.image.storage import open_storage
from batos.protocol import ImagePacked

STORAGE_NAME = "1"
JOIN_TIMEOUT_S = 5.0
COMMIT_TIMEOUT_S = 30.0


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
    expelled: int = 0
    refused: int = 0
    disk_full: bool = False


class ImageServer:
    """Serves one folder at one address. Its event loop is a thread's own: nothing else runs in it."""

    def __init__(
        self,
        folder: Path,
        listening: Listening,
        on_death: Callable[[BaseException | None], None],
        commit_timeout_s: float = COMMIT_TIMEOUT_S,
        room: Room | None = None,
    ) -> None:
        """Begin closed.

        Args:
            folder: of the image's files.
            listening: where to be reached.
            on_death: called, in the server's thread, when the server ends without having been closed.
            commit_timeout_s: seconds for which a client may hold the commit lock before it is thrown out.
            room: is told when a commit finds the disk full.
        """
        self.room = room or Room()
        self._commit_timeout_s = commit_timeout_s
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
        server.disk.shutdown()
        self._storage.close()
        self._listening.closed()

    def position(self) -> tuple[str, int]:
        """Return the newest transaction, and the length of the file up to its end.

        Raises:
            CareError: nothing is served.
        """
        storage = self._served()
        with storage._lock:  # noqa: SLF001 - the two belong together, and no method gives both
            return bytes(storage.lastTransaction()).hex(), int(storage.getSize())

    def pack(self, until: Horizon) -> ImagePacked:
        """Give back the space of what changed before a horizon. Blocks; may be called from any thread.

        Raises:
            CareError: it could not be done.
        """
        packed = pack(self._served(), self._folder, until)
        server = self._server
        if server is not None:
            server.broadcast_info(STORAGE_NAME, {"length": packed.objects_after, "size": packed.bytes_after})
        return packed

    def _served(self) -> Any:
        if self._server is None:
            raise CareError("image_closed", "the image is not being served", "see `batos status`")
        return self._storage

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
            expelled=server.deadlines[STORAGE_NAME].expelled,
            refused=self.room.refused,
            disk_full=bool(self.room.lacking),
        )

    def _serve(self) -> None:
        try:
            listening = self._listening
            server = ClientServer(
                listening.address,
                {STORAGE_NAME: self._storage},
                tls=listening.tls,
                commit_timeout_s=self._commit_timeout_s,
                room=self.room,
            )
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
