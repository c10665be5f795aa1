"""Folders of backups on this machine: what they have, whether it can be restored, and old ones taken away."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from batos.console.care import as_data, seconds, size
from batos.console.errors import DONE, MISSION_FAILED
from batos.console.image_tool import LONGEST_S, run_image_tool
from batos.console.progress import Moving, progress_text
from batos.console.show import Screen, clean
from batos.protocol import BackupView, ImageBackups

_SHOWN_ID = 8


async def backups(screen: Screen, folder: Path, *, keep: int | None, days: float | None, dry_run: bool) -> int:
    """Show what a folder has, or take old backups away; return the exit code."""
    how = [] if keep is None else [f"--keep={keep}"]
    how += [] if days is None else [f"--days={days}"]
    found = await _tool(screen, ["backups", *how, *(["--dry-run"] if dry_run else []), str(folder)])
    if not how:
        _show(screen, found)
        return DONE
    screen.result(as_data(found))
    done = "would be taken away" if dry_run else "taken away"
    for name in found.removed:
        screen.say(f"{done}: {name}")
    screen.say(
        f"{done}: {len(found.removed)} of {len(found.backups)} backups and {found.blobs_removed} blobs, "
        f"{size(found.bytes_removed)}"
    )
    return DONE


async def verify(screen: Screen, folder: Path, *, timeout_s: float) -> int:
    """Have every byte of a folder read; return the exit code."""
    found = await _tool(screen, ["verify", f"--backup={folder}"], timeout_s)
    _show(screen, found)
    for fault in found.faults:
        screen.say(clean(fault))
    if found.faults_found > len(found.faults):
        screen.say(f"and {found.faults_found - len(found.faults)} more")
    screen.say(
        f"{size(found.bytes_read)} read in {seconds(found.duration_ms)}: "
        f"{f'{found.faults_found} faults' if found.faults_found else 'nothing is wrong'}"
    )
    if found.faults_found:
        screen.say("-> put it right from another copy, or make a new one: `batos image backup DIR --full`")
    return MISSION_FAILED if found.faults_found else DONE


def _show(screen: Screen, found: ImageBackups) -> None:
    screen.result(as_data(found))
    table = Table("backup", "up to", "kind", "size", "blobs", "image", "", box=None)
    for one in found.backups:
        table.add_row(
            clean(one.name), one.tid, one.kind, size(one.bytes), str(one.blobs), one.image[-_SHOWN_ID:], _how(one)
        )
    screen.say(table if found.backups else f"there is no backup in {found.folder}")


def _how(one: BackupView) -> str:
    if not one.restores:
        return f"cannot be restored: {clean(one.why)}"
    return f"the image's blobs were damaged: {len(one.missing)}" if one.missing else "can be restored"


async def _tool(screen: Screen, arguments: list[str], timeout_s: float = LONGEST_S) -> ImageBackups:
    with Moving(screen) as moving:
        return await run_image_tool(
            arguments, ImageBackups, lambda event: moving.show(progress_text(event)), timeout_s=timeout_s
        )
