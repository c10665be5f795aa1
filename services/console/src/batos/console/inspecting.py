"""Looking at the image and changing its live methods, by a kernel."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Column, Table
from rich.text import Text

from batos.console import past
from batos.console.errors import DONE, MISSION_FAILED, WrongUsage
from batos.console.fleet import Fleet, newest_kernel
from batos.console.show import Screen, clean
from batos.protocol import (
    DifferenceView,
    ImageCompare,
    ImageHistory,
    ImageShow,
    ImageUpgrade,
    ImageUpgraded,
    Message,
    MethodHistory,
    MethodInForce,
    MethodInstall,
    MethodRevert,
    MethodVersions,
    MethodView,
    MissionUndo,
    MissionUndone,
    ObjectsCompared,
    PlaceHistory,
    PlaceView,
)

UPGRADE_S = 120.0
"""How long an upgrade may take: it is one transaction, tried again where others were faster."""
_SHORT_HASH = 12


async def show(fleet: Fleet, screen: Screen, path: str, *, at: str, request_s: float) -> int:
    """Show what stands at a path, now or at a moment of the past."""
    found = await past.look(fleet, ImageShow(path=path, at=at), PlaceView, at=at, request_s=request_s)
    screen.result(as_data(found))
    screen.say(render_place(found))
    return DONE


async def history(fleet: Fleet, screen: Screen, path: str, *, at: str, limit: int, request_s: float) -> int:
    """Show which transactions wrote the record in which a place stands, up to a moment."""
    asked = ImageHistory(path=path, limit=limit, at=at)
    found = await past.look(fleet, asked, PlaceHistory, at=at, request_s=request_s)
    screen.result(as_data(found))
    past.say_when(screen, found, at)
    screen.say(render_changes(found) if found.changes else "no transaction is remembered for it")
    return DONE


async def versions(fleet: Fleet, screen: Screen, path: str, *, at: str, request_s: float) -> int:
    """Show all versions that a live method has, or had then."""
    found = await past.look(fleet, MethodHistory(path=path, at=at), MethodVersions, at=at, request_s=request_s)
    screen.result(as_data(found))
    past.say_when(screen, found, at)
    screen.say(render_versions(found))
    return DONE


async def diff(
    fleet: Fleet, screen: Screen, path: str, *, at: str, old: int | None, new: int | None, request_s: float
) -> int:
    """Show what changed between two versions of a live method; the last two unless told otherwise."""
    found = await past.look(fleet, MethodHistory(path=path, at=at), MethodVersions, at=at, request_s=request_s)
    known = {version.number: version for version in found.versions}
    last = max(known)
    after = last if new is None else new
    before = max(after - 1, 1) if old is None else old
    for number in (before, after):
        if number not in known:
            raise WrongUsage("version_unknown", f"{path} has no version {number}", f"it has 1 to {last}")
    text = unified(path, known[before], known[after])
    screen.result({"path": path, "old": before, "new": after, "diff": text, "as_of": found.as_of})
    past.say_when(screen, found, at)
    screen.say(Syntax(text, "diff") if text else f"versions {before} and {after} are the same")
    return DONE


async def compare(fleet: Fleet, screen: Screen, path: str, other: str, *, at: str, request_s: float) -> int:
    """Show in what an object differs from another one, by default from its ancestor."""
    asked = ImageCompare(path=path, other=other, at=at)
    found = await past.look(fleet, asked, ObjectsCompared, at=at, request_s=request_s)
    screen.result(as_data(found))
    past.say_when(screen, found, at)
    screen.say(render_compared(found))
    return DONE


async def install(fleet: Fleet, screen: Screen, path: str, source: str, *, request_s: float) -> int:
    """Install a live method, or a new version of one, as the Architect."""
    found = await fleet.request("kernel", MethodInstall(path=path, source=source), MethodInForce, timeout_s=request_s)
    return _told(screen, found)


async def revert(fleet: Fleet, screen: Screen, path: str, number: int, *, request_s: float) -> int:
    """Put an older version of a live method in force again."""
    found = await fleet.request("kernel", MethodRevert(path=path, number=number), MethodInForce, timeout_s=request_s)
    return _told(screen, found)


async def upgrade(fleet: Fleet, screen: Screen, *, dry_run: bool, take: Iterable[str], request_s: float) -> int:
    """Bring newer shipped methods into the image; exit 1 where some were changed on both sides and therefore kept."""
    asked = ImageUpgrade(dry_run=dry_run, take=tuple(take))
    found = await fleet.request(await newest_kernel(fleet, request_s), asked, ImageUpgraded, timeout_s=UPGRADE_S)
    screen.result(as_data(found))
    screen.say(render_upgrade(found, dry_run=dry_run))
    return MISSION_FAILED if any(one.outcome == "conflict" for one in found.methods) else DONE


async def undo(fleet: Fleet, screen: Screen, mission_id: str, *, dry_run: bool, request_s: float) -> int:
    """Undo what a mission's thought changed, wherever nothing built on it."""
    asked = MissionUndo(mission_id=mission_id, dry_run=dry_run)
    found = await fleet.request("kernel", asked, MissionUndone, timeout_s=request_s)
    screen.result(as_data(found))
    screen.say(render_undone(found))
    return DONE


