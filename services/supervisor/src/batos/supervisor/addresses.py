"""Where the parts of a local fleet listen: what is set, else what the last start had, else free ports of loopback."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

from batos.protocol import BusAddresses
from batos.supervisor.errors import SupervisorError
from batos.vessel import free_ports

HOST = "127.0.0.1"
SOCKETS = ("work", "control", "publish", "subscribe")
MAX_SOCKET_PATH_BYTES = 107
RUN_FOLDER = "run"
IMAGE_FOLDER = "image"
SOCKET_NAME = "image.sock"
WAIT_TIMEOUT_S = 30
_TCP = re.compile(r"tcp://([^:/]+):(\d+)")


class AddressOccupied(SupervisorError):  # noqa: N818 - it names what the address is
    """An address that was set belongs to somebody else."""


def is_free(endpoint: str) -> bool:
    """Return whether a `tcp://host:port` endpoint can be bound now; endpoints of other kinds count as free."""
    found = _TCP.fullmatch(endpoint)
    if found is None:
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((found[1], int(found[2])))
        except OSError:
            return False
    return True


def free_endpoints(count: int) -> list[str]:
    """Return endpoints on loopback that were free a moment ago, all different."""
    return [f"tcp://{HOST}:{port}" for port in free_ports(count, host=HOST)]


def choose_bus(
    given: BusAddresses,
    before: BusAddresses | None,
    *,
    free: Callable[[str], bool] = is_free,
    fresh: Callable[[int], list[str]] = free_endpoints,
) -> BusAddresses:
    """Choose the sockets of the bus.

    Args:
        given: what the settings say; empty fields are chosen here; the key is taken as it is.
        before: what the last fleet of this home had: used again where all of it is free.
        free: whether an endpoint can be bound.
        fresh: gives that many free endpoints.

    Raises:
        AddressOccupied: an address that was set is taken.
    """
    chosen = {name: getattr(given, name) for name in SOCKETS}
    for name, endpoint in chosen.items():
        if endpoint and not free(endpoint):
            raise AddressOccupied(
                "address_occupied",
                f"{endpoint} is occupied by another program",
                f"end that program, or set BATOS_BUS_{name.upper()} to a free address, or unset it",
            )
    open_names = [name for name, endpoint in chosen.items() if not endpoint]
    old = {name: getattr(before, name) for name in open_names} if before is not None else {}
    if not old or not all(free(endpoint) for endpoint in old.values()):
        old = dict(zip(open_names, fresh(len(open_names)), strict=True))
    chosen.update(old)
    return BusAddresses(**chosen, server_key=given.server_key)


def image_socket(home: Path, temporary: Path | None = None) -> Path:
    """Return where the storage server of a home listens: below the home, unless that is too deep for a Unix socket.

    Then it is a folder of this user's alone below the system's temporary one.

    Raises:
        SupervisorError: that folder belongs to somebody else.
    """
    path = home / RUN_FOLDER / SOCKET_NAME
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    base = (temporary or Path(tempfile.gettempdir())) / f"batos-{os.getuid()}"
    short = base / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise SupervisorError(
            "run_folder_foreign",
            f"{base} is not a folder of this user's alone",
            "remove it, or set TMPDIR or BATOS_HOME to another folder",
        )
    return short / SOCKET_NAME


def image_address(socket_path: Path, home: Path) -> str:
    """Return the URI under which this machine's vessels open the image; they read blobs where the server has them."""
    blobs = home / IMAGE_FOLDER / "blobs"
    query = urlencode({"blob_dir": str(blobs), "shared_blob_dir": 1, "wait_timeout": WAIT_TIMEOUT_S})
    return f"zeo://{quote(str(socket_path))}?{query}"
