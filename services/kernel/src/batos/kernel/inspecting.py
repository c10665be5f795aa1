"""What a kernel answers on the bus about the image itself: places, their past, live methods and their versions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from batos import mind
from batos.kernel import looking, missions
from batos.kernel.genesis import upgrade
from batos.kernel.mission_shape import undone_tid
from batos.mind.compatibility import Kernel
from batos.protocol import (
    ChangeView,
    DifferenceView,
    EntryView,
    Handler,
    ImageCompare,
    ImageHistory,
    ImageShow,
    ImageUpgrade,
    ImageUpgraded,
    InheritedView,
    LeftView,
    Message,
    MethodHistory,
    MethodInForce,
    MethodInstall,
    MethodRevert,
    MethodUpgrade,
    MethodVersions,
    MethodView,
    MissionUndo,
    MissionUndone,
    ObjectsCompared,
    PlaceHistory,
    PlaceView,
    RequestContext,
)
from batos.uvm import (
    BadPath,
    CommitFateUnknown,
    Comparison,
    Image,
    LiveMethod,
    Portrait,
    Root,
    Undone,
    UvmObject,
    changes_of,
    compare,
    install_method,
    method_history,
    own_methods,
    place_at,
    portray,
    revert_method,
    seen_tid,
)

ARCHITECT = "architect"
"""Who asks for all of this: only a person's console does, and what it installs runs in the kernels themselves."""
HISTORY_LIMIT = 1000
"""Changes that one answer lists at most."""
WRITE_TRIES = 3
"""How often a change is tried where the fate of its commit is unknown: what is in already is not changed again."""

T = TypeVar("T")


class Inspecting:
    """Handlers by type of message. Reading needs a snapshot each; writing goes through the guardians."""

    def __init__(self, *, image: Image, kernel: Kernel) -> None:
        """Begin.

        Args:
            image: what is looked at.
            kernel: this one: the transactions' note has its name, and an upgrade is made by the newest release alone.
        """
        self._image = image
        self._kernel = kernel

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return who answers what."""
        return {
            ImageShow: self._show,
            ImageHistory: self._history,
            MethodHistory: self._versions,
            ImageCompare: self._compare,
            MethodInstall: self._install,
            MethodRevert: self._revert,
            ImageUpgrade: self._upgrade,
            MissionUndo: self._undo,
        }

    async def _show(self, message: ImageShow, context: RequestContext) -> PlaceView:
        del context

        def look(root: Root) -> PlaceView:
            return _place_view(portray(place_at(root, message.path)), seen_tid(root))

        return await self._looked(look, message.at)

    async def _history(self, message: ImageHistory, context: RequestContext) -> PlaceHistory:
        del context
        limit = max(1, min(message.limit, HISTORY_LIMIT))

        def look(root: Root) -> PlaceHistory:
            changes = changes_of(place_at(root, message.path), limit)
            return PlaceHistory(
                path=message.path,
                changes=tuple(ChangeView(**vars(change)) for change in changes),
                as_of=seen_tid(root),
            )

        return await self._looked(look, message.at)

    async def _versions(self, message: MethodHistory, context: RequestContext) -> MethodVersions:
        del context

        def look(root: Root) -> MethodVersions:
            holder, name = _own_method(root, message.path)
            versions = method_history(holder, name)
            current = own_methods(holder).get(name)
            return MethodVersions(
                path=message.path,
                versions=tuple(_method_view(version, source=True) for version in versions),
                in_force=current.number if current is not None else 0,
                as_of=seen_tid(root),
            )

        return await self._looked(look, message.at)

    async def _compare(self, message: ImageCompare, context: RequestContext) -> ObjectsCompared:
        del context

        def look(root: Root) -> ObjectsCompared:
            obj = _object(root, message.path)
            found = compare(obj, _object(root, message.other) if message.other else None)
            return _compared_view(found, message, seen_tid(root))

        return await self._looked(look, message.at)

    async def _install(self, message: MethodInstall, context: RequestContext) -> MethodInForce:
        del context

        def change(root: Root) -> LiveMethod:
            holder, name = _own_method(root, message.path, new=True)
            return install_method(holder, name, message.source, author=ARCHITECT)

        return await asyncio.to_thread(self._change_method, message.path, "install", change)

    async def _revert(self, message: MethodRevert, context: RequestContext) -> MethodInForce:
        del context

        def change(root: Root) -> LiveMethod:
            holder, name = _own_method(root, message.path)
            return revert_method(holder, name, message.number, author=ARCHITECT)

        return await asyncio.to_thread(self._change_method, message.path, f"revert to {message.number}", change)

    async def _upgrade(self, message: ImageUpgrade, context: RequestContext) -> ImageUpgraded:
        del context
        return await asyncio.to_thread(self._upgraded, message)

    async def _undo(self, message: MissionUndo, context: RequestContext) -> MissionUndone:
        del context
        return await asyncio.to_thread(self._undone, message)

    async def _looked(self, look: Callable[[Root], T], at: str) -> T:
        return await asyncio.to_thread(looking.look, self._image, look, at)

    def _undone(self, message: MissionUndo) -> MissionUndone:
        def work(root: Root) -> tuple[tuple[str, Undone], bool]:
            before = missions.find(root, message.mission_id)
            done = missions.undo_thought(root, message.mission_id)
            mind.keep_organization(root, ARCHITECT)
            return (missions.tid(before), done), True

        with looking.refusals():
            tid = ""
            if message.dry_run:
                with self._image.session() as session:
                    (thought, done), _ = work(session.begin())
                    session.abort()
            else:
                (thought, done), _, _ = self._written(work, f"undo the thought of {message.mission_id}")
                with self._image.snapshot() as root:
                    tid = undone_tid(missions.find(root, message.mission_id))
        return MissionUndone(
            mission_id=message.mission_id,
            thought=thought,
            tid=tid,
            restored=done.restored,
            made=done.made,
            left=tuple(LeftView(path=one.path, why=one.why) for one in done.left),
        )

    def _upgraded(self, message: ImageUpgrade) -> ImageUpgraded:
        def decide(root: Root) -> tuple[list[upgrade.Upgrade], int]:
            mind.compatibility.refuse_older_release(root, self._kernel.release)
            return upgrade.upgrade(root, message.take)

        def work(root: Root) -> tuple[tuple[list[upgrade.Upgrade], int], bool]:
            found = decide(root)
            mind.keep_organization(root, ARCHITECT)
            return found, any(one.outcome in upgrade.WRITES for one in found[0])

        with looking.refusals():
            # Looked at first: what changes nothing need not be written.
            with self._image.session() as session:
                decided, same = decide(session.begin())
                session.abort()
            tid = ""
            if not message.dry_run and any(one.outcome in upgrade.WRITES for one in decided):
                (decided, same), changed, tid = self._written(work, f"upgrade by {self._kernel.name}")
                if changed and not tid:
                    tid = self._wrote(next(one.path for one in decided if one.outcome in upgrade.WRITES))
        return ImageUpgraded(
            methods=tuple(
                MethodUpgrade(
                    path=one.path,
                    outcome=one.outcome,
                    author=one.author,
                    current=one.current,
                    shipped=one.shipped,
                )
                for one in decided
            ),
            unchanged=same,
            tid=tid,
        )

    def _wrote(self, path: str) -> str:
        """Return the transaction that wrote the record last in which a path's place stands."""
        with self._image.snapshot() as root:
            return portray(place_at(root, path)).tid

    def _change_method(self, path: str, what: str, change: Callable[[Root], LiveMethod]) -> MethodInForce:
        def work(root: Root) -> tuple[LiveMethod, bool]:
            before = _in_force(root, path)
            method = change(root)
            mind.compatibility.note_method(root, path)
            changed = before is None or before.number != method.number
            mind.keep_organization(root, ARCHITECT)
            return method, changed

        with looking.refusals():
            method, changed, tid = self._written(work, f"{what}: {path}")
            tid = tid or self._wrote(path)
        return MethodInForce(path=path, method=_method_view(method, source=True), tid=tid, changed=changed)

    def _written(self, work: Callable[[Root], tuple[T, bool]], note: str) -> tuple[T, bool, str]:
        """Commit some work of the Architect's, which says what it did and whether that changed anything.

        Returns:
            Both, and the transaction; an empty one where nothing was changed, or where the commit was of unknown fate
            and turned out to be in.
        """
        unsure: list[T] = []
        for left in reversed(range(WRITE_TRIES)):
            tried: list[T] = []
            try:
                (found, changed), tid = self._image.commit(partial(_noting, work, tried), user=ARCHITECT, note=note)
            except CommitFateUnknown:
                if not left:
                    raise
                unsure = tried[-1:]
                continue
            if unsure and not changed:
                return unsure[0], True, ""
            return found, changed, tid if changed else ""
        raise AssertionError("unreachable: the last try returns or raises")


