"""The files of one kernel's metacognition log.

All stand in one folder. `metacognition.jsonl` is what the newest incarnation writes now; every other segment is called
`metacognition-<number>-<incarnation>-<first seq>.jsonl`, and the numbers give the order. When a segment is full, or
a new incarnation begins, the file that was `metacognition.jsonl` gets the next number. A predecessor that still drains
goes on in its renamed file and never begins another. On the bus the current segment already goes by the name that it
will have, so that a reader's place holds whatever happens.

Who writes a segment holds a lock on it, and the system gives that back however a process ends: a segment is closed when
its lock can be had. Names change only under the folder's own lock.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from batos.kernel.errors import KernelError

CURRENT = "metacognition.jsonl"
NAMES_LOCK = ".names.lock"
FOLDER_MODE = 0o700
FILE_MODE = 0o600
BLOCK = 65536

_NAME = re.compile(r"metacognition-(\d{6,})-([0-9a-f]+)-(\d{12,})\.jsonl")
_NEW_SUFFIX = ".new"


class _First(msgspec.Struct):
    """What of a segment's first line names it."""

    incarnation: str = "0"
    seq: int = 0


@dataclass(frozen=True, order=True)
class Segment:
    """One file of the log."""

    number: int
    incarnation: str
    first_seq: int

    @property
    def name(self) -> str:
        """What it is called on the bus, and on disk once it is no longer the current one."""
        return f"metacognition-{self.number:06d}-{self.incarnation}-{self.first_seq:012d}.jsonl"


class Chunk(NamedTuple):
    """Whole lines of a segment."""

    segment: str
    offset: int
    data: bytes
    next_offset: int
    next_segment: str
    """Set once this segment is closed and read to its end, and another follows."""


class Mended(NamedTuple):
    """What a new writer found."""

    last_line: bytes
    """Newest whole line of the predecessor's segment, without its newline; empty where there is none."""
    torn: int
    """Segments of which a torn last line was cut."""


