"""Where an image is: `file:///abs/live_image.fs`, `zeo:///path/to/socket`, `zeo://host:port?tls=FOLDER`, or another.

zodburi resolves storages by URI. Its `zeo` resolver cannot ask for `server_sync` (without which a commit that one
client saw acknowledged may be invisible to another) and leaves waiting unbounded, and its `file` resolver makes no
blob folder; these two schemes are therefore read here, the others are its own.
"""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import zodburi
from ZEO.ClientStorage import ClientStorage
from ZODB.FileStorage import FileStorage

from batos.uvm.errors import BadImageUri
from batos.uvm.tls import client_context

WAIT_S = 30.0
"""How long an answer of the storage is waited for, unless the address says otherwise (1 to 600 seconds)."""
_WAIT_BOUNDS_S = (1.0, 600.0)
BLOB_CACHE_BYTES = 512 * 1024 * 1024
"""How much disk a client's own blob cache may use."""
MAX_SOCKET_PATH = 107
"""Bytes that the path of a Unix socket may have."""
DEFAULT_PORT = 9991

_ZODBURI_DEFAULTS = {"database_name": "unnamed", "pool_size": 7, "cache_size": 10_000}
"""What zodburi answers where an address says nothing; ours are others."""
_FILE_PARAMETERS = frozenset({"blob_dir", "connection_pool_size", "connection_cache_size"})
_ZEO_PARAMETERS = frozenset({
    "storage", "wait_timeout", "blob_dir", "shared_blob_dir", "blob_cache_size", "tls",
    "connection_pool_size", "connection_cache_size",
})  # fmt: skip


class TidyFileStorage(FileStorage):  # type: ignore[misc]  # ZODB has no types
    """ZODB's, which also gives back its files and its lock where it cannot be opened."""

    def __init__(self, path: str, **options: Any) -> None:
        try:
            super().__init__(path, **options)
        except BaseException:
            for name in ("_file", "_tfile", "_lock_file"):
                left_open = self.__dict__.get(name)
                if left_open is not None:
                    left_open.close()
            raise


@dataclass(frozen=True)
class Address:
    """A storage that can be opened.

    Attributes:
        uri: the address as it was given.
        wait_s: how long an answer is waited for.
        open_storage: opens it; True asks for reading only.
        options: settings of the database over it.
        release: gives back what opening needed beside the storage; called once, after the storage was closed.
    """

    uri: str
    wait_s: float
    open_storage: Callable[[bool], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None


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
    return _foreign(uri)


def _query(uri: str, query: str, allowed: frozenset[str]) -> dict[str, str]:
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as wrong:
        raise BadImageUri(uri, str(wrong)) from wrong
    unknown = sorted(set(given) - allowed)
    if unknown:
        raise BadImageUri(uri, f"unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(allowed))}")
    return given


def _number(uri: str, given: Mapping[str, str], name: str, low: float, high: float, default: float) -> float:
    if name not in given:
        return default
    try:
        value = float(given[name])
    except ValueError:
        raise BadImageUri(uri, f"{name} is not a number: {given[name]!r}") from None
    if not low <= value <= high:
        raise BadImageUri(uri, f"{name} is {value:g}, which is not between {low:g} and {high:g}")
    return value


def _options(uri: str, given: Mapping[str, str]) -> dict[str, int]:
    bounds = {"pool_size": (1, 10_000), "cache_size": (100, 10_000_000)}
    return {
        name: int(_number(uri, given, f"connection_{name}", low, high, 0))
        for name, (low, high) in bounds.items()
        if f"connection_{name}" in given
    }


def _file(uri: str) -> Address:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.netloc or not path.is_absolute() or path.name == "":
        raise BadImageUri(uri, "write file:// and an absolute path, for example file:///var/lib/batos/live_image.fs")
    given = _query(uri, parts.query, _FILE_PARAMETERS)
    blobs = Path(given.get("blob_dir") or path.parent / "blobs")

    def open_storage(read_only: bool) -> Any:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        return TidyFileStorage(str(path), read_only=read_only, blob_dir=str(blobs))

    return Address(uri, WAIT_S, open_storage, _options(uri, given))


def _zeo(uri: str) -> Address:
    parts = urlsplit(uri)
    given = _query(uri, parts.query, _ZEO_PARAMETERS)
    target = _zeo_target(uri)
    wait_s = _number(uri, given, "wait_timeout", *_WAIT_BOUNDS_S, WAIT_S)
    shared = given.get("shared_blob_dir", "0").lower()
    if shared not in {"0", "1", "true", "false"}:
        raise BadImageUri(uri, f"shared_blob_dir is {shared!r}, which is neither 1 nor 0")
    is_shared = shared in {"1", "true"}
    if is_shared and "blob_dir" not in given:
        raise BadImageUri(uri, "shared_blob_dir needs blob_dir, the folder that the server uses")
    cache_bytes = int(_number(uri, given, "blob_cache_size", 2**20, 2**50, BLOB_CACHE_BYTES))
    tls = given.get("tls", "")
    if isinstance(target, tuple) and not tls and not _is_loopback(target[0]):
        raise BadImageUri(uri, "over a network an image is served with TLS only; add ?tls= and the folder of its keys")
    folders: list[tempfile.TemporaryDirectory[str]] = []

    def open_storage(read_only: bool) -> Any:
        blob_dir = given.get("blob_dir")
        if blob_dir is None:
            folders.append(tempfile.TemporaryDirectory(prefix="batos-blobs-"))
            blob_dir = folders[-1].name
        return ClientStorage(
            target,
            ssl=client_context(Path(tls)) if tls else None,
            ssl_server_hostname=target[0] if tls and isinstance(target, tuple) else None,
            storage=given.get("storage", "1"),
            wait_timeout=wait_s,
            server_sync=True,
            read_only=read_only,
            blob_dir=blob_dir,
            shared_blob_dir=is_shared,
            blob_cache_size=None if is_shared else cache_bytes,
        )

    def release() -> None:
        while folders:
            folders.pop().cleanup()

    return Address(uri, wait_s, open_storage, _options(uri, given), release)


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
