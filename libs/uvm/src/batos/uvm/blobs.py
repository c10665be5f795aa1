"""Bytes too large for a record."""

from __future__ import annotations

from ZODB.blob import Blob


def store_blob(data: bytes) -> Blob:
    """A new blob with these bytes; it is stored with the object that refers to it."""
    return Blob(data)


def read_blob(blob: Blob) -> bytes:
    """All bytes of a blob."""
    with blob.open("r") as source:
        return bytes(source.read())
