"""The storage vessel of the Living Image: ZEO over FileStorage with blobs, on a Unix socket."""

from __future__ import annotations

from batos.image.errors import StorageUnusable
from batos.image.server import MAX_SOCKET_PATH_BYTES, ImageServer, ServerCounts
from batos.image.settings import ImageSettings
from batos.image.vessel import ImageVessel

__all__ = [
    "MAX_SOCKET_PATH_BYTES",
    "ImageServer",
    "ImageSettings",
    "ImageVessel",
    "ServerCounts",
    "StorageUnusable",
]
