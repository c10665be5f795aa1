"""Log lines on stderr: one line of text an event, or one JSON object."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec


class LineFormatter(logging.Formatter):
    """`2026-11-24T02:10:11.123Z INFO kernel-1 batos.kernel: words`, a traceback indented below it."""

    def __init__(self, vessel: str) -> None:
        super().__init__()
        self._vessel = vessel

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as text."""
        line = f"{_moment(record)} {record.levelname} {self._vessel} {record.name}: {record.getMessage()}"
        if record.exc_info:
            line += "\n  " + self.formatException(record.exc_info).replace("\n", "\n  ")
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, vessel, logger, message, and the traceback where there is one."""

    def __init__(self, vessel: str) -> None:
        super().__init__()
        self._vessel = vessel

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON."""
        fields = {
            "timestamp": _moment(record),
            "level": record.levelname,
            "vessel": self._vessel,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def configure_logging(vessel: str, level: str, style: str) -> None:
    """Send every log line of this process to stderr.

    Args:
        vessel: name that every line carries.
        level: debug, info, warning or error.
        style: `text` or `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(vessel) if style == "json" else LineFormatter(vessel))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
