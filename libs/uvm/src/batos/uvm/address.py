"""One address of an image, understood: how its storage is opened, and what the parameters of every scheme mean."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from ZEO.Exceptions import ClientDisconnected

from batos.uvm.commit_errors import no_room
from batos.uvm.errors import BadImageUri, ImageUnreachable, UvmError

WAIT_S = 30.0
"""How long an answer of the storage is waited for, unless the address says otherwise (1 to 600 seconds)."""
WAIT_BOUNDS_S = (1.0, 600.0)
BLOB_CACHE_BYTES = 512 * 1024 * 1024
"""How much disk a client's own blob cache may use."""
BLOB_CACHE_BOUNDS = (2**20, 2**50)
COMMON_PARAMETERS = frozenset({"blob_dir", "connection_pool_size", "connection_cache_size"})


@dataclass(frozen=True)
class Address:
    """A storage that can be opened.

    Attributes:
        uri: the address as it was given.
        wait_s: how long an answer is waited for.
        open_storage: opens it; True asks for reading only.
        options: settings of the database over it.
        release: gives back what opening needed beside the storage; called once, after the storage was closed.
        folder: of the files that this process itself writes of the image; empty where there are none.
        absence: the words for what the storage raises when it is not there or refuses; None where it is neither.
    """

    uri: str = field(repr=False)
    wait_s: float
    open_storage: Callable[[bool], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None
    absence: Callable[[BaseException], str | UvmError | None] = lambda _wrong: None
    folder: str = ""

    def named(self, wrong: BaseException, doing: str) -> UvmError | None:
        """The image's own error where the storage is away, refuses or finds no room; None where it is something else.

        Args:
            wrong: what was raised.
            doing: what was being done, for people.
        """
        if isinstance(wrong, UvmError):
            return None
        if isinstance(wrong, ClientDisconnected):
            return ImageUnreachable(self.uri, self.wait_s, doing)
        full = no_room(wrong, self.folder, tempfile.gettempdir())
        if full is not None:
            return full
        why = self.absence(wrong)
        return ImageUnreachable(self.uri, self.wait_s, doing, why) if isinstance(why, str) else why


class BlobFolder:
    """Where a client keeps blobs that it has seen: a folder that was named, or one of its own that goes with it."""

    def __init__(self, named: str | None) -> None:
        self._named = named
        self._own: list[tempfile.TemporaryDirectory[str]] = []

    def path(self) -> str:
        """The folder; made where it was not named."""
        if self._named:
            return self._named
        self._own.append(tempfile.TemporaryDirectory(prefix="batos-blobs-"))
        return self._own[-1].name

    def release(self) -> None:
        """Remove what was made."""
        while self._own:
            self._own.pop().cleanup()


def parameters(uri: str, query: str, allowed: frozenset[str]) -> dict[str, str]:
    """The parameters of an address.

    Raises:
        BadImageUri: one is unknown, or they are not written as name=value.
    """
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as wrong:
        raise BadImageUri(uri, str(wrong)) from wrong
    unknown = sorted(set(given) - allowed)
    if unknown:
        raise BadImageUri(uri, f"unknown parameter {', '.join(unknown)}; known are {', '.join(sorted(allowed))}")
    return given


def number(uri: str, given: Mapping[str, str], name: str, low: float, high: float, default: float) -> float:
    """A parameter that is a number within bounds.

    Raises:
        BadImageUri: it is not.
    """
    if name not in given:
        return default
    try:
        value = float(given[name])
    except ValueError:
        raise BadImageUri(uri, f"{name} is not a number: {given[name]!r}") from None
    if not low <= value <= high:
        raise BadImageUri(uri, f"{name} is {value:g}, which is not between {low:g} and {high:g}")
    return value


def switch(uri: str, given: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A parameter that is 1 or 0.

    Raises:
        BadImageUri: it is neither.
    """
    value = given.get(name, str(int(default))).lower()
    if value not in {"0", "1", "true", "false"}:
        raise BadImageUri(uri, f"{name} is {value!r}, which is neither 1 nor 0")
    return value in {"1", "true"}


def database_options(uri: str, given: Mapping[str, str]) -> dict[str, int]:
    """Settings of the database that are parameters of every scheme.

    Raises:
        BadImageUri: one is out of bounds.
    """
    bounds = {"pool_size": (1, 10_000), "cache_size": (100, 10_000_000)}
    return {
        name: int(number(uri, given, f"connection_{name}", low, high, 0))
        for name, (low, high) in bounds.items()
        if f"connection_{name}" in given
    }
