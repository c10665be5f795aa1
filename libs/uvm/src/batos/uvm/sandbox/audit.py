"""What is told of every method that was stopped: who tried what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class AuditRecord:
    """One refusal, limit, failure or loss.

    Attributes:
        author: the cycle that wrote the method.
        method: its name.
        receiver: where the object stands that was asked, as a path from the image's root.
        rule: which rule ended it.
        detail: what it tried, in one sentence.
        line: in which line of its source; 0 where that is not known.
        time: when, in seconds since the epoch.
    """

    author: str
    method: str
    receiver: str
    rule: str
    detail: str
    line: int
    time: float


Audit = Callable[[AuditRecord], None]
