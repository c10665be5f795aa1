"""Checking a metacognition log: that no line was changed, left out or put in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from batos.kernel.log_writer import NO_HASH
from batos.kernel.segments import SegmentFolder, lines


class _Link(msgspec.Struct):
    """What of a line belongs to the chain."""

    seq: int
    prev_hash: str
    incarnation: str


@dataclass(frozen=True)
class ChainFault:
    """One place where a chain is broken."""

    incarnation: str
    seq: int
    what: str


@dataclass(frozen=True)
class ChainReport:
    """What a check found."""

    records: int
    incarnations: int
    faults: tuple[ChainFault, ...]

    @property
    def sound(self) -> bool:
        """Whether every line is as it was written and none is missing between the first and the last."""
        return not self.faults


def verify_folder(folder: Path) -> ChainReport:
    """Check the whole log of one kernel."""
    return verify_lines(_every_line(folder))


def verify_lines(every_line: Iterable[bytes]) -> ChainReport:
    """Check lines in the order in which their segments stand.

    Within an incarnation each line has the next number and the hash of the line before. Its first line carries the hash
    of a line of another incarnation, its predecessor; of the oldest incarnation that is left only, the predecessor may
    be gone.
    """
    check = _Check()
    for line in every_line:
        check.take(line)
    check.anchored()
    return ChainReport(check.records, len(check.heads), tuple(check.faults))


class _Check:
    """What is known of the lines so far."""

    def __init__(self) -> None:
        self.records = 0
        self.faults: list[ChainFault] = []
        self.heads: dict[str, tuple[int, str]] = {}
        self._anchors: list[_Link] = []
        self._owners: dict[bytes, str] = {}

    def take(self, line: bytes) -> None:
        self.records += 1
        digest = hashlib.sha256(line)
        try:
            link = msgspec.json.decode(line, type=_Link)
        except msgspec.MsgspecError as error:
            self.faults.append(ChainFault("", -1, f"line {self.records} is no record: {error}"))
            return
        self._follow(link, self.heads.get(link.incarnation))
        self.heads[link.incarnation] = (link.seq, digest.hexdigest())
        self._owners[digest.digest()] = link.incarnation

    def _follow(self, link: _Link, head: tuple[int, str] | None) -> None:
        if head is None:
            if link.seq == 0:
                self._anchors.append(link)
            elif self.heads:
                self._fault(link, "its incarnation's first records are missing")
        elif link.seq != head[0] + 1:
            self._fault(link, f"record {head[0] + 1} should stand here")
        elif link.prev_hash != head[1]:
            self._fault(link, "the record before it is not the one that was written")

    def anchored(self) -> None:
        """Check the first line of each incarnation but the oldest, once all lines are known."""
        oldest = next(iter(self.heads), "")
        for link in self._anchors:
            if link.incarnation == oldest:
                continue
            if link.prev_hash == NO_HASH:
                self._fault(link, "it is anchored to nothing although it has predecessors")
            elif self._owners.get(_digest(link.prev_hash), link.incarnation) == link.incarnation:
                self._fault(link, "it is anchored to a line that is not in the log")

    def _fault(self, link: _Link, what: str) -> None:
        self.faults.append(ChainFault(link.incarnation, link.seq, what))


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _every_line(folder: Path) -> Iterator[bytes]:
    for _, path in SegmentFolder(folder).paths():
        yield from lines(path)
