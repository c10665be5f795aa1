"""How much one call may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a call, those that it makes in its turn included.

    Attributes:
        wall_s: from its beginning to its end, the host's share included, in seconds. What the host does for it (a
            trusted method that it sends a message to) is not interrupted, but nothing more is done afterwards.
        cpu_s: in the sandbox, in seconds.
        memory_bytes: in the sandbox.
        recursion: calls within calls in the sandbox.
        host_calls: slots read and set, messages sent.
        output_bytes: what it prints; it is read by nobody.
        value_items: parts of one value that crosses, in either direction.
        value_bytes: of one value that crosses.
        value_depth: how deeply such a value may be nested.
        crossed_bytes: of all values that cross, in both directions together; every part counts as some bytes more.
        nesting: methods of cycles that call each other.
    """

    wall_s: float = 5.0
    cpu_s: float = 1.0
    memory_bytes: int = 64 * 1024 * 1024
    recursion: int = 150
    host_calls: int = 2000
    output_bytes: int = 65_521
    value_items: int = 20_000
    value_bytes: int = 1_000_000
    value_depth: int = 30
    crossed_bytes: int = 16 * 1024 * 1024
    nesting: int = 4
