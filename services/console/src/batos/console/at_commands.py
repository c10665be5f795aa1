"""`batos image at MOMENT show|history|versions|diff|compare`: the same as their option `--at`."""

from __future__ import annotations

import typer

from batos.console import inspect_commands
from batos.console.inspect_commands import ImagePath, Json, Limit, MethodPath, New, ObjectPath, Old, Other
from batos.console.past import Moment

app = typer.Typer(
    help="The image as it was: show, history, versions, diff, compare, as of a moment.\n\n"
    "The same as their option --at.\n\n"
    "Example: batos image at 2026-01-31T12:00:00+00:00 show lobby.brick_prototype_obj",
    no_args_is_help=True,
    rich_markup_mode=None,
    subcommand_metavar="COMMAND PATH",
)


@app.callback()
def keep(context: typer.Context, moment: Moment) -> None:
    """Keep the moment for the command that follows."""
    context.obj = moment


@app.command()
def show(context: typer.Context, path: ImagePath = "lobby", as_json: Json = False) -> None:
    """Show what stood at a path of the image then.

    Example: batos image at 2026-01-31T12:00:00+00:00 show lobby.brick_prototype_obj
    """
    inspect_commands.show(path, at=context.obj, as_json=as_json)


@app.command()
def history(context: typer.Context, path: ImagePath, limit: Limit = 20, as_json: Json = False) -> None:
    """Show which transactions had written an object or container by then; a slot or item has its holder's history.

    Example: batos image at 2026-01-31T12:00:00+00:00 history lobby.brick_prototype_obj
    """
    inspect_commands.history(path, limit, at=context.obj, as_json=as_json)


@app.command()
def versions(context: typer.Context, path: MethodPath, as_json: Json = False) -> None:
    """Show the versions that a live method had then.

    Example: batos image at 2026-01-31T12:00:00+00:00 versions lobby.traits_obj.recall_
    """
    inspect_commands.versions(path, at=context.obj, as_json=as_json)


@app.command()
def diff(context: typer.Context, path: MethodPath, old: Old = None, new: New = None, as_json: Json = False) -> None:
    """Show what changed between two versions of a live method; by default the last two of then.

    Example: batos image at 2026-01-31T12:00:00+00:00 diff lobby.traits_obj.recall_
    """
    inspect_commands.diff(path, old, new, at=context.obj, as_json=as_json)


@app.command()
def compare(context: typer.Context, path: ObjectPath, other: Other = "", as_json: Json = False) -> None:
    """Show in what an object differed then from its ancestor, or from another one.

    Example: batos image at 2026-01-31T12:00:00+00:00 compare lobby.brick_prototype_obj
    """
    inspect_commands.compare(path, other, at=context.obj, as_json=as_json)
