"""Where an image is: a file, a ZEO server (a socket, or a host with TLS), a database of PostgreSQL, or another.

`file:///abs/live_image.fs`, `zeo:///path/to/socket`, `zeo://host:port?tls=FOLDER`, `postgresql://user@host/database`.

zodburi resolves storages by URI. Its `zeo` resolver cannot ask for `server_sync` (without which a commit that one
client saw acknowledged may be invisible to another) and leaves waiting unbounded, its `file` resolver makes no
blob folder, and RelStorage's `postgresql` resolver keeps the password in every name that it logs; these schemes are
therefore read here, the others are its own.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import zodburi

from batos.uvm.address import (
    BLOB_CACHE_BOUNDS,
    BLOB_CACHE_BYTES,
    COMMON_PARAMETERS,
    WAIT_BOUNDS_S,
    WAIT_S,
    Address,
    BlobFolder,
    database_options,
    number,
    parameters,
    switch,
)
from batos.uvm.errors import BadImageUri
from batos.uvm.file_storage import DurableFileStorage
from batos.uvm.postgresql import SCHEMES as POSTGRESQL
from batos.uvm.postgresql import postgresql
from batos.uvm.tls import client_context
from batos.uvm.zeo_client import ImageClient

MAX_SOCKET_PATH = 107
"""Bytes that the path of a Unix socket may have."""
DEFAULT_PORT = 9991

_ZODBURI_DEFAULTS = {"database_name": "unnamed", "pool_size": 7, "cache_size": 10_000}
"""What zodburi answers where an address says nothing; ours are others."""
_ZEO_PARAMETERS = COMMON_PARAMETERS | {"storage", "wait_timeout", "shared_blob_dir", "blob_cache_size", "tls"}


def resolve(uri: str) -> Address:
    """Understand the address of an image. Nothing is opened yet.

    Raises:
        BadImageUri: it cannot be understood; the error says why.
    """
    scheme, found, _ = uri.partition("://")
    if not found:
        raise BadImageUri(uri, "it has no scheme; write file:///path/live_image.fs or zeo:///path/to/socket")
    if scheme == "file":
        return _file(uri)
    if scheme == "zeo":
        return _zeo(uri)
    if scheme in POSTGRESQL:
        return postgresql(uri)
    return _foreign(uri)


def _file(uri: str) -> Address:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.netloc or not path.is_absolute() or path.name == "":
        raise BadImageUri(uri, "write file:// and an absolute path, for example file:///var/lib/batos/live_image.fs")
    given = parameters(uri, parts.query, COMMON_PARAMETERS)
    blobs = Path(given.get("blob_dir") or path.parent / "blobs")

    def open_storage(read_only: bool) -> Any:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        return DurableFileStorage(str(path), read_only=read_only, blob_dir=str(blobs))

    return Address(uri, WAIT_S, open_storage, database_options(uri, given), folder=str(path.parent))


def _zeo(uri: str) -> Address:
    parts = urlsplit(uri)
    given = parameters(uri, parts.query, _ZEO_PARAMETERS)
    target = _zeo_target(uri)
    wait_s = number(uri, given, "wait_timeout", *WAIT_BOUNDS_S, WAIT_S)
    is_shared = switch(uri, given, "shared_blob_dir", default=False)
    if is_shared and "blob_dir" not in given:
        raise BadImageUri(uri, "shared_blob_dir needs blob_dir, the folder that the server uses")
    cache_bytes = int(number(uri, given, "blob_cache_size", *BLOB_CACHE_BOUNDS, BLOB_CACHE_BYTES))
    tls = given.get("tls", "")
    if isinstance(target, tuple) and not tls and not _is_loopback(target[0]):
        raise BadImageUri(uri, "over a network an image is served with TLS only; add ?tls= and the folder of its keys")
    blobs = BlobFolder(given.get("blob_dir"))

    def open_storage(read_only: bool) -> Any:
        return ImageClient(
            target,
            uri=uri,
            wait_s=wait_s,
            ssl=client_context(Path(tls)) if tls else None,
            ssl_server_hostname=target[0] if tls and isinstance(target, tuple) else None,
            storage=given.get("storage", "1"),
            server_sync=True,
            read_only=read_only,
            blob_dir=blobs.path(),
            shared_blob_dir=is_shared,
            blob_cache_size=None if is_shared else cache_bytes,
        )

    return Address(uri, wait_s, open_storage, database_options(uri, given), blobs.release)


def _zeo_target(uri: str) -> str | tuple[str, int]:
    parts = urlsplit(uri)
    if not parts.netloc:
        path = unquote(parts.path)
        if not path.strip("/"):
            raise BadImageUri(uri, "it names neither a socket nor a host")
        if len(path.encode()) > MAX_SOCKET_PATH:
            raise BadImageUri(uri, f"the socket's path has more than {MAX_SOCKET_PATH} bytes; use a shorter folder")
        return path
    try:
        port = parts.port
    except ValueError as wrong:
        raise BadImageUri(uri, str(wrong)) from wrong
    if parts.path.strip("/"):
        raise BadImageUri(uri, "after host and port there is no path; a Unix socket is written zeo:///path")
    return parts.hostname or "127.0.0.1", port or DEFAULT_PORT


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _foreign(uri: str) -> Address:
    try:
        factory, options = zodburi.resolve_uri(uri)
    except (KeyError, ValueError) as wrong:
        raise BadImageUri(uri, f"no storage can be made of it: {wrong}") from wrong
    given = {name: value for name, value in options.items() if value != _ZODBURI_DEFAULTS.get(name)}

    def open_storage(read_only: bool) -> Any:
        if read_only:
            raise BadImageUri(uri, "this kind of storage says in its own address whether it only reads")
        return factory()

    return Address(uri, WAIT_S, open_storage, given)
