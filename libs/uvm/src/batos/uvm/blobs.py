"""Bytes too large for a record."""

from __future__ import annotations

import tempfile

from ZODB.blob import Blob

from batos.uvm.commit_errors import no_room


def store_blob(data: bytes) -> Blob:
    """A new blob with these bytes; it is stored with the object that refers to it.

    Raises:
        DiskFull: there is no room for them in the folder of temporary files.
    """
    blob = Blob()
    try:
        with blob.open("w") as target:
            rest = memoryview(data)
            while rest:  # ZODB's blob writes at once what a full disk still takes of it, and does not complain
                rest = rest[target.write(rest) :]
    except OSError as wrong:
        full = no_room(wrong, tempfile.gettempdir())
        if full is None:
            raise
        raise full from wrong
    return blob


def read_blob(blob: Blob) -> bytes:
    """All bytes of a blob."""
    with blob.open("r") as source:
        return bytes(source.read())
