"""Where the storage server listens: on a Unix socket of this user's alone, or on a port that wants a certificate."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from batos.image.errors import StorageUnusable
from batos.image.storage import FOLDER_MODE

MAX_SOCKET_PATH_BYTES = 107
"""What the address of a Unix socket holds (Linux)."""
SOCKET_MODE = 0o600
PROBE_TIMEOUT_S = 1.0


class Listening(ABC):
    """One way to be reached."""

    @abstractmethod
    def check(self) -> None:
        """Make sure, before the storage is opened, that it can be had.

        Raises:
            StorageUnusable: it cannot.
        """

    @abstractmethod
    def clear(self) -> None:
        """Take away what a dead server left there, once the storage is this process's.

        Raises:
            StorageUnusable: it is somebody else's.
        """

    @property
    @abstractmethod
    def address(self) -> str | tuple[str, int]:
        """As ZEO takes it."""

    @property
    @abstractmethod
    def tls(self) -> ssl.SSLContext | None:
        """What clients have to show; None where the system admits this user alone."""

    @abstractmethod
    def opened(self) -> None:
        """Note that the server listens."""

    @abstractmethod
    def closed(self) -> None:
        """Note that it listens no longer."""

    @abstractmethod
    def named(self, error: OSError) -> StorageUnusable:
        """Return why it could not listen, in words that help."""


@dataclass(frozen=True)
class UnixSocket(Listening):
    """A socket in the file system, its folder with mode 0700."""

    path: Path

    def check(self) -> None:
        """See `Listening.check`."""
        check_socket_path(self.path)

    def clear(self) -> None:
        """See `Listening.clear`."""
        clear_socket(self.path)

    @property
    def address(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def tls(self) -> None:
        """None: the folder's mode admits this user alone."""
        return

    def opened(self) -> None:
        """Let nobody else connect."""
        self.path.chmod(SOCKET_MODE)

    def closed(self) -> None:
        """Remove it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def named(self, error: OSError) -> StorageUnusable:
        """See `Listening.named`."""
        return StorageUnusable(
            "image_socket",
            str(self.path),
            f"cannot listen on {self.path}: {error.strerror or error}",
            "set BATOS_IMAGE_SOCKET to a path in a folder of this user",
        )


@dataclass(frozen=True)
class TlsPort(Listening):
    """A port of the network. Nobody without a certificate of the fleet's authority gets as far as ZEO."""

    host: str
    port: int
    context: ssl.SSLContext

    def check(self) -> None:
        """Nothing: binding it tells."""

    def clear(self) -> None:
        """Nothing: the system frees a dead server's port."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def tls(self) -> ssl.SSLContext:
        """The server's certificate, and whose certificates it accepts."""
        return self.context

    def opened(self) -> None:
        """Nothing."""

    def closed(self) -> None:
        """Nothing."""

    def named(self, error: OSError) -> StorageUnusable:
        """See `Listening.named`."""
        where = f"{self.host}:{self.port}"
        why = os.strerror(error.errno) if error.errno else str(error)
        return StorageUnusable(
            "image_port", where, f"cannot listen on {where}: {why}", "set BATOS_IMAGE_LISTEN to a free address"
        )


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
