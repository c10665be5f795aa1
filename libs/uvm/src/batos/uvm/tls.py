"""Who may speak to an image over a network: TLS 1.3, both sides with a certificate of the fleet's own authority.

ZEO itself admits whoever reaches its port. So a server on a network shows `image-server.pem` and asks for a client's
certificate, a client shows `image-client.pem`, and each accepts only what `image-ca.pem` has signed for that purpose.
All of it lies in one folder, which the address of the image names (`zeo://host:port?tls=FOLDER`).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from batos.uvm.errors import TlsUnusable

CA = "image-ca.pem"
SERVER = "image-server"
CLIENT = "image-client"
CERTIFICATE_SUFFIX = ".pem"
KEY_SUFFIX = ".key"


def client_context(folder: Path) -> ssl.SSLContext:
    """Return what a client of the image shows and accepts.

    Args:
        folder: with the authority's certificate, and the client's with its key.

    Raises:
        TlsUnusable: a file is missing or holds something else.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder, CLIENT)


def server_context(folder: Path) -> ssl.SSLContext:
    """Return what the image's server shows and accepts: no client without a certificate.

    Args:
        folder: with the authority's certificate, and the server's with its key.

    Raises:
        TlsUnusable: a file is missing or holds something else.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder, SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(protocol: int, folder: Path, own: str) -> ssl.SSLContext:
    paths = [folder / CA, folder / f"{own}{CERTIFICATE_SUFFIX}", folder / f"{own}{KEY_SUFFIX}"]
    for path in paths:
        if not path.is_file():
            raise TlsUnusable(path, "it is not there")
    authority, certificate, key = paths
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise TlsUnusable(authority, _said(error)) from error
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise TlsUnusable(certificate, f"with {key.name}: {_said(error)}") from error
    return context


def _said(error: OSError) -> str:
    """Return what the system or OpenSSL says of it, without the place in their source."""
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)