class SegmentFolder:
    """The log of one kernel, as files. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[tuple[Segment, Path]]:
        """Return all segments, oldest first."""
        with self._names():
            return self._listed()

    def read(self, segment: str, offset: int, limit: int) -> Chunk:
        """Read whole lines: as many as `limit` bytes hold, and one at least.

        Args:
            segment: its name; empty for the oldest.
            offset: byte at which a line begins.
            limit: bytes.

        Raises:
            KernelError: `segment_unknown`, or `offset_invalid`.
        """
        with self._names():
            listed = self._listed()
            if not listed and not segment:
                return Chunk("", 0, b"", 0, "")
            places = [place for place, (known, _) in enumerate(listed) if segment in {"", known.name}]
            if not places:
                raise KernelError(
                    "segment_unknown", f"there is no log segment {segment!r}", "ask for the oldest with an empty name"
                )
            place = places[0]
            descriptor = os.open(listed[place][1], os.O_RDONLY)
            closed = locked(descriptor, fcntl.LOCK_SH)
        try:
            size = os.fstat(descriptor).st_size
            if not 0 <= offset <= size or (offset and os.pread(descriptor, 1, offset - 1) != b"\n"):
                raise KernelError(
                    "offset_invalid", f"no line of {listed[place][0].name} begins at byte {offset}", "read from byte 0"
                )
            data = _whole_lines(descriptor, offset, size, limit)
            at_end = closed and not _holds_line(descriptor, offset + len(data), size)
        finally:
            os.close(descriptor)
        follows = listed[place + 1][0].name if at_end and place + 1 < len(listed) else ""
        return Chunk(listed[place][0].name, offset, data, offset + len(data), follows)

    def begin(self) -> Mended:
        """Cut torn last lines of closed segments and find the line that a new incarnation's chain is anchored to."""
        torn = 0
        last = b""
        with self._names():
            for _, path in [*self._listed(), *((None, path) for path in self._left_behind())]:
                torn += _mended(path)
                last = _last_line(path) or last
        return Mended(last, torn)

    def create(self, incarnation: str, first_seq: int) -> tuple[Path, int]:
        """Make an empty file that is not listed yet, and lock it; return its path and descriptor."""
        path = self.folder / f".{incarnation}-{first_seq:012d}{_NEW_SUFFIX}"
        with self._names():
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
            if not locked(descriptor, fcntl.LOCK_EX):
                os.close(descriptor)
                raise BlockingIOError(f"{path} is locked by another process")
        return path, descriptor

    def take_place(self, new: Path) -> None:
        """Make a file that begins with a whole line the current segment; the one that was gets its number."""
        with self._names():
            self._number_current()
            for left in self._left_behind():
                left.rename(self.folder / CURRENT)
                self._number_current()
            new.rename(self.folder / CURRENT)

    def is_current(self, descriptor: int) -> bool:
        """Say whether an open segment is the current one still: no other incarnation has begun since."""
        mine = os.fstat(descriptor)
        try:
            current = (self.folder / CURRENT).stat()
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (current.st_dev, current.st_ino)

    def sync(self) -> None:
        """Make names durable."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _listed(self) -> list[tuple[Segment, Path]]:
        found = []
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None:
                found.append((Segment(int(match[1]), match[2], int(match[3])), path))
        found.sort()
        current = self.folder / CURRENT
        if current.exists():
            found.append((_named(current, found[-1][0].number + 1 if found else 1), current))
        return found

    def _number_current(self) -> None:
        listed = self._listed()
        if listed and listed[-1][1].name == CURRENT:
            listed[-1][1].rename(self.folder / listed[-1][0].name)

    def _left_behind(self) -> list[Path]:
        """Files that a process began and never gave their place: it died in between."""
        found = []
        for path in sorted(self.folder.glob(f".*{_NEW_SUFFIX}")):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if locked(descriptor, fcntl.LOCK_SH):
                    found.append(path)
            finally:
                os.close(descriptor)
        return found

    @contextmanager
    def _names(self) -> Iterator[None]:
        """Hold the folder's lock: no name changes meanwhile."""
        self.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / NAMES_LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def locked(descriptor: int, how: int) -> bool:
    """Lock an open file if nobody else holds it; say whether that was so."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file without their newlines."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def _named(path: Path, number: int) -> Segment:
    first = _First()
    for line in lines(path):
        try:
            first = msgspec.json.decode(line, type=_First)
        except msgspec.MsgspecError:
            first = _First()
        break
    plain = first.incarnation if re.fullmatch("[0-9a-f]+", first.incarnation) else "0"
    return Segment(number, plain, max(0, first.seq))


def _whole_lines(descriptor: int, offset: int, size: int, limit: int) -> bytes:
    """Return as many whole lines as `limit` bytes hold, and one at least where there is one."""
    data = os.pread(descriptor, min(max(1, limit), size - offset), offset)
    end = data.rfind(b"\n") + 1
    while not end and offset + len(data) < size:
        more = os.pread(descriptor, min(BLOCK, size - offset - len(data)), offset + len(data))
        if not more:
            return b""
        data += more
        end = data.find(b"\n") + 1
    return data[:end]


def _holds_line(descriptor: int, offset: int, size: int) -> bool:
    """Say whether a whole line stands between two places."""
    while offset < size:
        block = os.pread(descriptor, min(BLOCK, size - offset), offset)
        if not block:
            return False
        if b"\n" in block:
            return True
        offset += len(block)
    return False


def _last_line(path: Path) -> bytes:
    """Return the newest whole line of a file without its newline; empty where there is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        data = b""
        start = size
        while start:
            step = min(BLOCK, start)
            start -= step
            file.seek(start)
            data = file.read(step) + data
            whole = data[: data.rfind(b"\n") + 1]
            before = whole[:-1].rfind(b"\n")
            if whole and (before >= 0 or start == 0):
                return whole[before + 1 : -1]
    return b""


def _mended(path: Path) -> bool:
    """Cut the torn last line of a file that nobody writes; say whether there was one."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        if not locked(descriptor, fcntl.LOCK_EX):
            return False
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return False
        end = size
        while end:
            step = min(BLOCK, end)
            block = os.pread(descriptor, step, end - step)
            found = block.rfind(b"\n")
            if found >= 0:
                end = end - step + found + 1
                break
            end -= step
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True
