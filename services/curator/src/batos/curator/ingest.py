"""Logs into memory: pulled from each kernel over the bus, piece by piece, each record taken once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from batos.curator.errors import CuratorError
from batos.curator.metrics import CuratorMetrics
from batos.curator.settings import CuratorSettings
from batos.mind import PositionMoved, log_memory
from batos.mind.log_memory import Ingested, Position
from batos.protocol import LogChunk, LogRead, LogRecord, Peer, ProtocolError, RemoteError, Roster, RosterGet
from batos.uvm import Image

LOG_CHANGED = frozenset({"segment_unknown", "offset_invalid"})
"""Codes of a kernel's error reply when its files are not those that were read before."""
MAX_MOVES = 10
"""How often another reader may be ahead before this one gives up."""

_log = logging.getLogger("batos.curator")
_DECODER = msgspec.json.Decoder(LogRecord)


class Lines(NamedTuple):
    """A piece of a log, decoded."""

    records: list[LogRecord]
    undecodable: int


class Pulled(NamedTuple):
    """What one look at all kernels brought."""

    records: int
    unread: tuple[str, ...]
    """Kernels in the roster that did not give their log."""


def decode_lines(data: bytes) -> Lines:
    """Decode whole lines of a log; what is no record is counted, not raised: one bad line must not hide the rest."""
    records = []
    undecodable = 0
    for line in data.splitlines():
        if not line:
            continue
        try:
            records.append(_DECODER.decode(line))
        except msgspec.MsgspecError:
            undecodable += 1
    return Lines(records, undecodable)


class LogPuller:
    """Reads the logs of all kernels into the image. One look at a time."""

    def __init__(self, peer: Peer, image: Image, settings: CuratorSettings, metrics: CuratorMetrics) -> None:
        self._peer = peer
        self._image = image
        self._settings = settings
        self._metrics = metrics
        self._turn = asyncio.Lock()

    async def pull(self, report: Callable[[str, float], None] | None = None) -> Pulled:
        """Take in what is new in every kernel's log.

        Args:
            report: is told what is read and how much of the whole is done, from 0 to 1.

        Raises:
            ProtocolError: the bus gives no roster.
        """
        async with self._turn:
            timeout_s = self._settings.curator_read_timeout_s
            roster = await self._peer.request("bus", RosterGet(), Roster, timeout_s=timeout_s)
            names = sorted({card.name for card in roster.vessels if card.kind == "kernel"})
            total = 0
            unread = []
            for done, name in enumerate(names):
                if report is not None:
                    report(f"log of {name}", done / len(names))
                try:
                    total += await self._pull_kernel(name)
                except (ProtocolError, CuratorError) as error:
                    _log.warning("the log of %s was not read: %s", name, error)
                    self._metrics.unread.inc()
                    unread.append(name)
            if not unread:
                self._metrics.ingested_at.set(time.time())
            return Pulled(total, tuple(unread))

    async def _pull_kernel(self, name: str) -> int:
        taken = moves = 0
        restarted = False
        while True:
            position = await asyncio.to_thread(self._position, name)
            try:
                chunk = await self._read(name, position)
            except RemoteError as error:
                if error.code not in LOG_CHANGED or restarted:
                    raise
                _log.warning("%s: reading the log of %s from its beginning", error, name)
                restarted = True
                await asyncio.to_thread(self._restart, name)
                continue
            read_to = position_after(chunk)
            if read_to == position or not chunk.segment:
                return taken
            lines = await asyncio.to_thread(decode_lines, chunk.data)
            try:
                ingested = await asyncio.to_thread(self._ingest, name, position, read_to, lines.records)
            except PositionMoved as error:
                moves += 1
                if moves > MAX_MOVES:
                    raise CuratorError("log_contended", str(error), "is more than one curator at work?") from error
                continue
            taken += ingested.records
            self._metrics.records.inc(ingested.records)
            self._metrics.missing.inc(ingested.missing)
            self._metrics.undecodable.inc(lines.undecodable)
            if ingested.missing or lines.undecodable:
                _log.warning(
                    "log of %s, %s from %d: %d records are missing, %d lines are no records",
                    name,
                    chunk.segment,
                    chunk.offset,
                    ingested.missing,
                    lines.undecodable,
                )

    async def _read(self, name: str, position: Position) -> LogChunk:
        body = LogRead(segment=position.segment, offset=position.offset, limit=self._settings.curator_chunk_bytes)
        return await self._peer.request(
            f"kernel/{name}", body, LogChunk, timeout_s=self._settings.curator_read_timeout_s
        )

    def _position(self, name: str) -> Position:
        with self._image.snapshot() as root:
            return log_memory.position(root, name)

    def _restart(self, name: str) -> None:
        self._image.run(
            lambda root: log_memory.restart(root, name), user="curator", note=f"log of {name} read from its beginning"
        )

    def _ingest(self, name: str, read_from: Position, read_to: Position, records: list[LogRecord]) -> Ingested:
        return self._image.run(
            lambda root: log_memory.ingest(root, kernel=name, read_from=read_from, read_to=read_to, records=records),
            user="curator",
            note=f"log of {name}, {len(records)} records",
        )


def position_after(chunk: LogChunk) -> Position:
    """Return from where to read on after a piece of a log."""
    if chunk.next_segment:
        return Position(chunk.next_segment, 0)
    return Position(chunk.segment, chunk.next_offset)
