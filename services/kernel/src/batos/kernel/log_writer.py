"""The one thread that writes a kernel's metacognition log: lines in, sealed into a chain, durable in batches."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from batos.kernel.errors import KernelError
from batos.kernel.segments import SegmentFolder

UNSEALED = b'"seq":0,"prev_hash":""'
"""What `encode_record` writes for a record whose place in the chain is not known yet; always near the line's start."""
NO_HASH = "0" * 64
RETRY_S = 1.0
"""Pause after a write that failed (a full disk, for example), in seconds."""
BATCH_BYTES = 4 * 1024 * 1024
CLOSING_TRIES = 3
"""How often the last lines are tried when the log is closed and the disk does not take them."""

_log = logging.getLogger(__name__)

Call = Callable[[], object]


class LogClosed(KernelError):  # noqa: N818 - it says what the log is
    """A record came after the log was closed."""


class LogWriter:
    """Writes lines of one incarnation.

    Attributes:
        torn: torn last lines that were cut when the log was opened.
        lost: lines that could not be written before the log had to be closed.
    """

    def __init__(
        self,
        folder: Path,
        incarnation: str,
        *,
        segment_bytes: int,
        on_fault: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        """Open the log and start the thread.

        Args:
            folder: where its segments are.
            incarnation: whose lines these are.
            segment_bytes: size after which a new segment begins.
            on_fault: called by the thread with what is wrong when the disk takes nothing, and with "" once it does.
            retry_s: pause after a write that failed, in seconds.
        """
        self._folder = SegmentFolder(folder)
        self._incarnation = incarnation
        self._segment_bytes = segment_bytes
        self._on_fault = on_fault
        self._retry_s = retry_s
        self._queue: queue.SimpleQueue[bytes | Call | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._closing = threading.Event()
        self._descriptor: int | None = None
        self._size = 0
        self._seq = 0
        self._faulty = False
        begun = self._folder.begin()
        self._prev_hash = hashlib.sha256(begun.last_line).hexdigest() if begun.last_line else NO_HASH
        self.torn = begun.torn
        self.lost = 0
        self._thread = threading.Thread(target=self._write, name="metacognition-writer")
        self._thread.start()

    @property
    def open(self) -> bool:
        """Whether lines are taken."""
        return not self._closed

    def put(self, line: bytes) -> None:
        """Take an encoded record whose place in the chain is not known yet. Thread-safe, never waits for the disk.

        Raises:
            LogClosed: the log is closed.
        """
        with self._gate:
            if self._closed:
                raise LogClosed("log_closed", "the metacognition log is closed: the kernel has ended")
            self._queue.put(line)

    def when_durable(self, call: Call) -> None:
        """Have the thread call this once everything that was put before is on disk; at once where it is closed."""
        with self._gate:
            if not self._closed:
                self._queue.put(call)
                return
        call()

    def close(self) -> None:
        """Write what was put, and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._closing.set()
                self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        ended = False
        while not ended:
            batch, calls, ended = self._batch()
            if batch and not self._durable(batch):
                self.lost += len(batch)
                _log.error("%d records of the metacognition log could not be written and are lost", len(batch))
            for call in calls:
                try:
                    call()
                except Exception:  # noqa: BLE001 - its fault must not end the log
                    _log.exception("what waited for durable records failed")
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _batch(self) -> tuple[list[bytes], list[Call], bool]:
        """Wait for something to do, then take all there is up to the batch's bound."""
        lines: list[bytes] = []
        calls: list[Call] = []
        size = 0
        item = self._queue.get()
        while True:
            if item is None:
                return lines, calls, True
            if isinstance(item, bytes):
                lines.append(item)
                size += len(item)
            else:
                calls.append(item)
            if size >= min(BATCH_BYTES, self._segment_bytes):
                return lines, calls, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return lines, calls, False

    def _durable(self, batch: list[bytes]) -> bool:
        """Seal and write a batch; try again while the disk refuses. Return whether it is on disk."""
        sealed, prev_hash = self._sealed(batch)
        tries = 0
        while True:
            try:
                self._append(b"".join(sealed))
            except OSError as error:
                self._fault(f"the metacognition log cannot be written: {error}")
                tries += self._closing.is_set()
                if tries >= CLOSING_TRIES:
                    return False
                self._closing.wait(self._retry_s)
                continue
            self._fault("")
            self._seq += len(batch)
            self._prev_hash = prev_hash
            return True

    def _sealed(self, batch: list[bytes]) -> tuple[list[bytes], str]:
        """Give each line its number and the hash of the line before."""
        sealed = []
        prev_hash = self._prev_hash
        for seq, line in enumerate(batch, self._seq):
            whole = line.replace(UNSEALED, b'"seq":%d,"prev_hash":"%b"' % (seq, prev_hash.encode()), 1)
            prev_hash = hashlib.sha256(whole).hexdigest()
            sealed.append(whole + b"\n")
        return sealed, prev_hash

    def _append(self, data: bytes) -> None:
        if self._descriptor is not None and self._is_over(self._descriptor, len(data)):
            os.close(self._descriptor)
            self._descriptor = None
        if self._descriptor is None:
            self._begin_segment(data)
            return
        _write_all(self._descriptor, data, self._size)
        os.fdatasync(self._descriptor)
        self._size += len(data)

    def _is_over(self, descriptor: int, more: int) -> bool:
        """Say whether another segment has to begin: this one is full, or somebody removed it."""
        if os.fstat(descriptor).st_nlink == 0:
            return True
        return self._size + more > self._segment_bytes and self._folder.is_current(descriptor)

    def _begin_segment(self, data: bytes) -> None:
        path, descriptor = self._folder.create(self._incarnation, self._seq)
        try:
            _write_all(descriptor, data, 0)
            os.fsync(descriptor)
            self._folder.take_place(path)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._descriptor = descriptor
        self._size = len(data)
        try:
            self._folder.sync()
        except OSError as error:
            _log.warning("the name of a new log segment may not be durable: %s", error)

    def _fault(self, text: str) -> None:
        if text and not self._faulty:
            _log.error("%s; trying again every %g s", text, self._retry_s)
        if bool(text) != self._faulty:
            self._faulty = bool(text)
            self._on_fault(text)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
