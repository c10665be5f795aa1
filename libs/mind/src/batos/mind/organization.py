"""Which objects the mind's organization consists of, and whether a transaction touched it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from batos.mind import compatibility
from batos.mind.lobby import KNOWLEDGE_CATALOG, LOBBY_SLOTS, lobby, touch_organization
from batos.uvm import Root, UvmObject, changed_in, lineage, records_of, slots


def keep_organization(root: Root, author: str, *, besides: Collection[bytes] = ()) -> bool:
    """Check and note a change of the organization, where the running transaction made one; else do nothing.

    Call it last before the commit. What the transaction makes anew is not looked at: it belongs to the organization
    only where something of it was changed to hold it.

    Args:
        root: the image's root.
        author: who changed it.
        besides: ids of objects that are known to be none of it. Where nothing else was changed, nothing is loaded.

    Returns:
        Whether the organization was touched.

    Raises:
        CovenantBroken: (of batos.uvm) it is not whole any more.
        Incompatible: a registered kernel does not serve what a method needs that is in force now.
    """
    changed = changed_in(root).difference(besides)
    if not changed or not any(part._p_oid in changed for part in _parts(root)):  # noqa: SLF001 - ZODB's public protocol
        return False
    compatibility.note_methods(root)
    touch_organization(root, author)
    return True


def organized(root: Root) -> Iterator[UvmObject]:
    """Yield the objects that the organization consists of: who holds whom, personas, states, traits.

    Memory is none of it: it grows with every thought, and the mind stays who it is.
    """
    front = lobby(root)
    yield from lineage(front)
    for name, held in slots(front).items():
        if name in LOBBY_SLOTS and name != KNOWLEDGE_CATALOG and isinstance(held, UvmObject):
            yield from lineage(held)
            for part, inner in slots(held).items():
                if isinstance(inner, UvmObject) and part != "ancestor":
                    yield from lineage(inner)


def _parts(root: Root) -> Iterator[Any]:
    """Yield every record of the organization: its objects with what stands in their slots, and the root."""
    yield root
    for obj in organized(root):
        yield obj
        for value in slots(obj).values():
            yield from records_of(value)
