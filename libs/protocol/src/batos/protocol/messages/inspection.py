"""Looking at the Living Image and changing its live methods: what the Architect asks a kernel."""

from __future__ import annotations

import msgspec

from batos.protocol.messages.message import Message


class ImageShow(Message, frozen=True, kw_only=True):
    """What stands at a path of the image?"""

    path: str = "lobby"
    at: str = ""
    """A tid (16 hexadecimal digits) or a time (ISO 8601 with its zone); empty means now."""


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """A slot of an object, or an item of a container; the value in one line."""

    name: str
    kind: str
    shown: str


class MethodView(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a live method."""

    name: str
    number: int
    author: str
    time: float
    hash: str
    source: str = ""
    """Empty where only the list of methods was asked for."""


class InheritedView(msgspec.Struct, frozen=True, kw_only=True):
    """A name that an object understands by one of its ancestors."""

    name: str
    holder: str


class PlaceView(Message, frozen=True, kw_only=True):
    """What stands at a path."""

    path: str
    kind: str
    """`object`, `method`, or the type of the value."""
    oid: str = ""
    tid: str = ""
    """The transaction that wrote its record last."""
    as_of: str = ""
    """Up to which tid this view sees; where a time was asked for, that of its very moment."""
    parents: tuple[str, ...] = ()
    entries: tuple[EntryView, ...] = ()
    methods: tuple[MethodView, ...] = ()
    inherited: tuple[InheritedView, ...] = ()
    text: str = ""
    items: int = -1


class ImageHistory(Message, frozen=True, kw_only=True):
    """Which transactions wrote the record in which this place stands?"""

    path: str
    limit: int = 50
    at: str = ""
    """A moment of the past, as `ImageShow` has it."""


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that wrote a record."""

    tid: str
    time: float
    user: str = ""
    note: str = ""
    cycle: str = ""
    mission: str = ""
    size: int = 0


class PlaceHistory(Message, frozen=True, kw_only=True):
    """The newest change first."""

    path: str
    changes: tuple[ChangeView, ...]
    as_of: str = ""
    """Up to which tid this view sees; where a time was asked for, that of its very moment."""


class MethodHistory(Message, frozen=True, kw_only=True):
    """All versions of the live method at a path (`lobby.traits_obj.recall_`), with their sources."""

    path: str
    at: str = ""
    """A moment of the past, as `ImageShow` has it."""


class MethodVersions(Message, frozen=True, kw_only=True):
    """The versions of a method, the oldest first, and which of them is in force (0: it was deleted)."""

    path: str
    versions: tuple[MethodView, ...]
    in_force: int
    as_of: str = ""
    """Up to which tid this view sees; where a time was asked for, that of its very moment."""


class ImageCompare(Message, frozen=True, kw_only=True):
    """What does the object at a path have that another has not, and the other way round?"""

    path: str
    other: str = ""
    """Path of the other object; empty: its ancestor, the object that it was cloned from."""
    at: str = ""
    """A moment of the past, as `ImageShow` has it."""


class DifferenceView(msgspec.Struct, frozen=True, kw_only=True):
    """A slot or live method of its own in which an object differs from the other one."""

    name: str
    kind: str
    """`slot` or `method`."""
    change: str
    """`added` (the other has none), `removed` (only the other has one), `changed`."""
    before: str = ""
    """Of the other object: a slot's value in one line, a method's source; empty where it has none."""
    after: str = ""
    """Of the object itself."""


class ObjectsCompared(Message, frozen=True, kw_only=True):
    """Two objects, slot by slot and method by method; what they inherit is compared by their parents alone."""

    path: str
    other: str
    is_ancestor: bool
    """Whether the other one is the object that this one was cloned from."""
    parents: tuple[str, ...]
    other_parents: tuple[str, ...]
    same_parents: bool
    differences: tuple[DifferenceView, ...]
    same: int
    """How many slots and methods are the same."""
    as_of: str = ""
    """Up to which tid this view sees; where a time was asked for, that of its very moment."""


class MethodInstall(Message, frozen=True, kw_only=True):
    """Install a live method, or a new version of one, as the Architect. Asked again it changes nothing more."""

    path: str
    source: str


class MethodRevert(Message, frozen=True, kw_only=True):
    """Put an older version in force again, as a new version. Asked again it changes nothing more."""

    path: str
    number: int


class MethodInForce(Message, frozen=True, kw_only=True):
    """The version that is in force now, and the transaction since which it is."""

    path: str
    method: MethodView
    tid: str
    changed: bool
    """Whether this request changed anything."""


class ImageUpgrade(Message, frozen=True, kw_only=True):
    """Bring the live methods that this kernel ships into the image, where nobody changed them there."""

    dry_run: bool = False
    take: tuple[str, ...] = ()
    """Paths of methods that were changed in the image and are to be replaced all the same."""


class MethodUpgrade(msgspec.Struct, frozen=True, kw_only=True):
    """What became, or would become, of one shipped method."""

    path: str
    outcome: str
    """`added`, `replaced`, `taken`, `kept` (changed here, not there), `conflict` (changed on both sides), `deleted`."""
    author: str = ""
    """Who wrote the version that is in force in the image."""
    current: str = ""
    shipped: str = ""


class ImageUpgraded(Message, frozen=True, kw_only=True):
    """All shipped methods whose version in the image differs, and what became of them."""

    methods: tuple[MethodUpgrade, ...]
    unchanged: int
    tid: str = ""
    """The transaction; empty where nothing was written."""
