"""`batos doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from batos.console.errors import DONE, MISSION_FAILED
from batos.console.runner import Work, execute

MAX_DAYS = 36_500
GB = 1_000_000_000


def add_command(app: typer.Typer) -> None:
    """Add it to the command."""
    app.command()(doctor)


def doctor(
    pin_days: Annotated[
        float, typer.Option("--pin-days", min=0, max=MAX_DAYS, help="A pin that is older counts as forgotten.")
    ] = 30,
    backup_days: Annotated[
        float, typer.Option("--backup-days", min=0, max=MAX_DAYS, help="So old the newest backup may be.")
    ] = 7,
    free_gb: Annotated[
        float, typer.Option("--free-gb", min=0, max=1_000_000, help="Less room on a disk is too little.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Look at the home and its fleet: what is well, what is not, and the command that helps. Nothing is changed.

    A fleet need not run. Exit 0 where nothing is wrong, 1 where something is; a note is nothing wrong.

    Example: batos doctor --pin-days 90 --json
    """

    async def work(on: Work) -> int:
        from batos.console import findings  # noqa: PLC0415
        from batos.console.doctor import examine  # noqa: PLC0415
        from batos.console.doctor_fleet import Bounds  # noqa: PLC0415

        found = await examine(on, Bounds(pin_days, backup_days, round(free_gb * GB)))
        on.screen.result(findings.as_data(found))
        on.screen.say(findings.render(found))
        return MISSION_FAILED if findings.any_wrong(found) else DONE

    execute(work, as_json=as_json)
