"""Where a vessel reaches its own image, as any client does."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from batos.image.settings import ImageSettings

WAIT_S = 5


def own_uri(settings: ImageSettings) -> str:
    """Return the address of this vessel's image on this machine."""
    host, port = settings.port()
    if not host:
        return f"zeo://{quote(str(settings.socket_path()))}?wait_timeout={WAIT_S}"
    # The certificate names localhost, whichever address of this machine the server listens on.
    return f"zeo://localhost:{port}?" + urlencode({"tls": settings.key_ring().folder, "wait_timeout": WAIT_S})
