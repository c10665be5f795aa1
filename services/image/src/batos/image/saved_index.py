"""The index that lies beside the image's file, with a hash at its end.

It says where every object's current record stands, so that a start need not read the whole file. A flipped bit in it
would lead to other records than the current ones; ZODB looks at the last five objects only. So what is not as it was
written is not used: the file is read instead, and a new index made. ZODB itself reads an index up to its end mark and
does not see the hash behind it.

ZODB's own, of a client that opened the file itself or of an earlier version, ends with that mark. Its records are not
used either, but the length that it names still tells whether a part of the file is missing.
"""

from __future__ import annotations

import hashlib
import pickletools
from dataclasses import dataclass
from pathlib import Path

from ZODB.fsIndex import fsIndex

_HASH_BYTES = hashlib.sha256().digest_size
_END_MARK = b"\x80\x03N."
"""How ZODB ends an index: a pickle of nothing."""
_POSITION_BYTES = 32
"""At its beginning: more than the pickle of any position takes."""


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


def unsealed_position(path: Path) -> int:
    """Return how long the image's file was when ZODB wrote an index without a hash; 0 where there is none such.

    The pickle is looked at, not loaded: nothing that it names is called.
    """
    try:
        content = index_path(path).read_bytes()
    except FileNotFoundError:
        return 0
    if not content.endswith(_END_MARK):
        return 0
    try:
        given = [value for _, value, _ in pickletools.genops(content[:_POSITION_BYTES])]
    except ValueError:  # its beginning is no pickle
        return 0
    match given:
        case [_, int(position), None]:  # the pickle's version, the number, its end
            return position
        case _:
            return 0
