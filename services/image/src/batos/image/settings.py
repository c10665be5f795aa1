"""What the storage vessel can be told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import Field

from batos.image.server import COMMIT_TIMEOUT_S
from batos.vessel import SettingsError, VesselSettings, without_password

IMAGE_FOLDER = "image"
RUN_FOLDER = "run"
SOCKET_NAME = "image.sock"
MAX_PORT = 65535


class ImageSettings(VesselSettings):
    """Settings of the image vessel."""

    service: ClassVar[str] = "image"

    image_socket: str = Field(
        default="",
        max_length=1024,
        description="Unix socket to listen on; empty: that of image_uri, else run/image.sock in the home.",
    )
    image_listen: str = Field(
        default="",
        max_length=255,
        pattern=r"^(\S+:\d{1,5})?$",
        description="Address and port to listen on with TLS, for example 0.0.0.0:9991; empty: a Unix socket.",
    )
    image_transaction_timeout_s: float = Field(
        default=COMMIT_TIMEOUT_S,
        ge=1,
        le=3600,
        description="Seconds for which a client may hold the commit lock; then it is thrown out, others go on.",
    )
    image_pack_days: float = Field(
        default=30.0, ge=0, le=36500, description="Days for which every moment can be looked at; packing keeps them."
    )
    image_pack_every_h: float = Field(
        default=24.0, ge=0, le=8784, description="Hours between two packs; 0: only when it is asked for."
    )
    image_blob_scan_s: float = Field(
        default=60.0,
        ge=1,
        le=86400,
        description="Seconds for which the measured size of the blobs is not measured again.",
    )

    @property
    def folder(self) -> Path:
        """Where live_image.fs and its blobs lie."""
        return self.home / IMAGE_FOLDER

    def port(self) -> tuple[str, int]:
        """Return address and port to listen on with TLS; the address is empty where it is a Unix socket.

        Raises:
            SettingsError: there is no such port.
        """
        host, _, port = self.image_listen.rpartition(":")
        number = int(port or 0)
        if host and not 0 < number <= MAX_PORT:
            raise SettingsError(
                "image_listen", f"BATOS_IMAGE_LISTEN names port {number}", f"set it to one from 1 to {MAX_PORT}"
            )
        return host.strip("[]"), number

    def socket_path(self) -> Path:
        """Return the path to listen on.

        Raises:
            SettingsError: the image's URI names no Unix socket.
        """
        if self.image_socket:
            return Path(self.image_socket).expanduser().absolute()
        if not self.image_uri:
            return self.home / RUN_FOLDER / SOCKET_NAME
        parts = urlsplit(self.image_uri)
        if parts.scheme != "zeo" or parts.netloc or not parts.path:
            raise SettingsError(
                "image_uri",
                f"{without_password(self.image_uri)!r} names no Unix socket that this vessel could listen on",
                "set BATOS_IMAGE_URI to zeo:///path/of/the/socket, or BATOS_IMAGE_SOCKET",
            )
        return Path(unquote(parts.path))
