"""Giving back the space of what changed before a horizon, which never passes a pin."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import packed_version
from ZODB.serialize import referencesf

from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.known_hashes import forget_file
from batos.image.storage import DATA_FILE, blob_bytes
from batos.protocol import ImagePacked, PinView

DAY_S = 86_400.0
STEP_S = 0.001
"""A pack time is a float: so much earlier than a pinned transaction it is certainly not later."""
PACK_FILE = f"{DATA_FILE}.pack"
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

    Raises:
        CareError: it could not be done; the image is as it was.
    """
    began = time.monotonic()
    before = _Sizes.of(storage, folder)
    stands = earliest = ""
    swapped = [before.file, before.file]

    def packer(*given: Any) -> Any:
        nonlocal earliest
        result = FileStorage.packer(*given)
        swapped[:] = [storage.getSize()] * 2
        if result is not None:  # nobody commits until the packed file is in its place
            swapped[1] = result[0]
            earliest = stands
        return result

    storage.packer = packer
    try:
        stands = _newest_until(storage, folder / DATA_FILE, until.at)
        forget_file(folder)
        storage.pack(until.at, referencesf)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(
                f"the packed copy of {folder / DATA_FILE}",
                error.strerror or str(error),
                f"nothing was packed and everything is readable; free up to {before.file} bytes there, and then "
                "`batos image pack`",
            ) from error
        raise CareError(
            "pack_failed",
            f"packing {folder / DATA_FILE} failed: {error.strerror or error}",
            "nothing was packed; see to that, and then `batos image pack`",
        ) from error
    except Exception as error:
        raise CareError(
            "pack_failed",
            f"packing {folder / DATA_FILE} failed: {type(error).__name__}: {error}",
            "nothing was packed; look for damage with `batos image verify`",
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            (folder / PACK_FILE).unlink()
    after = _Sizes.of(storage, folder)
    return ImagePacked(
        horizon=until.at,
        held_by=until.held_by,
        bytes_before=swapped[0],
        bytes_after=swapped[1],
        blob_bytes_before=before.blobs,
        blob_bytes_after=after.blobs,
        objects_before=before.objects,
        objects_after=after.objects,
        duration_ms=round((time.monotonic() - began) * _MS),
        earliest=earliest,
    )


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
