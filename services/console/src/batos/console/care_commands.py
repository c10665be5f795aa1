"""`batos image backup|backups|restore|verify|pack|pin|pins|unpin`: care for the image's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batos.console.past import At
from batos.console.runner import Work, execute

HOUR_S = 3600.0
WEEK_S = 604_800.0

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, max=WEEK_S, help="Seconds to wait; then it is given up and undone.")
]


def _folder(text: str) -> Path:
    """Refuse a folder that was given and is empty, as `"$UNSET"` is: it would mean the one where this runs."""
    if not text.strip():
        raise typer.BadParameter("it is empty; name a folder")
    return Path(text).absolute()


Backups = Annotated[Path, typer.Argument(metavar="DIR", parser=_folder, help="The folder of backups.")]
PinName = Annotated[str, typer.Argument(help="The pin's name.")]


def add_commands(image_app: typer.Typer) -> None:
    """Add these commands to the group `image`."""
    for command in (backup, backups, restore, verify, pack, pin, pins, unpin):
        image_app.command()(command)


def backup(
    folder: Backups,
    full: Annotated[bool, typer.Option("--full", help="Everything anew, also where what is new would do.")] = False,
    as_json: Json = False,
    timeout: Timeout = 24 * HOUR_S,
) -> None:
    """Add a backup of the image to a folder, while the fleet works: what is new since the last one there, and blobs.

    It is there whole or not at all, and was read again. DIR is a folder on the image's own machine.

    Exit 1 where the image itself lacks a blob: the backup is made, and names it.

    Example: batos image backup /backups/batos
    """

    async def work(on: Work) -> int:
        from batos.console import care  # noqa: PLC0415

        async with care.caring(on) as fleet:
            return await care.backup(fleet, on.screen, folder, full=full, timeout_s=timeout)

    execute(work, as_json=as_json)


def restore(
    folder: Backups,
    into: Annotated[Path, typer.Option("--into", metavar="HOME", parser=_folder, help="A home that has no image.")],
    at: At = "",
    image: Annotated[str, typer.Option("--image", help="Of which image, where the folder has several's.")] = "",
    as_json: Json = False,
) -> None:
    """Make an image from a backup: every hash is checked first, and the result compared with the backup's root hash.

    No fleet is needed. Start one on the new home with `BATOS_HOME=… batos up`. Exit 1 where the backup itself lacks a
    blob: the image is made, and what it lacks is named.

    Example: batos image restore /backups/batos --into /srv/batos --at 2026-01-31T12:00:00+00:00
    """

    async def work(on: Work) -> int:
        from batos.console import care  # noqa: PLC0415

        return await care.restore(on.screen, folder, into, at, image)

    execute(work, as_json=as_json)


def backups(
    folder: Backups,
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Take away all but so many.")] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, max=36_500, help="Take away those that are older.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken away, and leave it.")] = False,
    as_json: Json = False,
) -> None:
    """List the backups of a folder on this machine; with --keep or --days take old ones away, and what only they need.

    The newest that can be restored stays, and so does what others continue. Nothing is taken away where a backup cannot
    be read.

    Example: batos image backups /backups/batos --keep 14
    """
    if keep is not None and days is not None:
        raise typer.BadParameter("give --keep or --days, not both")
    if dry_run and keep is None and days is None:
        raise typer.BadParameter("--dry-run goes with --keep or --days")

    async def work(on: Work) -> int:
        from batos.console import backups as folders  # noqa: PLC0415

        return await folders.backups(on.screen, folder, keep=keep, days=days, dry_run=dry_run)

    execute(work, as_json=as_json)


def verify(
    backup: Annotated[
        Path | None,
        typer.Option("--backup", metavar="DIR", parser=_folder, help="Read this folder of backups, not the image."),
    ] = None,
    as_json: Json = False,
    timeout: Timeout = 24 * HOUR_S,
) -> None:
    """Look at everything: every object loads, every reference leads somewhere, every blob is there, the covenants hold.

    It reads beside the fleet that runs, or the home's files where none does. What the last backup knows of the file
    and of blobs is compared with them. Exit 1 where something is wrong. With --backup every byte of every backup in a
    folder on this machine is compared with its hash, and each is said to restore or not; no fleet is needed.

    Example: batos image verify --json
    """

    async def work(on: Work) -> int:
        from batos.console import backups, care  # noqa: PLC0415

        if backup is not None:
            return await backups.verify(on.screen, backup, timeout_s=timeout)
        return await care.verify(on, timeout_s=timeout)

    execute(work, as_json=as_json)


def pack(
    days: Annotated[
        float | None, typer.Option("--days", min=0, max=36_500, help="How long history is kept; default: as set.")
    ] = None,
    as_json: Json = False,
    timeout: Timeout = 24 * HOUR_S,
) -> None:
    """Give back the space of what changed before that, and say how much; pinned moments stay. The fleet goes on.

    In PostgreSQL a pack that --timeout ended stays done in part; the next one goes on.

    Example: batos image pack --days 7
    """

    async def work(on: Work) -> int:
        from batos.console import care  # noqa: PLC0415

        async with care.caring(on) as fleet:
            return await care.pack(fleet, on.screen, days, timeout_s=timeout)

    execute(work, as_json=as_json)


def pin(
    name: PinName,
    at: At = "",
    reason: Annotated[str, typer.Option("--reason", help="What it is kept for.")] = "",
    as_json: Json = False,
) -> None:
    """Keep a moment of the image: packing never passes it.

    Example: batos image pin before-the-upgrade --reason "to compare"
    """

    async def work(on: Work) -> int:
        from batos.console import care  # noqa: PLC0415

        async with care.caring(on) as fleet:
            return await care.pin(fleet, on.screen, name, at, reason, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)


def pins(as_json: Json = False) -> None:
    """List the pinned moments, the oldest first.

    Example: batos image pins
    """

    async def work(on: Work) -> int:
        from batos.console import care  # noqa: PLC0415

        async with care.caring(on) as fleet:
            return await care.pins(fleet, on.screen, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)


def unpin(name: PinName, as_json: Json = False) -> None:
    """Forget a pin; the next pack may pass its moment.

    Example: batos image unpin before-the-upgrade
    """

    async def work(on: Work) -> int:
        from batos.console import care  # noqa: PLC0415

        async with care.caring(on) as fleet:
            return await care.unpin(fleet, on.screen, name, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)
