"""The metacognition log as a kernel writes it: aiologger in front, one writer thread behind.

aiologger's own file handlers let several threads write one stream without a lock and lose and garble records, so the
handler here is ours: it encodes a record and hands the line over, and nothing in it ever waits. Threads of cycles
therefore log through the same logger as the event loop does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiologger.handlers.base import Handler
from aiologger.levels import LogLevel
from aiologger.logger import Logger
from aiologger.records import LogRecord as Entry

from batos.kernel.log_writer import LogWriter
from batos.kernel.redaction import Redactor
from batos.protocol import EventType, LogRecord, encode_record

LOGGER = "batos.metacognition"


class MetacognitionHandler(Handler):  # type: ignore[misc]  # aiologger has no types
    """Hands encoded records to the writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    @property
    def initialized(self) -> bool:
        """Whether records are taken."""
        return self._writer.open

    async def emit(self, record: Entry) -> None:
        """Encode a record, whose message is a `LogRecord`, and hand it over. Never waits."""
        self._writer.put(encode_record(record.msg))

    async def flush(self) -> None:
        """Return once everything that was emitted is on disk."""
        loop = asyncio.get_running_loop()
        durable = asyncio.Event()
        self._writer.when_durable(lambda: loop.call_soon_threadsafe(durable.set))
        await durable.wait()

    async def close(self) -> None:
        """Write the rest and end the writer thread."""
        await asyncio.to_thread(self._writer.close)


class Metacognition:
    """The log of one incarnation of one kernel.

    Attributes:
        logger: the aiologger interface; its messages are `LogRecord`s.
        torn: torn last lines of predecessors that were cut.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kernel: str,
        incarnation: str,
        redactor: Redactor,
        segment_bytes: int,
        on_record: Callable[[EventType], None],
        on_fault: Callable[[str], None],
    ) -> None:
        """Open the log.

        Args:
            folder: where this kernel's segments are.
            kernel: the kernel's name.
            incarnation: which start of it.
            redactor: takes secrets out of every text.
            segment_bytes: size after which a new segment begins.
            on_record: told of every record, by the thread that made it.
            on_fault: told by the writer thread what is wrong with the disk, and "" once it is well again.
        """
        self._kernel = kernel
        self._incarnation = incarnation
        self._redactor = redactor
        self._on_record = on_record
        self._writer = LogWriter(folder, incarnation, segment_bytes=segment_bytes, on_fault=on_fault)
        self.torn = self._writer.torn
        self.logger = Logger(name=LOGGER, level=LogLevel.INFO)
        self.logger.add_handler(MetacognitionHandler(self._writer))

    def record(self, event_type: EventType, **fields: Any) -> None:
        """Append a record; `fields` are those of `LogRecord`. Thread-safe; never waits for the disk.

        Raises:
            LogClosed: the log is closed.
        """
        made = self.made(event_type, **fields)
        _at_once(
            self.logger.handle(
                Entry(name=LOGGER, level=LogLevel.INFO, pathname=__file__, lineno=0, msg=made, func="record")
            )
        )
        self._on_record(event_type)

    def made(self, event_type: EventType, **fields: Any) -> LogRecord:
        """Return a record of this kernel, without secrets, whose place in the chain the writer will fill in."""
        redact = self._redactor
        record = LogRecord(
            timestamp=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            seq=0,
            prev_hash="",
            event_type=event_type,
            kernel=self._kernel,
            incarnation=self._incarnation,
            **fields,
        )
        return msgspec.structs.replace(
            record,
            llm_prompt=redact.text(record.llm_prompt),
            llm_response_raw=redact.text(record.llm_response_raw),
            detail=redact.value(record.detail),
        )

    def when_durable(self, call: Callable[[], object]) -> None:
        """Have `call` called, by the writer thread, once everything that was recorded so far is on disk."""
        self._writer.when_durable(call)

    async def close(self) -> None:
        """Write what is left and close the log."""
        await self.logger.shutdown()

    @property
    def lost(self) -> int:
        """Records that the disk never took."""
        return self._writer.lost


def _at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits to its end, in the calling thread."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("a handler of the metacognition log waited")