def as_data(message: Message) -> dict[str, Any]:
    """Return a reply as `--json` says it."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields.pop("type", None)
    return fields


def unified(path: str, old: MethodView, new: MethodView) -> str:
    """Return the difference of two versions, as `diff -u` writes it."""
    lines = difflib.unified_diff(
        old.source.splitlines(keepends=True),
        new.source.splitlines(keepends=True),
        f"{path} version {old.number} ({old.author})",
        f"{path} version {new.number} ({new.author})",
    )
    return "".join(lines)


def render_place(found: PlaceView) -> RenderableType:
    """Render what stands at a path for people."""
    head = Table.grid(padding=(0, 2))
    for name, value in (
        ("kind", found.kind if found.items < 0 else f"{found.kind}, {found.items} items"),
        ("record", found.oid),
        ("written by", found.tid),
        ("as of", found.as_of),
        ("parents", ", ".join(found.parents)),
    ):
        if value:
            head.add_row(Text(name, "dim"), Text(clean(value)))
    parts: list[RenderableType] = [Text(clean(found.path), "bold"), head]
    if found.entries:
        parts += [Text("\nslots" if found.kind == "object" else "\nitems", "bold"), _entries(found)]
        if found.items > len(found.entries):
            parts.append(Text(f"  … and {found.items - len(found.entries)} more", "dim"))
    if found.methods and found.kind == "object":
        parts += [Text("\nmethods", "bold"), _methods(found.methods)]
    if found.inherited:
        parts += [Text("\ninherited", "bold"), _inherited(found)]
    if found.kind == "method":
        parts += [_methods(found.methods), Syntax(found.text, "python")]
    elif found.text:
        parts.append(Text(clean(found.text)))
    return Group(*parts)


def render_changes(found: PlaceHistory) -> RenderableType:
    """Render an object's history for people. Given to `--at`, the time that is shown shows that change."""
    whole = [Column(name, no_wrap=True, overflow="fold") for name in ("transaction", "time")]
    table = Table(*whole, "by", "what", Column("mission", overflow="fold"), box=None, pad_edge=False)
    for change in found.changes:
        at = dt.datetime.fromtimestamp(change.time, dt.UTC).isoformat().replace("+00:00", "Z")
        table.add_row(change.tid, at, clean(change.user), clean(change.note), change.mission)
    return table


def render_versions(found: MethodVersions) -> RenderableType:
    """Render a method's versions for people."""
    table = Table("version", "time", "author", "hash", "", box=None, pad_edge=False)
    for version in found.versions:
        in_force = "in force" if version.number == found.in_force else ""
        table.add_row(
            str(version.number), _time(version.time), clean(version.author), version.hash[:_SHORT_HASH], in_force
        )
    return table if found.in_force else Group(table, Text("deleted: no version is in force", "yellow"))


