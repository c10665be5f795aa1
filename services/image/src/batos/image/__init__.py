"""The storage vessel of the Living Image: ZEO over FileStorage with blobs."""

from __future__ import annotations

import sys

# ZEO takes uvloop wherever it can be imported, and beside uvloop its invalidations come out of order (stale reads).
sys.modules["uvloop"] = None  # type: ignore[assignment]

from batos.image.errors import StorageUnusable  # noqa: E402 - all of these import ZEO: after the line above
from batos.image.listening import MAX_SOCKET_PATH_BYTES, Listening, TlsPort, UnixSocket  # noqa: E402
from batos.image.server import ImageServer, ServerCounts  # noqa: E402
from batos.image.settings import ImageSettings  # noqa: E402
from batos.image.vessel import ImageVessel  # noqa: E402

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
