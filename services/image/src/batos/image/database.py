"""Care for an image in PostgreSQL, which has no vessel: pins, and a pack that heeds them. Run by `batos.image.care`.

Backups are PostgreSQL's own. RelStorage's `zodbpack` knows nothing of pins.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from batos.image.errors import CareError
from batos.image.packing import horizon
from batos.image.pins import pin, pins, unpin
from batos.image.reporting import Tell
from batos.protocol import ImagePacked, ImagePins, PinView
from batos.uvm import NoImageYet, PackUnderWay, UvmError, note_packed, open_image, tid_at
from batos.uvm.addresses import resolve

SCHEMES = ("postgresql://", "postgres://")
_MS = 1000


def database(uri: str) -> str:
    """Return the address of a database.

    Raises:
        CareError: it is the address of something else.
    """
    if not uri.startswith(SCHEMES):
        raise CareError(
            "image_elsewhere",
            "this image is not kept in PostgreSQL",
            "set BATOS_IMAGE_URI to its address, or ask the fleet that serves it",
        )
    return uri


def pinned(uri: str) -> ImagePins:
    """Return the pins."""
    try:
        with open_image(uri, read_only=True) as image, image.snapshot() as root:
            return ImagePins(pins=pins(root))
    except NoImageYet:
        return ImagePins(pins=())


def _there(uri: str) -> tuple[PinView, ...]:
    """Return the pins, and make sure that there is an image: whoever opens a database for writing makes one in it.

    Raises:
        CareError: there is none.
    """
    try:
        with open_image(uri, read_only=True) as image, image.snapshot() as root:
            return pins(root)
    except NoImageYet as error:
        raise CareError(
            "image_unknown",
            f"there is no image at {error.uri}, and nothing was made there",
            "correct BATOS_IMAGE_URI, or start the fleet that is to live there",
        ) from error


def add_pin(uri: str, name: str, moment: str, *, reason: str, by: str) -> ImagePins:
    """Pin a moment; return all pins."""
    _there(uri)
    with open_image(uri) as image:
        pin(image, name, moment, reason=reason, by=by)
    return pinned(uri)


def remove_pin(uri: str, name: str) -> ImagePins:
    """Forget a pin; return those that are left."""
    _there(uri)
    with open_image(uri) as image:
        unpin(image, name)
    return pinned(uri)


def pack(uri: str, days: float, tell: Tell) -> ImagePacked:
    """Forget what changed before that, as far as no pin stands in the way. The fleet goes on.

    Sizes are not told: PostgreSQL gives the space back when it vacuums.

    Args:
        uri: of the database.
        days: how long history is kept.
        tell: is told how far it is.
    """
    began = time.monotonic()
    tell("looking for pins", None, None)
    until = horizon(days, _there(uri), time.time())
    tell("packing", None, None)
    earliest = _packed(uri, tid_at(dt.datetime.fromtimestamp(until.at, dt.UTC))).hex()
    if earliest:
        with open_image(uri) as image:
            note = f"packed up to {earliest}"
            earliest = image.run(lambda root: note_packed(root, earliest), user="image", note=note)
    return ImagePacked(
        horizon=until.at,
        held_by=until.held_by,
        bytes_before=0,
        bytes_after=0,
        blob_bytes_before=0,
        blob_bytes_after=0,
        objects_before=0,
        objects_after=0,
        duration_ms=round((time.monotonic() - began) * _MS),
        earliest=earliest,
    )


def _packed(uri: str, stop: bytes) -> bytes:
    """Pack up to a moment; return the transaction it was, empty where there was nothing to forget.

    Raises:
        CareError: it could not be done.
        UvmError: the database is away, or refuses.
    """
    address = resolve(uri)
    storage: Any = None
    try:
        storage = address.open_storage(False)
        return bytes(storage.pack_until(stop))
    except PackUnderWay as error:
        raise CareError(
            "image_busy", "a pack of this image is under way", "wait until it has ended, then ask again"
        ) from error
    except UvmError:
        raise
    except Exception as error:
        named = address.named(error, "packing")
        if named is not None:
            raise named from error
        raise CareError(
            "pack_failed",
            f"packing failed: {type(error).__name__}: {' '.join(str(error).split())}",
            "all that can be looked at still can; see to that, and then `batos image pack`",
        ) from error
    finally:
        if storage is not None:
            storage.close()
        address.release()
