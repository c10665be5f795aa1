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
from batos.protocol import ImagePacked, ImagePins
from batos.uvm import NoImageYet, note_packed, open_image, tid_at
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


def add_pin(uri: str, name: str, moment: str, *, reason: str, by: str) -> ImagePins:
    """Pin a moment; return all pins."""
    with open_image(uri) as image:
        pin(image, name, moment, reason=reason, by=by)
    return pinned(uri)


def remove_pin(uri: str, name: str) -> ImagePins:
    """Forget a pin; return those that are left."""
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
    until = horizon(days, pinned(uri).pins, time.time())
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
    address = resolve(uri)
    storage: Any = address.open_storage(False)
    try:
        return bytes(storage.pack_until(stop))
    finally:
        storage.close()
        address.release()
