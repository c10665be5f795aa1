"""What a fleet on one machine writes about itself in its home: `fleet.json`, and the lock of its keeper.

`fleet.json` holds no secrets (the secret keys are files of their own under `keys/`). It outlives the fleet, so that the
next start finds the same addresses; whether a fleet runs is told by the lock alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from batos.protocol import BusAddresses, new_id
from batos.vessel.errors import FleetNotFound, FleetRunning, VesselError

FLEET_FILE = "fleet.json"
LOCK_FILE = "keeper.lock"
FILE_MODE = 0o600
FOLDER_MODE = 0o700
LOCK_TRIES = 20
"""How often the lock is tried for: who looks whether a fleet runs holds it for an instant."""
LOCK_PAUSE_S = 0.05


class FleetPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One place in the fleet: the name and kind of the vessel that fills it."""

    name: str
    kind: str


class FleetFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of a local fleet are.

    Attributes:
        bus: the sockets of the bus and its public key.
        image_uri: what `open_image` opens.
        image_socket: path of the storage server's Unix socket; empty where the image is elsewhere.
        keeper_pid: process id of the keeper that wrote this.
        started_at: when it started, seconds since the epoch.
        places: the vessels that the keeper keeps.
        version: of this file's layout.
    """

    bus: BusAddresses
    image_uri: str
    image_socket: str = ""
    keeper_pid: int = 0
    started_at: float = 0.0
    places: tuple[FleetPlace, ...] = ()
    version: int = 1

    @classmethod
    def load(cls, home: Path) -> FleetFile:
        """Read the file of a home.

        Raises:
            FleetNotFound: there is none.
            VesselError: it cannot be read or is not such a file.
        """
        path = home / FLEET_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=FleetFile)
        except FileNotFoundError:
            raise FleetNotFound(
                "fleet_unknown", f"{path} does not exist: no fleet was ever started there", "start one with `batos up`"
            ) from None
        except OSError as error:
            raise VesselError("fleet_unreadable", f"{path} cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise VesselError(
                "fleet_unreadable", f"{path} is no fleet file: {error}", "remove it; the next `batos up` writes it anew"
            ) from error

    def save(self, home: Path) -> None:
        """Write the file whole or not at all, readable by its owner only."""
        home.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        temporary = home / f".{FLEET_FILE}.{new_id()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(home / FLEET_FILE)
        finally:
            temporary.unlink(missing_ok=True)


class FleetLock:
    """The right to keep the fleet of a home: held by one process, gone with it, however it ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock and write this process's id into it.

        Raises:
            FleetRunning: another process holds it.
        """
        self._home.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(self._home / LOCK_FILE, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            self._take(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _take(self, descriptor: int) -> None:
        for _ in range(LOCK_TRIES):
            if _locked(descriptor, fcntl.LOCK_EX):
                return
            time.sleep(LOCK_PAUSE_S)
        pid = _written_pid(descriptor)
        raise FleetRunning(
            f"a fleet already runs in {self._home}, its keeper is process {pid}",
            "use it, or end it with `batos down`, or set BATOS_HOME to another folder",
            pid,
        )

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def keeper_pid(home: Path) -> int | None:
    """Return the process id of the keeper that runs in this home, None where none does."""
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(descriptor, fcntl.LOCK_SH) else _written_pid(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
