"""Values as they leave the image: detached from it, free to cross threads and to be encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any


def plain(value: Any) -> Any:
    """Return persistent mappings, lists and sets as plain dicts, lists and sorted lists, all the way down."""
    if isinstance(value, (str, bytes, bytearray)):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(plain(item) for item in value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value
