"""A PostgreSQL server of a test's own: a cluster in a short folder, on a loopback port, to be killed and restarted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from batos.vessel import free_ports

ADMIN, USER, PASSWORD = "postgres", "mind", "s3cret /@:?#%' \\ tail9"
"""The password has all that an address, a connection string or a shell could trip over."""
START_TIMEOUT_S = 60
_LOCALE = {"LC_ALL": "C", "LANG": "C"}


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed. Debian keeps them off the PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if beside:
        return beside[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class Server:
    """A cluster and its server process.

    Attributes:
        folder: of everything; `socket` in it is the folder of the Unix socket.
        port: on 127.0.0.1, and in the socket's name.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.socket = folder / "socket"
        (self.port,) = free_ports(1)
        self._programs = programs
        self._data = folder / "data"
        self._owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None

    def make(self) -> None:
        """Make the cluster: passwords over TCP, anybody through the socket."""
        self.socket.mkdir()
        if self._owner is not None:
            self.folder.chmod(0o755)
            for place in (self.folder, self.socket):
                os.chown(place, self._owner.pw_uid, self._owner.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", ADMIN, "-A", "trust", "-E", "UTF8", "--no-locale")
        (self._data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.socket}'\n"
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._control("start", "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """End it now; what is not committed is rolled back."""
        if self.pid():
            self._control("stop", "-m", "fast")

    def restart(self) -> None:
        """End it and start it."""
        self._control("restart", "-m", "fast", "-l", str(self.folder / "log"))

    def kill(self) -> None:
        """End it as a power failure would, all its processes at once."""
        pid = self.pid()
        group = [pid, *_children(pid)]
        for process in group:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _wait("the killed server to be gone", lambda: not any(Path(f"/proc/{process}").exists() for process in group))

    def pid(self) -> int:
        """The postmaster; 0 where none runs."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except FileNotFoundError:
            return 0
        return pid if Path(f"/proc/{pid}").exists() else 0

    def sql(self, statement: str, database: str = ADMIN) -> str:
        """What psql prints for a statement, as the administrator."""
        return self._run(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.socket), "-p", str(self.port), "-U", ADMIN,
            "-d", database, "-c", statement,
        ).strip()  # fmt: skip

    def use_tls(self, certificate: bytes, key: bytes) -> None:
        """Offer TLS by TCP from now on."""
        for name, content in (("server.pem", certificate), ("server.key", key)):
            path = self.folder / name
            path.write_bytes(content)
            path.chmod(0o600)
            if self._owner is not None:
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"ssl = on\nssl_cert_file = '{self.folder}/server.pem'\nssl_key_file = '{self.folder}/server.key'\n"
            )
        self.restart()

    def database(self, name: str) -> None:
        """Make a new database that belongs to the mind."""
        self.sql(f"CREATE DATABASE {name} OWNER {USER}")

    def sessions(self, database: str) -> int:
        """How many connections there are to a database."""
        return int(self.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()", database)) - 1

    def uri(self, database: str, parameters: str = "", *, password: str = PASSWORD, user: str = USER) -> str:
        """The address of a database, by TCP and with a password."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}{parameters}"

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", str(START_TIMEOUT_S), *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        # pg_ctl's server would keep a pipe open: what it prints goes through a file.
        who: dict[str, Any] = {}
        if self._owner is not None:
            who = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        with tempfile.TemporaryFile("w+") as told:
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], **_LOCALE},
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                timeout=START_TIMEOUT_S * 2,
                check=False,
                **who,
            )
            told.seek(0)
            text = told.read()
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{text}"
        return text


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """A started server with the user `mind`; skips the test where PostgreSQL is not installed."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = Server(Path(folder), found)
        server.make()
        server.start()
        try:
            quoted = PASSWORD.replace("'", "''")
            server.sql(f"SET standard_conforming_strings = on; CREATE ROLE {USER} LOGIN PASSWORD '{quoted}'")
            yield server
        finally:
            server.stop()


def _children(parent: int) -> Sequence[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in found]


def _wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {START_TIMEOUT_S} s for {what}"
        time.sleep(0.01)
