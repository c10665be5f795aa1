"""`batos image migrate`: the image is brought to the version that this release is made for."""

from __future__ import annotations

from typing import Annotated

import typer

from batos.console.runner import Work, execute

HOUR_S = 3600.0
WEEK_S = 604_800.0

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def add_commands(image_app: typer.Typer) -> None:
    """Add these commands to the group `image`."""
    image_app.command()(migrate)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, max=WEEK_S, help="Seconds to wait; then it is stopped where it is.")
    ] = 24 * HOUR_S,
) -> None:
    """Bring the image to the newest version that the kernels understand, while they work on.

    Stopped or killed half-way, the same command goes on where it was. Every kernel has to be of this release by then.

    Exit 1 where it is refused or fails, or a dry run finds what stands against it.

    Example: batos image migrate --dry-run
    """

    async def work(on: Work) -> int:
        from batos.console import migrating  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await migrating.migrate(fleet, on.screen, dry_run=dry_run, timeout_s=timeout)

    execute(work, as_json=as_json)
