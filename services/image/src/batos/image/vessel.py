"""The image vessel: serves the storage and cares for its files; what is stored it looks at only to verify it."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from batos.image.caretaker import Caretaker
from batos.image.errors import CareError
from batos.image.listening import Listening, TlsPort, UnixSocket
from batos.image.metrics import ImageCollector
from batos.image.room import Room
from batos.image.server import ImageServer
from batos.image.settings import ImageSettings
from batos.image.storage import DATA_FILE
from batos.uvm import TlsUnusable
from batos.uvm.tls import server_context
from batos.vessel import StartFailed, Vessel, VesselError

NO_WRITING = "commits are refused, the disk is full"
"""What the vessel says of itself then. It stays ready: all that is stored can be read."""
_log = logging.getLogger(__name__)


class ImageVessel(Vessel[ImageSettings]):
    """Serves `live_image.fs` and its blobs."""

    kind: ClassVar[str] = "image"
    distribution: ClassVar[str] = "batos-image"

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self._server: ImageServer | None = None
        self._caretaker: Caretaker | None = None

    async def start(self) -> None:
        """Open the storage and listen."""
        settings = self.settings
        listening = self._listening()
        self.set_ready(False, f"opening {DATA_FILE}")
        loop = asyncio.get_running_loop()

        def died(error: BaseException | None) -> None:
            reason = VesselError("image_server_died", f"the storage server ended by itself: {error!r}")
            loop.call_soon_threadsafe(self.fail, reason)

        def room_changed(lacking: str) -> None:
            loop.call_soon_threadsafe(self.set_notice, f"{NO_WRITING} ({lacking})" if lacking else "")

        room = Room(room_changed)
        server = ImageServer(settings.folder, listening, died, settings.image_transaction_timeout_s, room)
        self.registry.register(ImageCollector(server.counts, settings.folder, settings.image_blob_scan_s))
        self._server = server
        await asyncio.to_thread(server.open)
        self._caretaker = Caretaker(server, settings, self.peer)
        try:
            await self._caretaker.note_packed()
        except CareError as error:
            _log.warning("%s; %s", error.message, error.hint)
        self._caretaker.start()
        _log.info("serving %s on %s", settings.folder / DATA_FILE, listening.address)
        self.set_ready(True)

    def _listening(self) -> Listening:
        host, port = self.settings.port()
        if not host:
            return UnixSocket(self.settings.socket_path())
        try:
            return TlsPort(host, port, server_context(self.settings.key_ring().folder))
        except TlsUnusable as error:
            raise StartFailed("image_tls", str(error)) from error

    async def stop(self) -> None:
        """End the care, close every connection and the storage."""
        if self._caretaker is not None:
            await self._caretaker.stop()
        if self._server is not None:
            await asyncio.to_thread(self._server.close)
            self._server = None
