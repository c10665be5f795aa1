"""The storage vessel of the Living Image: ZEO over FileStorage with blobs."""

from __future__ import annotations

from batos.image.errors import StorageUnusable
from batos.image.listening import MAX_SOCKET_PATH_BYTES, Listening, TlsPort, UnixSocket
from batos.image.server import ImageServer, ServerCounts
from batos.image.settings import ImageSettings
from batos.image.vessel import ImageVessel

__all__ = [
    "MAX_SOCKET_PATH_BYTES",
    "ImageServer",
    "ImageSettings",
    "ImageVessel",
    "Listening",
    "ServerCounts",
    "StorageUnusable",
    "TlsPort",
    "UnixSocket",
]
