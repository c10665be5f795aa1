"""`UvmObject`: the one universal persistent class. Slots of its own, and delegation to the objects in `parents`.

Own slots stand in the instance's `__dict__`, own live methods as records in one private entry of it. What an object
inherits is read through a class that its connection made for its parents (see `shapes`); a name that is not found on
either comes to `__getattr__`, which fills that class, or says that the message is not understood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from keyword import iskeyword
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast
from unicodedata import normalize

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from batos.uvm.calling import function_for
from batos.uvm.errors import BadSlotName, MessageNotUnderstood, NotStorable, ParentCycle
from batos.uvm.paths import path_of
from batos.uvm.values import ImageObject, admit, copy_value

PARENTS = "parents"
METHODS = "_methods_"
"""Own live methods: name -> (source, digest, author, time of the version in force)."""
VERSIONS = "_versions_"
"""All versions of own live methods: a tree of (name, number) -> (source, digest, author, time)."""
PRIVATE = frozenset({PARENTS, METHODS, VERSIONS})
_MACHINERY = frozenset({"_p_changed", "_p_jar", "_p_oid", "_p_serial", "_p_state", "_p_estimated_size", "_p_sticky"})

MethodRecord = tuple[str, str, str, float]

_set_class = object.__dict__["__class__"].__set__  # does not mark the object changed, unlike `x.__class__ = y`
_set = Persistent.__setattr__
_delete = Persistent.__delattr__
_deactivate = Persistent._p_deactivate  # noqa: SLF001 - ZODB's public protocol has underscores


class UvmObject(ImageObject):
    """An object of the Living Image.

    Args:
        parents: the objects that it delegates to, in order of precedence.
        **slots: its own slots.
    """

    __module__ = "batos.uvm"

    # Reading is CPython's own attribute access. It does not wake ghosts: a ghost therefore always has the class
    # `Fresh`, where every name is a miss, and a miss wakes it.
    __getattribute__ = object.__getattribute__

    def __new__(cls, *_args: Any, **_slots: Any) -> Self:
        """Every object begins without a shape."""
        return Persistent.__new__(Fresh)  # type: ignore[no-any-return]  # ZODB has no types

    def __init_subclass__(cls, *, internal: bool = False) -> None:
        if not internal:
            raise TypeError(f"{cls.__name__}: the image has one class, UvmObject; give it slots and parents instead")

    def __init__(self, parents: Iterable[UvmObject] = (), **slots: Any) -> None:
        _set(self, PARENTS, _checked_parents(self, parents))
        for name, value in slots.items():
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MACHINERY:
            _set(self, name, value)
            return
        if name == PARENTS:
            set_parents(self, value)
            return
        check_slot_name(name)
        try:
            stored = admit(value)
        except NotStorable as refusal:
            raise refusal.inside(f"{path_of(self)}.{name}") from None
        self._p_activate()
        methods = self.__dict__.get(METHODS)
        if methods and name in methods:
            set_methods(self, {other: record for other, record in methods.items() if other != name})
        _set(self, name, stored)
        shapes = getattr(self._p_jar, "shapes", None)
        if shapes is not None:
            shapes.slot_changed(self)

    def __delattr__(self, name: str) -> None:
        if name in _MACHINERY:
            _delete(self, name)
            return
        self._p_activate()
        own = self.__dict__
        methods = own.get(METHODS)
        if methods and name in methods:
            set_methods(self, {other: record for other, record in methods.items() if other != name})
            return
        if name not in own or name in PRIVATE:
            raise MessageNotUnderstood(self, name)
        _delete(self, name)
        shapes = getattr(self._p_jar, "shapes", None)
        if shapes is not None:
            shapes.slot_changed(self)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for holder in lineage(self) for name in own_names(holder))})

    def __repr__(self) -> str:
        oid = self._p_oid
        return f"<UvmObject {int.from_bytes(oid, 'big'):#x}>" if oid is not None else "<UvmObject, not stored yet>"

    def __reduce__(self) -> NoReturn:
        raise NotStorable("", "an object of the image is stored by its image alone: use _clone_persistent_ for a copy")

    def _p_deactivate(self) -> None:
        """Forget the state. ZODB calls this for every invalidation, abort, rollback and eviction."""
        _deactivate(self)
        if self._p_changed is None:
            if type(self) is not Fresh:
                _set_class(self, Fresh)
            shapes = getattr(self._p_jar, "shapes", None)
            if shapes is not None:
                shapes.object_changed(self)

    def _clone_persistent_(self, **overrides: Any) -> UvmObject:
        """A new object with the same parents and a deep copy of the own slots and the methods in force.

        Other objects that stand in the slots are referred to, not copied. The slot `ancestor` names the original, also
        where that has a method of this name.

        Args:
            **overrides: slots that get another value in the clone.

        Raises:
            NotStorable: a value is nested too deeply to be copied; or an override may not stand in the image.
        """
        self._p_activate()
        clone = UvmObject(self.__dict__[PARENTS])
        copied: dict[int, Any] = {}
        for name, value in self.__dict__.items():
            if name not in PRIVATE and name not in overrides:
                try:
                    _set(clone, name, copy_value(value, copied))
                except RecursionError:
                    raise NotStorable(f"{path_of(self)}.{name}", "it is nested too deeply to be copied") from None
        methods: dict[str, MethodRecord] | None = self.__dict__.get(METHODS)
        if methods:
            _set(clone, METHODS, dict(methods))
            _set(clone, VERSIONS, OOBTree({(name, 1): record for name, record in methods.items()}))
        clone.ancestor = self
        for name, value in overrides.items():
            setattr(clone, name, value)
        return clone


class Fresh(UvmObject, internal=True):
    """An object that is new, a ghost, or has not inherited anything since it was loaded."""

    __slots__ = ()
    __module__ = "batos.uvm"
    __qualname__ = "UvmObject"

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__" or name[:3] in {"_p_", "_v_"}:
            raise AttributeError(name, name=name, obj=self)
        jar = self._p_jar
        if jar is None:
            return _slow_read(self, name)
        if self._p_changed is None:
            self._p_activate()
            return getattr(self, name)
        shapes = getattr(jar, "shapes", None)  # only connections of an `Image` have them
        known = None if shapes is None else shapes.names_for(self)
        if known is None:
            return _slow_read(self, name)
        if name in known:
            return getattr(self, name)
        raise MessageNotUnderstood(self, name)


def _slow_read(receiver: UvmObject, name: str) -> Any:
    """Read without a shape: where an ancestor is not (yet) stored in the receiver's image."""
    _, value, method = find(receiver, name)
    return MethodType(function_for(name, method), receiver) if method is not None else value


