"""The image's own ZODB database: it loads only classes of the image."""

from __future__ import annotations

from typing import Any

from ZODB.DB import DB

from batos.uvm.address import Address
from batos.uvm.calling import Runner
from batos.uvm.connection import ImageConnection
from batos.uvm.loading import class_named

POOL_SIZE = 64
"""Connections at a time before ZODB warns; twice as many before it complains loudly."""
CACHE_OBJECTS = 10_000
"""Objects that each connection keeps in memory."""
HISTORICAL_POOL_SIZE = 8
HISTORICAL_CACHE_OBJECTS = 2_000


class ImageDatabase(DB):  # type: ignore[misc]  # ZODB has no types
    """A database whose connections are `ImageConnection`s.

    Attributes:
        address: where it was opened.
        sandbox: runs the methods that cycles wrote; None where they are refused.
    """

    klass = ImageConnection

    def __init__(self, storage: Any, address: Address) -> None:
        self.address = address
        self.sandbox: Runner | None = None
        settings = {
            "pool_size": POOL_SIZE,
            "cache_size": CACHE_OBJECTS,
            "historical_pool_size": HISTORICAL_POOL_SIZE,
            "historical_cache_size": HISTORICAL_CACHE_OBJECTS,
            **address.options,
        }
        super().__init__(storage, xrefs=False, **settings)

    def newest(self) -> bytes:
        """The newest transaction, also where this process has not heard of it. May be asked from any thread."""
        if hasattr(self.storage, "newest"):
            return bytes(self.storage.newest())
        if hasattr(self.storage, "sync"):  # a storage without clients elsewhere is always in step with itself
            self.storage.sync()
        return bytes(self.lastTransaction())

    def classFactory(self, _connection: Any, module: str, name: str) -> type:  # noqa: N802 - ZODB's name
        """ZODB's hook: the class that a record names.

        Raises:
            ForeignClass: it is none of the image's.
        """
        return class_named(module, name)
