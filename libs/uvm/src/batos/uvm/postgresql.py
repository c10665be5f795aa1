"""`postgresql://user:password@host:port/database`: an image in PostgreSQL.

The database keeps objects, their history and blobs; a vessel keeps a cache of blobs in a folder of its own. RelStorage
is asked for only when such an address is opened: a fleet on ZEO does without it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

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
from batos.uvm.errors import BadImageUri, UvmError

SCHEMES = frozenset({"postgresql", "postgres"})
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_PARAMETERS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_PARAMETERS = COMMON_PARAMETERS | {"wait_timeout", "blob_cache_size", "keep_history", "host", *_TLS_PARAMETERS}
_ENCODE = "in user and password each of : / ? # [ ] @ % is written as % and two digits (@ is %40)"


def postgresql(uri: str) -> Address:
    """Understand the address of a database.

    Raises:
        BadImageUri: it cannot be understood. The error does not show the password.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise BadImageUri(uri, f"host and port cannot be read; {_ENCODE}") from None
    given = parameters(uri, parts.query, _PARAMETERS)
    if not switch(uri, given, "keep_history", default=True):
        raise BadImageUri(uri, "an image keeps its history: leave keep_history out")
    wait_s = number(uri, given, "wait_timeout", *WAIT_BOUNDS_S, WAIT_S)
    cache_bytes = int(number(uri, given, "blob_cache_size", *BLOB_CACHE_BOUNDS, BLOB_CACHE_BYTES))
    if given.get("sslmode", SSL_MODES[0]) not in SSL_MODES:
        raise BadImageUri(uri, f"sslmode is one of {', '.join(SSL_MODES)}")
    place: dict[str, Any] = {
        "host": _host(uri, parts, given),
        "port": port,
        "dbname": _database(uri, parts),
        "user": unquote(parts.username) if parts.username else None,
        **{name: given.get(name) for name in _TLS_PARAMETERS},
    }
    password = unquote(parts.password) if parts.password else None
    blobs = BlobFolder(given.get("blob_dir"))

    def open_storage(read_only: bool) -> Any:
        try:
            from batos.uvm import relational  # noqa: PLC0415 - it needs packages that other images do without
        except ImportError as missing:
            raise BadImageUri(uri, f"{missing}; install batos-uvm with its extra `postgresql`") from missing
        return relational.open_database(
            uri,
            place,
            password,
            wait_s=wait_s,
            blob_dir=blobs.path(),
            blob_cache_bytes=cache_bytes,
            read_only=read_only,
        )

    def absence(wrong: BaseException) -> str | UvmError | None:
        from batos.uvm import relational  # noqa: PLC0415 - as above

        return relational.absence(uri, wrong)

    return Address(uri, wait_s, open_storage, database_options(uri, given), blobs.release, absence)


def _host(uri: str, parts: SplitResult, given: dict[str, str]) -> str:
    folder = given.get("host", "")
    if bool(parts.hostname) == bool(folder):
        raise BadImageUri(uri, "name a host, or else the folder of a Unix socket by ?host=/run/postgresql")
    if folder and not folder.startswith("/"):
        raise BadImageUri(uri, "the parameter host is the absolute path of a socket's folder")
    return folder or str(parts.hostname)


def _database(uri: str, parts: SplitResult) -> str:
    name = parts.path.removeprefix("/")
    if not name or "/" in name or parts.fragment:
        raise BadImageUri(uri, f"write postgresql://user:password@host:port/database; {_ENCODE}")
    return unquote(name)
