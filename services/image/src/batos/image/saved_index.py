"""The index that lies beside the image's file, with a hash at its end.

It says where every object's current record stands, so that a start need not read the whole file. A flipped bit in it
would lead to other records than the current ones; ZODB looks at the last five objects only. So what is not as it was
written is not used: the file is read instead, and a new index made. ZODB itself reads an index up to its end mark and
does not see the hash behind it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ZODB.fsIndex import fsIndex

_HASH_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class SavedIndex:
    """What an index says.

    Attributes:
        position: how long the image's file was when it was written.
        index: object ids and where their records stand.
    """

    position: int
    index: fsIndex


def index_path(path: Path) -> Path:
    """Return where the index of an image's file lies."""
    return path.with_name(f"{path.name}.index")


def seal(index: Path) -> None:
    """Put a hash at the end of an index that has just been written."""
    digest = hashlib.sha256(index.read_bytes()).digest()
    with index.open("ab") as file:
        file.write(digest)


def is_sealed(index: Path) -> bool:
    """Say whether an index is there and as it was written; one that another program wrote has no hash."""
    try:
        content = index.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(content[:-_HASH_BYTES]).digest() == content[-_HASH_BYTES:]


def saved_index(path: Path) -> SavedIndex | None:
    """Return what the index of an image's file says; None where there is none, or it is not as it was written."""
    index = index_path(path)
    if not is_sealed(index):
        return None
    content = fsIndex.load(str(index))
    return SavedIndex(int(content["pos"]), content["index"])
