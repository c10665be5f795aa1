"""Giving back the space of what changed before a horizon, which never passes a pin."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage.FileStorage import packed_version
from ZODB.FileStorage.fspack import FileStoragePacker
from ZODB.serialize import referencesf

from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.storage import DATA_FILE, blob_bytes, swap_in
from batos.image.swap import Swap
from batos.protocol import ImagePacked, PinView

DAY_S = 86_400.0
STEP_S = 0.001
"""A pack time is a float: so much earlier than a pinned transaction it is certainly not later."""
_MS = 1000
_LENGTH_BYTES = 8
_TID_BYTES = 8


@dataclass(frozen=True)
class Horizon:
    """From when on every moment can still be looked at.

    Attributes:
        at: seconds since the epoch.
        held_by: name of the pin that it stays at; empty where none stood in its way.
    """

    at: float
    held_by: str = ""


def horizon(days: float, pins: Iterable[PinView], now: float) -> Horizon:
    """Return how far packing may go.

    Days are counted by the clock, moments by their transactions, whose times never go back. So a clock that was set
    back makes packing keep more: what was committed since stands later than all before, and is reached when the clock
    is there.

    Args:
        days: how long history is kept.
        pins: moments that are not passed.
        now: seconds since the epoch.
    """
    found = Horizon(max(DAY_S, now - days * DAY_S))  # ZODB takes no time before 1970
    for pin in pins:
        pinned = TimeStamp(bytes.fromhex(pin.tid)).timeTime() - STEP_S
        if pinned < found.at:
            found = Horizon(pinned, pin.name)
    return found


def pack(storage: Any, folder: Path, until: Horizon) -> ImagePacked:
    """Pack a storage that is being served. Blocks for as long as it takes; commits go on.

    Where it gave something back, `Swap.owed` says from now on what the image has to be told.

    Raises:
        CareError: it could not be done; the sentence says whether the image is as it was.
    """
    began = time.monotonic()
    before = _Sizes.of(storage, folder)
    packing = _Packing(swap_in(folder))
    storage.packer = packing.packer
    try:
        packing.swap.finish(storage)
        packing.stands = _newest_until(storage, folder / DATA_FILE, until.at)
        storage.pack(until.at, referencesf)
    except Exception as error:
        raise packing.said(error, before.file) from error
    finally:
        with contextlib.suppress(OSError):  # the next start drops it
            packing.swap.drop()
    after = _Sizes.of(storage, folder)
    return ImagePacked(
        horizon=until.at,
        held_by=until.held_by,
        bytes_before=packing.bytes_before or before.file,
        bytes_after=packing.bytes_after or before.file,
        blob_bytes_before=before.blobs,
        blob_bytes_after=after.blobs,
        objects_before=before.objects,
        objects_after=after.objects,
        duration_ms=round((time.monotonic() - began) * _MS),
        earliest=packing.earliest,
    )


class _Packing:
    """One pack, and how far it came.

    Attributes:
        swap: its files.
        stands: the newest transaction up to the horizon.
        earliest: the same, once the image is about to be packed up to there; empty where nothing was to be given back.
        bytes_before: the length of the file then.
        bytes_after: the length of the packed one.
    """

    def __init__(self, swap: Swap) -> None:
        self.swap = swap
        self.stands = self.earliest = ""
        self.bytes_before = self.bytes_after = 0

    def packer(self, storage: Any, *given: Any) -> Any:
        """Make the packed copy, and everything ready for it: ZODB's hook, which returns with the commit lock held."""
        copying = _Copying(storage, *given)
        try:
            end = copying.pack()
        finally:
            copying.close()
        if end is None:
            return None
        try:
            self.swap.prepare(self.stands)
        except BaseException:
            storage._commit_lock.release()  # noqa: SLF001 - what ZODB's own packer does where it fails
            raise
        self.bytes_before, self.bytes_after, self.earliest = storage.getSize(), end, self.stands
        return end, copying.index

    @property
    def _is_swapped(self) -> bool:
        return bool(self.earliest) and not self.swap.packed.exists()

    def said(self, error: Exception, size: int) -> CareError:
        """Return the words for what went wrong."""
        file = self.swap.path
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            why = f"{error.filename or self.swap.packed}: {error.strerror or error}"
        if self._is_swapped:
            return CareError(
                "pack_unfinished",
                f"{file} was packed, but what it needs no more could not all be taken away: {why}",
                "see to that; the next pack, or the next start, takes the rest away",
            )
        if self.swap.is_half:
            return CareError(
                "pack_failed",
                f"the packed file could not be put in the place of {file}: {why}",
                "nothing is lost, and nothing can be read: `batos down` and `batos up`, which puts it back",
            )
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return disk_full(
                f"the packed copy of {file}",
                why,
                f"nothing was packed and everything is readable; free up to {size} bytes there, and then "
                "`batos image pack`",
            )
        helps = (
            "see to that, and then `batos image pack`"
            if isinstance(error, OSError)
            else "look for damage with `batos image verify`"
        )
        return CareError("pack_failed", f"packing {file} failed: {why}", f"nothing was packed; {helps}")


class _Copying(FileStoragePacker):  # type: ignore[misc]  # ZODB has no types
    """ZODB's packer, which waits for the disk once more before it begins to keep others from committing."""

    def copyToPacktime(self) -> tuple[int, int]:  # noqa: N802 - ZODB's name
        """Copy what was committed up to the horizon: most of the file."""
        found: tuple[int, int] = super().copyToPacktime()
        self._tfile.flush()
        os.fsync(self._tfile.fileno())
        return found


def _newest_until(storage: Any, path: Path, at: float) -> str:
    """Return the newest transaction up to a pack time, whose state stays whole; empty where there is none."""
    stop = bytes(TimeStamp(*time.gmtime(at)[:5], at % 60).raw())  # as the storage reckons it
    with storage._lock:  # noqa: SLF001 - a size that ends with a whole transaction
        end = int(storage.getSize())
    with path.open("rb") as file:
        while end > len(packed_version):
            file.seek(end - _LENGTH_BYTES)  # a transaction ends with its length, which does not count these bytes
            end -= int.from_bytes(file.read(_LENGTH_BYTES), "big") + _LENGTH_BYTES
            file.seek(end)
            tid = file.read(_TID_BYTES)
            if tid <= stop:
                return tid.hex()
    return ""


@dataclass(frozen=True)
class _Sizes:
    file: int
    blobs: int
    objects: int

    @classmethod
    def of(cls, storage: Any, folder: Path) -> _Sizes:
        return cls(storage.getSize(), blob_bytes(folder), len(storage))