def lineage(*receivers: UvmObject) -> Iterator[UvmObject]:
    """The receivers and their ancestors in the order in which they are asked: depth first, each once."""
    stack, seen = list(reversed(receivers)), set()
    while stack:
        holder = stack.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        holder._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
        yield holder
        stack.extend(reversed(holder.__dict__[PARENTS]))


def find(receiver: UvmObject, name: str) -> tuple[UvmObject, Any, MethodRecord | None]:
    """Who holds the slot that `receiver.name` reads, its value, and its record where it is a live method.

    This is the definition of delegation, without any cache.

    Raises:
        MessageNotUnderstood: nobody does.
    """
    for holder in lineage(receiver):
        own = holder.__dict__
        if name in own and name not in PRIVATE:
            return holder, own[name], None
        record = own.get(METHODS, {}).get(name)
        if record is not None:
            return holder, None, record
    raise MessageNotUnderstood(receiver, name)


def understands(receiver: UvmObject, name: str) -> bool:
    """Whether the receiver or an ancestor has such a slot or method."""
    try:
        find(receiver, name)
    except MessageNotUnderstood:
        return False
    return True


def slots(receiver: UvmObject) -> dict[str, Any]:
    """The receiver's own slots by name, without `parents` and live methods: a new dict with the values themselves."""
    receiver._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    return {name: value for name, value in receiver.__dict__.items() if name not in PRIVATE}


def own_names(receiver: UvmObject) -> Iterator[str]:
    """The names of the receiver's own slots and live methods."""
    receiver._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    yield from (name for name in receiver.__dict__ if name not in PRIVATE)
    yield from receiver.__dict__.get(METHODS, ())


def set_parents(receiver: UvmObject, parents: Iterable[UvmObject]) -> None:
    """Let the receiver delegate to other objects from now on."""
    _set(receiver, PARENTS, _checked_parents(receiver, parents))
    _reshape(receiver)


def set_methods(receiver: UvmObject, methods: dict[str, MethodRecord]) -> None:
    """Replace the records of the receiver's own live methods (`methods` module: how they are made)."""
    receiver._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    _set(receiver, METHODS, methods)
    for name in methods:
        if name in receiver.__dict__:
            _delete(receiver, name)
    _reshape(receiver)


