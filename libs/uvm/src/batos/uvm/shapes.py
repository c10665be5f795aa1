"""Shapes: one flat class per connection and tuple of parents, through which objects read what they inherit.

All slots and methods of all ancestors are laid into the class at its first use, in the order of delegation. From then
on an inherited read is CPython's own attribute access, however deep the chain. An object with live methods of its own
has a shape to itself. Three rules keep shapes true:

* Whatever changes an ancestor empties every shape that was filled through it: a local write does so itself, and all
  else (another vessel's commit, abort, rollback of a savepoint, eviction) reaches the ancestor as `_p_deactivate`.
* An object without state has no shape, so that its next read wakes it.
* A shape is filled only from objects of its own connection; reads through others walk the chain each time.
"""

from __future__ import annotations

from typing import Any

from persistent import Persistent

from batos.uvm.calling import function_for
from batos.uvm.errors import BrokenMethod
from batos.uvm.objects import METHODS, PARENTS, PRIVATE, Fresh, MethodRecord, UvmObject, lineage, make_fresh, wear

MAX_SHAPES = 2048
"""Shapes that one connection keeps; the oldest goes first. A shape keeps its parents in memory."""
MAX_FILLS = 500
"""After so many fillings a shape is replaced: CPython stops caching a class that was changed a thousand times."""

_read_as_zodb = Persistent.__getattribute__


class LazyMethod:
    """A live method in a shape, until it is first called: then its function takes this place."""

    __slots__ = ("_name", "_record", "_shape")

    def __init__(self, shape: Shape, name: str, record: MethodRecord) -> None:
        self._shape = shape
        self._name = name
        self._record = record

    def __get__(self, receiver: UvmObject | None, owner: type) -> Any:
        try:
            function = function_for(self._name, self._record)
        except AttributeError as wrong:  # would be taken for a name that was not found
            raise BrokenMethod(self._name, str(wrong)) from wrong
        shape = self._shape
        if shape.names is not None and shape.names.get(self._name) is self:
            setattr(shape.worn, self._name, function)
        return function if receiver is None else function.__get__(receiver, owner)


class Shape:
    """What objects with the same parents inherit.

    Attributes:
        worn: the class that those objects have.
        anchors: where the walk begins.
        subject: the one object that wears it, where it has live methods of its own.
        names: what was laid into the class, or None while it is empty.
    """

    __slots__ = ("anchors", "fills", "key", "names", "subject", "walked", "worn")

    def __init__(self, key: tuple[object, ...], anchors: tuple[UvmObject, ...], subject: UvmObject | None) -> None:
        self.worn: type[UvmObject] = type(
            "UvmObject", (Fresh,), {"__slots__": (), "__module__": "batos.uvm"}, internal=True
        )
        self.key = key
        self.anchors = anchors
        self.subject = subject
        self.names: dict[str, Any] | None = None
        self.walked: tuple[UvmObject, ...] = ()
        self.fills = 0


class ShapeTable:
    """All shapes of one connection. Used by that connection's thread alone, as the connection is."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self._watched: dict[int, tuple[UvmObject, set[Shape]]] = {}

    def __len__(self) -> int:
        return len(self._shapes)

    def names_for(self, receiver: UvmObject) -> dict[str, Any] | None:
        """Dress the receiver in its filled shape; None where a shape may not be used for it.

        Args:
            receiver: an object of this connection that is not a ghost.
        """
        shape = self._shape_of(receiver)
        if shape.names is None and not self._fill(shape):
            return None
        if type(receiver) is not shape.worn:
            wear(receiver, shape.worn)
        return shape.names

    def slot_changed(self, holder: UvmObject) -> None:
        """A data slot of `holder` was written or deleted: all who inherit from it must look again."""
        watched = self._watched.get(id(holder))
        if watched is not None:
            for shape in tuple(watched[1]):
                if shape.subject is not holder:  # its own data slots stand in the instance, never in its own shape
                    self._empty(shape)

    def object_changed(self, holder: UvmObject) -> None:
        """Anything about `holder` may have changed, its methods and parents too."""
        watched = self._watched.get(id(holder))
        if watched is not None:
            for shape in tuple(watched[1]):
                self._empty(shape)
        own = self._shapes.pop(("own", id(holder)), None)
        if own is not None:
            self._empty(own)

    def forget(self, holder: UvmObject) -> None:
        """`holder` leaves this connection (a new object whose transaction ended without a commit)."""
        self.object_changed(holder)
        make_fresh(holder)

    def empty_all(self) -> None:
        """Every shape must be filled again."""
        for shape in tuple(self._shapes.values()):
            self._empty(shape)
        self._shapes.clear()

    def keep_young(self) -> None:
        """Tell ZODB's cache that the ancestors are in use: reads through shapes do not touch it."""
        for holder, _ in self._watched.values():
            if holder._p_changed is not None:  # noqa: SLF001 - ZODB's public protocol has underscores
                _read_as_zodb(holder, PARENTS)

    def _shape_of(self, receiver: UvmObject) -> Shape:
        own = receiver.__dict__
        subject = receiver if own.get(METHODS) else None
        anchors = (receiver,) if subject is not None else own[PARENTS]
        key = ("own", id(receiver)) if subject is not None else tuple(map(id, anchors))
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= MAX_SHAPES:
                self._empty(self._shapes.pop(next(iter(self._shapes))))
            shape = self._shapes[key] = Shape(key, anchors, subject)
        return shape

    def _fill(self, shape: Shape) -> bool:
        names: dict[str, Any] = {}
        walked = tuple(lineage(*shape.anchors))
        for holder in walked:
            if holder._p_jar is not self._connection:  # noqa: SLF001 - ZODB's public protocol has underscores
                return False
            own = holder.__dict__
            if holder is not shape.subject:
                for name in own.keys() - names.keys() - PRIVATE:
                    names[name] = own[name]
            methods = own.get(METHODS, {})
            for name in methods.keys() - names.keys():
                names[name] = LazyMethod(shape, name, methods[name])
        for holder in walked:
            self._watched.setdefault(id(holder), (holder, set()))[1].add(shape)
        shape.walked = walked
        shape.names = names
        shape.fills += 1
        for name, value in names.items():
            setattr(shape.worn, name, value)
        return True

    def _empty(self, shape: Shape) -> None:
        if shape.names is None:
            return
        for name in shape.names:
            delattr(shape.worn, name)
        shape.names = None
        for holder in shape.walked:
            inheritors = self._watched[id(holder)][1]
            inheritors.discard(shape)
            if not inheritors:
                del self._watched[id(holder)]
        shape.walked = ()
        if shape.fills >= MAX_FILLS and self._shapes.get(shape.key) is shape:
            del self._shapes[shape.key]
