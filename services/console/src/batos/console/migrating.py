"""Having the image migrated by a kernel."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from batos.console.care import as_data
from batos.console.errors import DONE, MISSION_FAILED
from batos.console.fleet import Fleet
from batos.console.progress import Moving, with_progress
from batos.console.show import Screen, clean
from batos.protocol import ImageMigrate, ImageMigrated, MigrationView, new_id


async def migrate(fleet: Fleet, screen: Screen, *, dry_run: bool, timeout_s: float) -> int:
    """Have the image migrated, or hear what that would do; return the exit code."""
    request = new_id()
    with Moving(screen) as moving:
        async with with_progress(fleet, f"progress/migrate/{request}", moving, "migrate"):
            asked = ImageMigrate(request_id=request, dry_run=dry_run)
            found = await fleet.request("kernel", asked, ImageMigrated, timeout_s=timeout_s)
    screen.result(as_data(found))
    screen.say(render(found))
    if found.against:
        screen.warn(f"it would be refused: {found.against}")
    return MISSION_FAILED if found.against else DONE


def render(found: ImageMigrated) -> RenderableType:
    """Say what migrations did or would do."""
    if not found.migrations:
        return Text(f"nothing to do: the image has version {found.version}, the newest that these kernels know")
    table = Table("version", "what", "looked at", "would change" if found.dry_run else "changed", "", box=None)
    for one in found.migrations:
        changed = "-" if one.changed is None else f"{one.changed:,}"
        table.add_row(str(one.number), clean(one.title), f"{one.looked:,}", changed, _remark(one))
    words = (
        f"the image has version {found.version} and would get {found.migrations[-1].number}; nothing was written"
        if found.dry_run
        else f"the image has version {found.version} now; it had {found.before}"
    )
    return Group(table, Text(words))


def _remark(one: MigrationView) -> str:
    if one.changed is None:
        return "counted once those before it have been done"
    return f"gone on with at {one.looked_before:,}" if one.looked_before else ""
