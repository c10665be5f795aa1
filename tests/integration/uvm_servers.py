"""Real ZEO servers on Unix sockets: one in the test process, one in a process of its own that may be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ZEO

START_TIMEOUT_S = 30.0


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="uvm-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def server_here(folder: Path) -> Iterator[Path]:
    """A server in threads of this process; yields its socket."""
    socket = folder / "s"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)  # ZEO writes a temporary file into the current folder
        _, stop = ZEO.server(str(folder / "live_image.fs"), blob_dir=str(folder / "blobs"), port=str(socket))
    try:
        yield socket
    finally:
        stop()


class ServerProcess:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"
        self._configuration = folder / "zeo.conf"
        self._configuration.write_text(
            f"<zeo>\naddress {self.socket}\n</zeo>\n"
            f"<blobstorage>\nblob-dir {folder}/blobs\n<filestorage>\npath {folder}/live_image.fs\n</filestorage>\n"
            "</blobstorage>\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. Clients wait by themselves until it answers."""
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ZEO.runzeo", "-C", str(self._configuration)],
            cwd=self._configuration.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """End it as a power failure would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_TIMEOUT_S)
            self._process = None


@contextlib.contextmanager
def server_process(folder: Path) -> Iterator[ServerProcess]:
    """A started server that can be killed and started again."""
    server = ServerProcess(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def clean_environment() -> dict[str, str]:
    """The environment without settings of a fleet."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BATOS_")}
