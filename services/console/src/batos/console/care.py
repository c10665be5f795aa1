"""Care for the image's files: asked of the image's vessel, or done in this home's files where none runs."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.table import Table

from batos.console.attended import Attended
from batos.console.database_care import DatabaseCare
from batos.console.errors import DONE, MISSION_FAILED, FleetUnreachable
from batos.console.fleet import Fleet
from batos.console.image_tool import LONGEST_S, run_image_tool
from batos.console.progress import Moving, progress_text, with_progress
from batos.console.runner import Work
from batos.console.settings import ConsoleSettings
from batos.console.show import Screen, clean
from batos.protocol import (
    ImageBackedUp,
    ImageBackup,
    ImagePack,
    ImagePacked,
    ImagePin,
    ImagePins,
    ImagePinsGet,
    ImageRestored,
    ImageUnpin,
    ImageVerified,
    ImageVerify,
    Message,
    new_id,
)
from batos.vessel import FleetFile, VesselError

SERVICE = "image"
ARCHITECT = "architect"
NOT_RUNNING = "fleet_down"
MS_PER_S = 1000
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_STEP = 1000

M = TypeVar("M", bound=Message)


@asynccontextmanager
async def caring(on: Work) -> AsyncIterator[Fleet]:
    """Connect to a fleet that keeps its image in files; an image in PostgreSQL is cared for without one."""
    if is_in_database(on.settings):
        yield DatabaseCare()
        return
    async with on.fleet() as fleet:
        yield Attended(fleet)


def is_in_database(settings: ConsoleSettings) -> bool:
    """Whether the image is kept in PostgreSQL, as far as settings or the home say."""
    uri = settings.image_uri
    if not uri:
        with contextlib.suppress(VesselError):
            uri = FleetFile.load(settings.home).image_uri
    return uri.startswith("postgres")


async def backup(fleet: Fleet, screen: Screen, folder: Path, *, full: bool, timeout_s: float) -> int:
    """Have a backup added to a folder; return the exit code."""
    request = new_id()
    with Moving(screen) as moving:
        async with with_progress(fleet, f"progress/backup/{request}", moving, "backup"):
            body = ImageBackup(request_id=request, folder=str(folder), full=full)
            made = await fleet.request(SERVICE, body, ImageBackedUp, timeout_s=timeout_s)
    screen.result(as_data(made))
    screen.say(
        f"{made.kind} backup {made.name} in {folder} ({made.why}): {size(made.bytes_written)} of the file and "
        f"{size(made.blob_bytes_written)} of {made.blobs_written} new blobs written in {seconds(made.duration_ms)}\n"
        f"it holds {made.objects} objects and {made.blobs} blobs up to transaction {made.tid}, "
        f"root hash {made.root_hash}"
    )
    for said in made.passed_over:
        screen.warn(f"another backup in that folder cannot be read: {said}; see `batos image verify --backup {folder}`")
    for said in made.missing:
        screen.warn(f"the image itself is damaged: {said}; see `batos image verify`")
    return MISSION_FAILED if made.missing else DONE


async def restore(screen: Screen, folder: Path, into: Path, at: str, image: str) -> int:
    """Make an image from a backup; return the exit code."""
    which = [f"--home={into}", f"--at={at}", f"--image={image}"]
    made = await _tool(screen, ["restore", *which, str(folder)], ImageRestored)
    screen.result(as_data(made))
    compared = "the same as the backup's" if made.compared else "no backup was made of this very moment to compare with"
    screen.say(
        f"restored {made.name} into {made.folder}: {made.objects} objects, {made.blobs} blobs, "
        f"{size(made.bytes_written)}, up to transaction {made.tid}, in {seconds(made.duration_ms)}\n"
        f"root hash {made.root_hash}: {compared}"
    )
    for said in made.passed_over:
        screen.warn(f"passed over: {said}")
    for said in made.missing:
        screen.warn(f"{said}: the image lacked them when it was made")
    return MISSION_FAILED if made.missing else DONE


async def verify(on: Work, *, timeout_s: float) -> int:
    """Have everything looked at; return the exit code."""
    async with contextlib.AsyncExitStack() as connected:
        try:
            fleet = await connected.enter_async_context(caring(on))
        except FleetUnreachable as error:
            if error.code != NOT_RUNNING:
                raise
            found = await _tool(on.screen, ["verify", "--home", str(on.settings.home)], ImageVerified, timeout_s)
        else:
            found = await _verified(fleet, on.screen, timeout_s)
    on.screen.result(as_data(found))
    on.screen.say(report(found))
    return MISSION_FAILED if found.faults_found else DONE


async def _verified(fleet: Fleet, screen: Screen, timeout_s: float) -> ImageVerified:
    request = new_id()
    with Moving(screen) as moving:
        async with with_progress(fleet, f"progress/verify/{request}", moving, "verify"):
            return await fleet.request(SERVICE, ImageVerify(request_id=request), ImageVerified, timeout_s=timeout_s)


async def pack(fleet: Fleet, screen: Screen, days: float | None, *, timeout_s: float) -> int:
    """Have space given back; return the exit code."""
    request = new_id()
    with Moving(screen) as moving:
        async with with_progress(fleet, f"progress/pack/{request}", moving, "pack"):
            body = ImagePack(request_id=request, days=days)
            packed = await fleet.request(SERVICE, body, ImagePacked, timeout_s=timeout_s)
    screen.result(as_data(packed))
    held = f" (the pin {packed.held_by} holds what is younger)" if packed.held_by else ""
    since = f"; the earliest transaction is {packed.earliest}" if packed.earliest else ""
    if isinstance(fleet, DatabaseCare):
        screen.say(
            f"packed in {seconds(packed.duration_ms)}; PostgreSQL gives the space back when it vacuums\n"
            f"every moment from {moment(packed.horizon)} on can be looked at{held}{since}"
        )
        return DONE
    screen.say(
        f"given back: {size(packed.bytes_before - packed.bytes_after)} of {size(packed.bytes_before)}, and "
        f"{size(packed.blob_bytes_before - packed.blob_bytes_after)} of {size(packed.blob_bytes_before)} of blobs, "
        f"{packed.objects_before - packed.objects_after} objects that nothing led to; {seconds(packed.duration_ms)}\n"
        f"every moment from {moment(packed.horizon)} on can be looked at{held}{since}"
    )
    return DONE


async def pin(fleet: Fleet, screen: Screen, name: str, at: str, reason: str, *, request_s: float) -> int:
    """Pin a moment; return the exit code."""
    body = ImagePin(name=name, at=at, reason=reason, by=ARCHITECT)
    _show_pins(screen, await fleet.request(SERVICE, body, ImagePins, timeout_s=request_s))
    return DONE


async def pins(fleet: Fleet, screen: Screen, *, request_s: float) -> int:
    """Show the pins; return the exit code."""
    _show_pins(screen, await fleet.request(SERVICE, ImagePinsGet(), ImagePins, timeout_s=request_s))
    return DONE


async def unpin(fleet: Fleet, screen: Screen, name: str, *, request_s: float) -> int:
    """Forget a pin; return the exit code."""
    _show_pins(screen, await fleet.request(SERVICE, ImageUnpin(name=name), ImagePins, timeout_s=request_s))
    return DONE


def _show_pins(screen: Screen, found: ImagePins) -> None:
    screen.result(as_data(found))
    table = Table("name", "transaction", "for", "by", "since", box=None)
    for one in found.pins:
        table.add_row(clean(one.name), one.tid, clean(one.reason), clean(one.by), moment(one.at))
    screen.say(table if found.pins else "no pins: packing goes as far as it is set to")


def report(found: ImageVerified) -> str:
    """Say what a look at everything found."""
    lines = [
        f"{found.objects} objects, {found.references} references and {found.blobs} blobs looked at",
        f"{found.transactions} transactions up to {found.tid}, in {seconds(found.duration_ms)}",
        f"root hash {found.root_hash}",
        f"compared with the last backup: {size(found.bytes_compared)} of the file, {found.blobs_compared} blobs",
        f"compared with their own records: {found.contents_compared} adapters and parts of data sets",
        *found.notes,
    ]
    for fault in found.faults:
        where = fault.path or (f"object {fault.oid}" if fault.oid else "")
        lines.append(f"{fault.kind}: {where + ': ' if where else ''}{fault.message}")
        if fault.hint:
            lines.append(f"  -> {fault.hint}")
    more = found.faults_found - len(found.faults)
    if more > 0:
        lines.append(f"and {more} more")
    lines.append(f"{found.faults_found} faults" if found.faults_found else "nothing is wrong")
    return "\n".join(lines)


async def _tool(screen: Screen, arguments: list[str], kind: type[M], timeout_s: float = LONGEST_S) -> M:
    with Moving(screen) as moving:
        return await run_image_tool(
            arguments, kind, lambda event: moving.show(progress_text(event)), timeout_s=timeout_s
        )


def as_data(message: Message) -> dict[str, Any]:
    """Return what these commands say with `--json`."""
    data: dict[str, Any] = msgspec.to_builtins(message)
    del data["type"]
    return data


def size(count: int) -> str:
    """Say a number of bytes."""
    value = float(count)
    for unit in _UNITS:
        if abs(value) < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{value:.0f} {unit}" if unit == _UNITS[0] else f"{value:.1f} {unit}"


def seconds(milliseconds: int) -> str:
    """Say how long something took."""
    return f"{milliseconds / MS_PER_S:.1f} s"


def moment(at: float) -> str:
    """Say a time so that `--at` takes it."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds")
