"""ZEO's storage server in a thread of its own, on a Unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
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
from batos.image.storage import FOLDER_MODE, open_storage  # noqa: E402

MAX_SOCKET_PATH_BYTES = 107
"""What the address of a Unix socket holds (Linux)."""
STORAGE_NAME = "1"
SOCKET_MODE = 0o600
JOIN_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 1.0


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
    """Serves one folder on one socket. Its event loop is a thread's own: nothing else runs in it.

    No `transaction-timeout` is set: when it fires the server keeps its commit lock for ever (ZEO 6.2).
    """

    def __init__(self, folder: Path, socket_path: Path, on_death: Callable[[BaseException | None], None]) -> None:
        """Begin closed.

        Args:
            folder: of the image's files.
            socket_path: where to listen; its folder is made with mode 0700.
            on_death: called, in the server's thread, when the server ends without having been closed.
        """
        self._folder = folder
        self._path = socket_path
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
            StorageUnusable: the files or the socket cannot be used.
        """
        check_socket_path(self._path)
        self._storage = open_storage(self._folder)
        try:
            clear_socket(self._path)
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
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

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
            server = StorageServer(str(self._path), {STORAGE_NAME: self._storage})
            self._path.chmod(SOCKET_MODE)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._error = self._named(error)
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

    def _named(self, error: BaseException) -> BaseException:
        if isinstance(error, OSError):
            return StorageUnusable(
                "image_socket",
                str(self._path),
                f"cannot listen on {self._path}: {error.strerror or error}",
                "set BATOS_IMAGE_SOCKET to a path in a folder of this user",
            )
        return error


def check_socket_path(path: Path) -> None:
    """Make sure that a Unix socket can have this path, and that its folder is this user's alone.

    Raises:
        StorageUnusable: it cannot.
    """
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH_BYTES:
        raise StorageUnusable(
            "image_socket_long",
            str(path),
            f"the socket's path has {size} bytes, a Unix socket's holds {MAX_SOCKET_PATH_BYTES}: {path}",
            "set BATOS_IMAGE_SOCKET to a shorter path, or BATOS_HOME to a folder less deep",
        )
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        path.parent.chmod(FOLDER_MODE)
    except OSError as error:
        raise StorageUnusable(
            "image_socket",
            str(path.parent),
            f"the socket's folder {path.parent} cannot be made this user's alone: {error.strerror or error}",
            "set BATOS_IMAGE_SOCKET to a path in a folder of this user",
        ) from error


def clear_socket(path: Path) -> None:
    """Remove the socket that a dead server left; refuse one that answers, and anything that is no socket.

    Raises:
        StorageUnusable: the path is taken.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StorageUnusable("image_socket", str(path), f"{path} is there and is no socket", "move it away")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(PROBE_TIMEOUT_S)
    with probe:
        found = probe.connect_ex(str(path))
    if found in {errno.ECONNREFUSED, errno.ENOENT}:
        path.unlink(missing_ok=True)
        return
    raise StorageUnusable(
        "image_socket_taken",
        str(path),
        f"another server listens on {path}",
        "end it (`batos down` in its home), or set BATOS_IMAGE_SOCKET to another path",
    )