def _noting(work: Callable[[Root], tuple[T, bool]], tried: list[T], root: Root) -> tuple[T, bool]:
    found = work(root)
    tried.append(found[0])
    return found


def _own_method(root: Root, path: str, *, new: bool = False) -> tuple[UvmObject, str]:
    """Return the object and the name of its own live method that a path means; it may have been deleted.

    Args:
        root: the image's root.
        path: of the method.
        new: whether there may be no such method yet.

    Raises:
        BadPath: there is no such object, or it never had such a method of its own.
    """
    above, _, name = path.strip().rpartition(".")
    if not above or not name.isidentifier():
        raise BadPath(path, "write the object's path, a dot and the method's name")
    holder = _object(root, above)
    if not new and not method_history(holder, name):
        raise BadPath(path, f"{above} has no live method {name!r} of its own, and never had")
    return holder, name


def _object(root: Root, path: str) -> UvmObject:
    """Return the object at a path.

    Raises:
        BadPath: there is none.
    """
    found = place_at(root, path).value
    if not isinstance(found, UvmObject):
        raise BadPath(path, "it is no object")
    return found


def _in_force(root: Root, path: str) -> LiveMethod | None:
    holder, name = _own_method(root, path, new=True)
    return own_methods(holder).get(name)


def _place_view(portrait: Portrait, as_of: str) -> PlaceView:
    return PlaceView(
        path=portrait.path,
        kind=portrait.kind,
        oid=portrait.oid,
        tid=portrait.tid,
        as_of=as_of,
        parents=portrait.parents,
        entries=tuple(EntryView(**vars(entry)) for entry in portrait.entries),
        methods=tuple(_method_view(method, source=portrait.kind == "method") for method in portrait.methods),
        inherited=tuple(InheritedView(**vars(one)) for one in portrait.inherited),
        text=portrait.text,
        items=portrait.items,
    )


def _compared_view(found: Comparison, asked: ImageCompare, as_of: str) -> ObjectsCompared:
    return ObjectsCompared(
        path=asked.path,
        other=asked.other or found.other,
        is_ancestor=found.is_ancestor,
        parents=found.parents,
        other_parents=found.other_parents,
        same_parents=found.same_parents,
        differences=tuple(DifferenceView(**vars(one)) for one in found.differences),
        same=found.same,
        as_of=as_of,
    )


def _method_view(method: LiveMethod, *, source: bool) -> MethodView:
    return MethodView(
        name=method.name,
        number=method.number,
        author=method.author,
        time=method.time,
        hash=method.hash,
        source=method.source if source else "",
    )