def render_compared(found: ObjectsCompared) -> RenderableType:
    """Render two objects side by side for people."""
    relation = "its ancestor " if found.is_ancestor else ""
    parts: list[RenderableType] = [Text(clean(f"{found.path}, compared with {relation}{found.other}"), "bold")]
    if not found.same_parents:
        mine, others = (", ".join(names) or "none" for names in (found.parents, found.other_parents))
        parts.append(Text(clean(f"parents: {mine}; there: {others}")))
    for one in found.differences:
        parts.append(Text(f"\n{one.change} {one.kind} {clean(one.name)}", _CHANGE_STYLES.get(one.change, "")))
        parts.append(Syntax(_two_values(found, one), "diff"))
    parents = "the same parents" if found.same_parents else "other parents"
    parts.append(Text(f"\n{len(found.differences)} differ, {found.same} are the same; {parents}", "dim"))
    return Group(*parts)


_CHANGE_STYLES = {"added": "green", "removed": "red", "changed": "yellow"}


def _two_values(found: ObjectsCompared, one: DifferenceView) -> str:
    """Return both values as `diff -u` writes them, without its head where one of them is missing."""
    before, after = (clean(text).splitlines() for text in (one.before, one.after))
    if one.change != "changed":
        return "\n".join([*(f"-{line}" for line in before), *(f"+{line}" for line in after)])
    return "\n".join(difflib.unified_diff(before, after, clean(found.other), clean(found.path), lineterm=""))


def render_upgrade(found: ImageUpgraded, *, dry_run: bool) -> RenderableType:
    """Render what became, or would become, of shipped methods for people."""
    table = Table("method", "outcome", "in the image by", box=None, pad_edge=False)
    for one in found.methods:
        table.add_row(clean(one.path), one.outcome, clean(one.author or (one.current and "a slot of data")))
    words = f"{found.unchanged} methods are as they are shipped"
    if found.tid:
        words += f"; written in {found.tid}"
    elif dry_run and found.methods:
        words += "; nothing was written"
    return Group(table, Text(words)) if found.methods else Text(words)


def render_undone(found: MissionUndone) -> RenderableType:
    """Render what an undo restored and what it left for people."""
    table = Table.grid(padding=(0, 2))
    for path in found.restored:
        table.add_row(Text("restored", "green"), Text(clean(path)), "")
    for one in found.left:
        table.add_row(Text("left", "yellow"), Text(clean(one.path)), Text(clean(one.why), "dim"))
    verb = f"was undone in {found.tid}" if found.tid else "would be undone so; nothing was written"
    words = f"the thought of mission {found.mission_id} ({found.thought}) {verb}"
    if found.made:
        words += f"; {found.made} objects that it made stay, and nothing refers to them but what was left"
    return Group(table, Text(words)) if found.restored or found.left else Text(words)


def _told(screen: Screen, found: MethodInForce) -> int:
    screen.result(as_data(found))
    verb = "is in force now" if found.changed else "was in force already"
    screen.say(f"{found.path}: version {found.method.number} by {found.method.author} {verb} ({found.tid})")
    return DONE


def _entries(found: PlaceView) -> Table:
    table = Table.grid(padding=(0, 2))
    for entry in found.entries:
        table.add_row(
            Text(f"  {clean(entry.name)}"), Text(entry.kind, "dim"), Text(clean(entry.shown), overflow="fold")
        )
    return table


def _methods(methods: Iterable[MethodView]) -> Table:
    table = Table.grid(padding=(0, 2))
    for method in methods:
        words = f"version {method.number} by {method.author}, {_time(method.time)}, {method.hash[:_SHORT_HASH]}"
        table.add_row(Text(f"  {clean(method.name)}"), Text(clean(words), "dim"))
    return table


def _inherited(found: PlaceView) -> Table:
    table = Table.grid(padding=(0, 2))
    holders: dict[str, list[str]] = {}
    for one in found.inherited:
        holders.setdefault(one.holder, []).append(one.name)
    for holder, names in holders.items():
        table.add_row(Text(f"  {clean(holder)}", "dim"), Text(clean(", ".join(names)), overflow="fold"))
    return table


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
