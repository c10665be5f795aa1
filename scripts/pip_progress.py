"""Reads what pip prints and says how far it is; shows that on a terminal as one moving line, else as lines."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

BYTES_PER_MB = 1_000_000
QUIET_S = 5.0
"""Without a terminal, seconds between two lines about the same step."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_COLLECTING = re.compile(rf"Collecting ({_NAME})(?:\[[^\]]*\])?(?:==([^\s;(]+))?")
_FOUND = re.compile(r"(?:Processing|Requirement already satisfied:|Obtaining) (\S+)")
_DOWNLOADING = re.compile(r"\s*Downloading (\S+?)(?:\.metadata)? \(([\d.]+) (B|kB|MB|GB)\)")
_BYTES = re.compile(r"Progress (\d+) of (\d+)")
_BUILDING = re.compile(rf"\s*Building (?:wheel|editable) for ({_NAME})")
_RETRYING = re.compile(r"WARNING: Retrying \(Retry\(total=(\d+)")
_INSTALLING = "Installing collected packages: "
_NO_MATCH = re.compile(r"No matching distribution found for (\S+)")
_UNREACHABLE = re.compile(
    r"Failed to establish a new connection|Temporary failure in name resolution|Name or service not known"
    r"|Connection refused|Network is unreachable|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
    r"|getaddrinfo failed|nodename nor servname",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


def normalised(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass
class PipProgress:
    """How far one pip call is, from the lines that it printed.

    Attributes:
        total: packages that the call names; 0 where that is not known.
        installed: asks which packages the environment holds by now (normalised names).
    """

    total: int = 0
    installed: Callable[[], set[str]] = set
    seen: set[str] = field(default_factory=set)
    installing: list[str] = field(default_factory=list)
    phase: str = "asking the package index"
    bytes_done: int = 0
    bytes_total: int = 0

    @property
    def began_installing(self) -> bool:
        """Whether files of the environment may have been changed."""
        return bool(self.installing)

    def feed(self, line: str) -> None:
        """Take in one line."""
        if moved := _BYTES.match(line):
            self.bytes_done, self.bytes_total = int(moved[1]), int(moved[2])
        elif line.startswith(_INSTALLING):
            self.installing = [name.strip() for name in line[len(_INSTALLING) :].split(",")]
            self.bytes_total = 0
        elif collecting := _COLLECTING.match(line):
            self._look_at(" ".join(part for part in collecting.groups() if part))
        elif downloading := _DOWNLOADING.match(line):
            self.phase = f"downloading {downloading[1].rsplit('/', 1)[-1]} ({downloading[2]} {downloading[3]})"
            self.bytes_total = 0
        elif building := _BUILDING.match(line):
            self.phase = f"building {building[1]}"
        elif retrying := _RETRYING.match(line):
            self.phase = f"the package index does not answer, {retrying[1]} more tries"
        elif found := _FOUND.match(line):
            self._look_at(re.split(r"[=<>!~;\[ ]|-\d", found[1].rstrip("/").rsplit("/", 1)[-1])[0])

    def _look_at(self, package: str) -> None:
        self.seen.add(normalised(package.split(" ", 1)[0]))
        self.phase = f"looking at {package}"
        self.bytes_total = 0

    def text(self) -> str:
        """Say in words how far it is."""
        if self.installing:
            here = self.installed()
            waiting = [name for name in self.installing if normalised(name) not in here]
            done = len(self.installing) - len(waiting)
            return f"installing {done} of {len(self.installing)}" + (f", now {waiting[0]}" if waiting else "")
        counted = f"{min(len(self.seen), self.total)} of {self.total} packages, " if self.total and self.seen else ""
        if self.bytes_total:
            done_mb, total_mb = self.bytes_done / BYTES_PER_MB, self.bytes_total / BYTES_PER_MB
            what = self.phase.rsplit(" (", 1)[0]
            return f"{counted}{what}, {done_mb:.0f} of {total_mb:.0f} MB"
        return counted + self.phase


def why_it_failed(lines: list[str]) -> str:
    """Say in one sentence why pip failed, and what to do."""
    text = "\n".join(lines)
    if _DISK_FULL.search(text):
        return "the disk is full: make room and call again"
    if _UNREACHABLE.search(text):
        return "the package index cannot be reached: check the network and `pip config list`, then call again"
    if missing := _NO_MATCH.search(text):
        return f"there is no package {missing[1]} for this Python and machine in the package index"
    errors = [line.strip() for line in lines if line.startswith(("ERROR:", "error:"))]
    return errors[-1] if errors else "pip failed"


class Display:
    """Shows one text at a time: on a terminal one line that moves, elsewhere a line where there is something new."""

    def __init__(self, stream: TextIO, *, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._moving = stream.isatty()
        self._prefix = prefix
        self._clock = clock
        self._began = clock()
        self._said = ""
        self._said_at = 0.0

    def elapsed_s(self) -> float:
        """Return seconds since the display was made."""
        return self._clock() - self._began

    def show(self, text: str, *, step: bool = False) -> None:
        """Show how it stands; `step` says that something new begins, which is always worth a line."""
        line = f"{self._prefix}: {text} ({self.elapsed_s():.0f} s)"
        if self._moving:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{line[:width]}")
        elif step or (text != self._said and self._clock() - self._said_at >= QUIET_S):
            self._stream.write(line + "\n")
        else:
            return
        self._stream.flush()
        self._said, self._said_at = text, self._clock()

    def done(self, text: str) -> None:
        """Leave a last line behind."""
        start = "\r\x1b[K" if self._moving else ""
        self._stream.write(f"{start}{self._prefix}: {text} ({self.elapsed_s():.1f} s)\n")
        self._stream.flush()
