"""`batos image show|history|versions|diff|compare|install|revert|upgrade`: the image as the Architect sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from batos.console.errors import WrongUsage
from batos.console.past import At
from batos.console.runner import Work, execute

ImagePath = Annotated[str, typer.Argument(help="For example lobby.alfred_prototype_obj.codex['covenants'].")]
MethodPath = Annotated[str, typer.Argument(help="For example lobby.traits_obj.recall_.")]
ObjectPath = Annotated[str, typer.Argument(help="For example lobby.brick_prototype_obj.")]
Other = Annotated[str, typer.Argument(help="Path of the other object; default: the one that it was cloned from.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many changes.")]
Old = Annotated[int | None, typer.Option(min=1, help="Number of the older version; default: the one before.")]
New = Annotated[int | None, typer.Option(min=1, help="Number of the newer version; default: the last.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def add_commands(image_app: typer.Typer) -> None:
    """Add these commands to the group `image`."""
    for command in (show, history, versions, diff, compare, install, revert, upgrade):
        image_app.command()(command)


def show(
    path: ImagePath = "lobby",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what stands at a path of the image: slots, methods, what is inherited and from whom.

    Example: batos image show lobby.brick_prototype_obj --at 2026-01-31T12:00:00+00:00
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.show(fleet, on.screen, path, at=at, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)


def history(
    path: ImagePath,
    limit: Limit = 20,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show which transactions wrote an object or container, the newest first, and for which mission.

    A slot has its object's history, an item its container's; a tree's item that of the part of the tree where it lies.

    Example: batos image history lobby.brick_prototype_obj --limit 5
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.history(
                fleet, on.screen, path, at=at, limit=limit, request_s=on.settings.console_request_s
            )

    execute(work, as_json=as_json)


def versions(path: MethodPath, at: At = "", as_json: Json = False) -> None:
    """Show all versions of a live method: who wrote them, when, and which is in force.

    Example: batos image versions lobby.psm_prototypes_obj.IDLE._process_synthesis_
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.versions(fleet, on.screen, path, at=at, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)


def diff(
    path: MethodPath,
    old: Old = None,
    new: New = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what changed between two versions of a live method.

    Example: batos image diff lobby.traits_obj.recall_ --old 1
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.diff(
                fleet, on.screen, path, at=at, old=old, new=new, request_s=on.settings.console_request_s
            )

    execute(work, as_json=as_json)


def compare(path: ObjectPath, other: Other = "", at: At = "", as_json: Json = False) -> None:
    """Show in what an object differs from its ancestor, the object that it was cloned from, or from any other one.

    Example: batos image compare lobby.brick_prototype_obj lobby.robin_prototype_obj
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.compare(
                fleet, on.screen, path, other, at=at, request_s=on.settings.console_request_s
            )

    execute(work, as_json=as_json)


def install(
    path: MethodPath,
    file: Annotated[str, typer.Argument(help="Python file that defines the method; - reads standard input.")],
    as_json: Json = False,
) -> None:
    """Install a live method, or a new version of one, as the Architect: trusted code, run by the kernels.

    Example: batos image install lobby.traits_obj.greet_ greet.py
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        source = await asyncio.to_thread(_source, file)
        async with on.fleet() as fleet:
            return await inspecting.install(fleet, on.screen, path, source, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)


def _source(file: str) -> str:
    try:
        return typer.get_text_stream("stdin").read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage("source_unreadable", f"{file} cannot be read: {error}", "name a Python file") from error


def revert(
    path: MethodPath,
    number: Annotated[int, typer.Argument(min=1, help="The version, as `batos image versions` numbers it.")],
    as_json: Json = False,
) -> None:
    """Put an older version of a live method in force again, as a new version.

    Example: batos image revert lobby.traits_obj.recall_ 1
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.revert(fleet, on.screen, path, number, request_s=on.settings.console_request_s)

    execute(work, as_json=as_json)


def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    take: Annotated[
        list[str] | None,
        typer.Option("--take", help="Path of a method that was changed here and is to be replaced; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring newer shipped methods into the image; what was changed here is kept and reported.

    Exit 1 where a method was changed on both sides: look at it, then keep it, or take the shipped one with --take.

    Example: batos image upgrade --dry-run
    """

    async def work(on: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with on.fleet() as fleet:
            return await inspecting.upgrade(
                fleet, on.screen, dry_run=dry_run, take=take or (), request_s=on.settings.console_request_s
            )

    execute(work, as_json=as_json)