def restore_state(receiver: UvmObject, state: dict[str, Any]) -> None:
    """Let the receiver have a state that it had before (`undoing`: where such a state comes from)."""
    receiver.__setstate__(state)
    receiver._p_changed = True  # noqa: SLF001 - ZODB's public protocol has underscores
    _reshape(receiver)


def versions_of(receiver: UvmObject) -> Any:
    """The tree that keeps all versions of the receiver's methods; one is made where there is none."""
    receiver._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    tree = receiver.__dict__.get(VERSIONS)
    if tree is None:
        tree = OOBTree()
        _set(receiver, VERSIONS, tree)
    return tree


def make_fresh(receiver: UvmObject) -> None:
    """Let the receiver's next inherited read choose its shape anew."""
    if type(receiver) is not Fresh:
        _set_class(receiver, Fresh)


def wear(receiver: UvmObject, shape: type[UvmObject]) -> None:
    """Let the receiver inherit through `shape`."""
    _set_class(receiver, shape)


def _reshape(receiver: UvmObject) -> None:
    make_fresh(receiver)
    shapes = getattr(receiver._p_jar, "shapes", None)  # noqa: SLF001 - ZODB's public protocol has underscores
    if shapes is not None:
        shapes.object_changed(receiver)


def _checked_parents(receiver: UvmObject, parents: Iterable[object]) -> tuple[UvmObject, ...]:
    try:
        given = tuple(parents)
    except TypeError:
        raise NotStorable(f"{path_of(receiver)}.parents", "give a sequence of objects") from None
    for place, parent in enumerate(given):
        if not isinstance(parent, UvmObject):
            kind = f"{type(parent).__module__}.{type(parent).__qualname__}"
            raise NotStorable(f"{path_of(receiver)}.parents[{place}]", f"{kind!r} is not a UvmObject")
    checked = cast(tuple[UvmObject, ...], given)
    if receiver._p_jar is not None or PARENTS in receiver.__dict__:  # noqa: SLF001 - ZODB's public protocol has underscores
        refuse_cycle(receiver, checked)
    return checked


def own_parents(receiver: UvmObject) -> tuple[UvmObject, ...]:
    """The objects that the receiver delegates to."""
    receiver._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    return cast(tuple[UvmObject, ...], receiver.__dict__[PARENTS])


def refuse_cycle(
    receiver: UvmObject,
    parents: tuple[UvmObject, ...],
    parents_of: Callable[[UvmObject], tuple[UvmObject, ...]] = own_parents,
) -> None:
    """A cycle has no depth-first order that all its members share, so none may come into being.

    Every ancestor is declared as read, so that two transactions cannot close a cycle together.

    Args:
        receiver: the object that is to delegate to others.
        parents: these others.
        parents_of: whom an ancestor delegates to, where several are about to change together.

    Raises:
        ParentCycle: the receiver would be its own ancestor.
    """
    jar = receiver._p_jar  # noqa: SLF001 - ZODB's public protocol has underscores
    seen: set[int] = set()
    stack = [(parent, f".parents[{place}]") for place, parent in enumerate(parents)]
    while stack:
        ancestor, way = stack.pop()
        if ancestor is receiver:
            raise ParentCycle(path_of(receiver), f"it would be its own ancestor, by {way.removeprefix('.')}")
        if id(ancestor) in seen:
            continue
        seen.add(id(ancestor))
        ancestor._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
        if jar is not None and ancestor._p_jar is jar:  # noqa: SLF001 - as above
            jar.readCurrent(ancestor)
        stack.extend((parent, f"{way}.parents[{place}]") for place, parent in enumerate(parents_of(ancestor)))


def check_slot_name(name: str) -> None:
    """Make sure that a slot may have this name.

    Raises:
        BadSlotName: it may not; the reason says why.
    """
    if name[:3] == "_v_":
        raise BadSlotName(name, "names that begin with _v_ are the vessel's and are never stored; choose another one")
    if name in _RESERVED or name[:3] == "_p_" or name[:2] == "__":
        raise BadSlotName(name, "this name is the image's own; choose another one")
    if not name.isidentifier():
        raise BadSlotName(repr(name), "a slot's name is an identifier")
    if iskeyword(name):
        raise BadSlotName(name, "Python reads this word as no name; choose another one")
    if not name.isascii() and normalize("NFKC", name) != name:
        raise BadSlotName(name, f"whoever writes it in a source or path means {normalize('NFKC', name)!r}; choose that")


_RESERVED = frozenset(dir(Fresh)) | PRIVATE
