"""What may be loaded by name: the image's own classes. Every pickle that ZODB and ZEO load in this process asks here.

A pickle names what is to be called to make it again. A database asks its own `classFactory`, but ZODB and ZEO load more
than records, and import there whatever a pickle names: to settle a conflict (clients and server), to name the class in
a conflict's error, to read an index or what a transaction says of itself, to take a message. Importing this module
closes all of these; the package imports it, so that nothing that opens or serves a storage can forget to.
"""

from __future__ import annotations

import datetime as dt
import decimal
import io
import uuid
from types import MappingProxyType
from typing import Any

import ZODB._compat
import ZODB.ConflictResolution
import zodbpickle.pickle
from persistent.mapping import PersistentMapping
from ZEO.asyncio import marshal

from batos.uvm.errors import ForeignClass
from batos.uvm.objects import UvmObject
from batos.uvm.values import PERSISTENT_VALUES

RECORDS: frozenset[type] = PERSISTENT_VALUES | {PersistentMapping}
"""Persistent classes beside `UvmObject` that have records. ZODB's own mapping is the image's root."""
_PARTS = (
    dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone,
    decimal.Decimal, uuid.UUID, complex, set, frozenset,
)  # fmt: skip
"""Classes of values within a record that pickle makes by calling them."""

LOADABLE = MappingProxyType({(found.__module__, found.__qualname__): found for found in (UvmObject, *RECORDS, *_PARTS)})
"""Everything that a record may name, by module and name. Nothing is ever imported because a record says so."""


def class_named(module: str, name: str) -> type:
    """The class of the image that a pickle names.

    Raises:
        ForeignClass: it is none of the image's.
    """
    try:
        return LOADABLE[module, name]
    except KeyError:
        raise ForeignClass(module, name) from None


class _Unpickler(zodbpickle.pickle.Unpickler):  # type: ignore[misc]  # zodbpickle has no types
    def find_class(self, module: str, name: str) -> type:
        return class_named(module, name)


def _loads(data: bytes, **how: Any) -> Any:
    return _Unpickler(io.BytesIO(data), **how).load()


def _close() -> None:
    ZODB.ConflictResolution.find_global = class_named
    ZODB._compat.Unpickler.find_global = staticmethod(class_named)  # noqa: SLF001 - used wherever nothing else is named
    zodbpickle.pickle.loads = _loads  # through it ZODB and RelStorage read what a transaction says of itself
    marshal.find_global = marshal.server_find_global = class_named


_close()
