"""The `batos` command: what can be said to it. The work is in modules that a command imports when it is called."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from batos.console import at_commands, care_commands, doctor_commands, inspect_commands, migrate_commands
from batos.console.errors import DONE, WrongUsage
from batos.console.past import At, say_when
from batos.console.runner import Work, execute

HOUR_S = 3600.0
DAY_S = 86_400.0

app = typer.Typer(
    name="batos",
    help="BAT OS: a mind that lives in a database.\n\n"
    "Everything it writes lies under BATOS_HOME (default: var/ in the working directory).\n\n"
    "Exit codes: 0 done, 1 the mission or the work failed, 2 wrong usage, 3 the fleet is not reachable.\n\n"
    "Example: batos run",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
mission_app = typer.Typer(
    help="Missions: list them, look at one, wait for one.\n\nExample: batos mission list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
persona_app = typer.Typer(
    help="Personas: look at one.\n\nExample: batos persona show alfred", no_args_is_help=True, rich_markup_mode=None
)
forge_app = typer.Typer(
    help="The learning loop: run a turn, judge it, undo it.\n\nExample: batos forge run brick",
    no_args_is_help=True,
    rich_markup_mode=None,
)
image_app = typer.Typer(
    help="The Living Image: look at it, now and in the past; its live methods and their versions; its backups.\n\n"
    "Example: batos image show lobby.brick_prototype_obj",
    no_args_is_help=True,
    rich_markup_mode=None,
)
inspect_commands.add_commands(image_app)
image_app.add_typer(at_commands.app, name="at")
care_commands.add_commands(image_app)
migrate_commands.add_commands(image_app)
app.add_typer(image_app, name="image")
keys_app = typer.Typer(
    help="Keys of a fleet whose vessels do not share a home: containers.\n\nExample: batos keys make ./keys",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(keys_app, name="keys")
app.add_typer(mission_app, name="mission")
app.add_typer(persona_app, name="persona")
app.add_typer(forge_app, name="forge")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, max=DAY_S, help="Seconds to wait; the work goes on after.")
]
Persona = Annotated[str, typer.Argument(help="robin, brick, babs or alfred.")]
MissionId = Annotated[str, typer.Argument(help="The mission's id, as `batos ask` prints it.")]
OrderId = Annotated[str, typer.Argument(help="The order's id, as `batos forge run` prints it.")]


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave the fleet running and return.")] = False,
    kernels: Annotated[int | None, typer.Option(min=1, max=32, help="How many kernels; default 2.")] = None,
) -> None:
    """Start the fleet and wait until every vessel is ready.

    Without --detach it stays in the foreground until Ctrl-C, which ends the fleet.

    Example: batos up --detach
    """

    async def work(at: Work) -> int:
        from batos.console.upkeep import up_fleet  # noqa: PLC0415

        return await up_fleet(at.settings, at.screen, detach=detach, kernels=kernels)

    execute(work)


@app.command()
def down() -> None:
    """End the fleet; no process of it is left behind.

    Example: batos down
    """

    async def work(at: Work) -> int:
        from batos.console.upkeep import down_fleet  # noqa: PLC0415

        return await down_fleet(at.settings, at.screen)

    execute(work)


@app.command()
def status(as_json: Json = False) -> None:
    """Show the vessels, the model, and what each persona has learned.

    Example: batos status --json
    """

    async def work(at: Work) -> int:
        import time  # noqa: PLC0415

        from batos.console import status as fleet_status  # noqa: PLC0415

        async with at.fleet() as fleet:
            found = await fleet_status.look(fleet, at.settings.console_request_s)
        at.screen.result({"home": str(at.settings.home), **fleet_status.as_data(found, time.time())})
        at.screen.say(fleet_status.render(found))
        return DONE

    execute(work, as_json=as_json)


@app.command()
def ask(
    text: Annotated[str, typer.Argument(help="What is to be thought about; - reads it from standard input.")],
    persona: Annotated[str, typer.Option("--persona", "-p", help="Who weaves the answer; default: ROBIN.")] = "",
    as_json: Json = False,
    timeout: Timeout = HOUR_S,
) -> None:
    """Ask a mission, show the thought while it runs, print how it ended.

    Ctrl-C leaves the mission running.

    Example: batos ask "What should a first-aid box hold?" --persona babs
    """

    async def work(at: Work) -> int:
        from batos.console import missions  # noqa: PLC0415

        said = typer.get_text_stream("stdin").read() if text == "-" else text
        if not said.strip():
            raise WrongUsage("mission_empty", "the mission is empty", "say what is to be thought about")
        async with at.fleet() as fleet:
            return await missions.ask(
                fleet, at.screen, said, weaver=persona, timeout_s=timeout, request_s=at.settings.console_request_s
            )

    execute(work, as_json=as_json)


@mission_app.command("list")
def mission_list(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20, at: At = "", as_json: Json = False
) -> None:
    """List the newest missions, as they stand or stood.

    Example: batos mission list --limit 5
    """

    async def work(on: Work) -> int:
        from batos.console import missions  # noqa: PLC0415
        from batos.console.tables import missions_table  # noqa: PLC0415

        async with on.fleet() as fleet:
            view = await missions.newest(fleet, limit, at=at, request_s=on.settings.console_request_s)
        found = view.missions
        on.screen.result({"missions": [missions.as_data(mission) for mission in found], "as_of": view.as_of})
        say_when(on.screen, view, at)
        on.screen.say(missions_table(found) if found else "no missions yet: ask one with `batos ask`")
        return DONE

    execute(work, as_json=as_json)


@mission_app.command("show")
def mission_show(mission_id: MissionId, at: At = "", as_json: Json = False) -> None:
    """Show how a mission stands or ended, or how it stood.

    Example: batos mission show 0197…
    """

    async def work(on: Work) -> int:
        from batos.console import missions  # noqa: PLC0415
        from batos.console.show import outcome_text  # noqa: PLC0415

        async with on.fleet() as fleet:
            found = await missions.look(fleet, mission_id, at=at, request_s=on.settings.console_request_s)
        on.screen.result(missions.as_data(found))
        say_when(on.screen, found, at)
        on.screen.say(f"asked: {found.text}\n")
        on.screen.say(outcome_text(found))
        return DONE

    execute(work, as_json=as_json)


@mission_app.command("wait")
def mission_wait(mission_id: MissionId, as_json: Json = False, timeout: Timeout = HOUR_S) -> None:
    """Watch a mission until it ends; exit 0 where it is COMPLETE, 1 where it FAILED.

    Example: batos mission wait 0197…
    """

    async def work(at: Work) -> int:
        from batos.console import missions  # noqa: PLC0415

        async with at.fleet() as fleet:
            return await missions.wait(
                fleet, at.screen, mission_id, timeout_s=timeout, request_s=at.settings.console_request_s
            )

    execute(work, as_json=as_json)


@mission_app.command("undo")
def mission_undo(
    mission_id: MissionId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be restored, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Undo what a mission's thought changed in the image, wherever nothing built on it; what is left is listed.

    It is a new transaction: the past stays readable, and an undo can be undone. What stood before the thought is
    needed: where that was packed away, it is refused.

    Example: batos mission undo 0197… --dry-run
    """

    async def work(at: Work) -> int:
        from batos.console import inspecting  # noqa: PLC0415

        async with at.fleet() as fleet:
            return await inspecting.undo(
                fleet, at.screen, mission_id, dry_run=dry_run, request_s=at.settings.console_request_s
            )

    execute(work, as_json=as_json)


@persona_app.command("show")
def persona_show(name: Persona, at: At = "", as_json: Json = False) -> None:
    """Show a persona as the image holds it, or held it: DNA, codex, pillars.

    Example: batos persona show alfred --json
    """

    async def work(on: Work) -> int:
        from batos.console import personas  # noqa: PLC0415

        async with on.fleet() as fleet:
            view = await personas.look(fleet, name, at=at, request_s=on.settings.console_request_s)
        on.screen.result(personas.as_data(view))
        say_when(on.screen, view, at)
        on.screen.say(personas.render(view))
        return DONE

    execute(work, as_json=as_json)


@forge_app.command("run")
def forge_run(
    persona: Persona,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Approve a candidate that won; never one that lost.")
    ] = False,
    as_json: Json = False,
    timeout: Timeout = HOUR_S,
) -> None:
    """Run one turn of the learning loop: curate, train, compare, approve, bind.

    A candidate that does not win is not promoted: exit 1. Without --yes and without a terminal the candidate is kept,
    and the command that approves it later is named: exit 2.

    Example: batos forge run brick --yes
    """

    async def work(at: Work) -> int:
        from batos.console.turn import turn  # noqa: PLC0415

        async with at.fleet() as fleet:
            return await turn(
                fleet, at.screen, persona, yes=yes, timeout_s=timeout, request_s=at.settings.console_request_s
            )

    execute(work, as_json=as_json)


@forge_app.command("status")
def forge_status(order_id: OrderId, at: At = "", as_json: Json = False) -> None:
    """Show how a training order stands, or stood.

    Example: batos forge status 0197…
    """

    async def work(on: Work) -> int:
        from batos.console import forge  # noqa: PLC0415
        from batos.console.tables import order_table  # noqa: PLC0415

        async with on.fleet() as fleet:
            order = await forge.order_status(fleet, order_id, at=at, request_s=on.settings.console_request_s)
        on.screen.result(forge.as_data(order))
        say_when(on.screen, order, at)
        on.screen.say(order_table(order))
        return DONE

    execute(work, as_json=as_json)


@forge_app.command("promote")
def forge_promote(order_id: OrderId, as_json: Json = False) -> None:
    """Approve a candidate that passed the gate: it is loaded everywhere, then bound.

    Example: batos forge promote 0197…
    """

    async def work(at: Work) -> int:
        from batos.console.turn import approve  # noqa: PLC0415

        async with at.fleet() as fleet:
            return await approve(fleet, at.screen, order_id, request_s=at.settings.console_request_s)

    execute(work, as_json=as_json)


@forge_app.command("rollback")
def forge_rollback(persona: Persona, as_json: Json = False) -> None:
    """Bind what a persona answered with before.

    Example: batos forge rollback brick
    """

    async def work(at: Work) -> int:
        from batos.console.turn import undo  # noqa: PLC0415

        async with at.fleet() as fleet:
            return await undo(fleet, at.screen, persona, request_s=at.settings.console_request_s)

    execute(work, as_json=as_json)


@keys_app.command("make")
def keys_make(
    folder: Annotated[Path, typer.Argument(help="Where each role gets a folder of its own.")],
    host: Annotated[
        list[str] | None, typer.Option("--host", help="A further name under which the image is reached; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the keys with which vessels in containers know each other; what is there is kept.

    Mount the folder of a vessel's role at the place that BATOS_KEYS names in it.

    Example: batos keys make ./keys --host image.example.net
    """

    async def work(at: Work) -> int:
        from batos.console.keys import ROLES, make_keys  # noqa: PLC0415

        written = await asyncio.to_thread(make_keys, folder.absolute(), host or ())
        at.screen.result({"folder": str(folder.absolute()), "roles": ROLES, "written": [str(path) for path in written]})
        at.screen.say(f"{len(written)} files written in {folder.absolute()}, for {', '.join(ROLES)}")
        return DONE

    execute(work, as_json=as_json)


@app.command()
def roll(
    target: Annotated[str, typer.Argument(help="A kind (kernel, curator, …) or one vessel (kernel-1).")],
    as_json: Json = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, max=DAY_S, help="Seconds for each plank.")] = 300.0,
) -> None:
    """Replace the planks of a kind one after another while the fleet works.

    Example: batos roll kernel
    """

    async def work(at: Work) -> int:
        from batos.console import rolling  # noqa: PLC0415

        async with at.fleet() as fleet:
            return await rolling.roll(
                fleet, at.screen, target, timeout_s=timeout, request_s=at.settings.console_request_s
            )

    execute(work, as_json=as_json)


@app.command()
def console() -> None:
    """Converse with the fleet that runs: ask, watch thoughts, look around.

    Example: batos console
    """

    async def work(at: Work) -> int:
        if not at.screen.interactive:
            raise WrongUsage("no_terminal", "the console needs a terminal", "use `batos ask`")
        from batos.console.session import converse  # noqa: PLC0415

        async with at.fleet() as fleet:
            await converse(fleet, at.settings, at.screen)
        return DONE

    execute(work)


@app.command()
def run(timeout: Timeout = HOUR_S) -> None:
    """Start the fleet if none runs, ask a first mission, then converse where there is a terminal.

    A fleet that this command started ends with it.

    Example: batos run
    """

    async def work(at: Work) -> int:
        from batos.console.run import run as run_all  # noqa: PLC0415

        return await run_all(at.settings, at.screen, timeout_s=timeout)

    execute(work)


doctor_commands.add_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata  # noqa: PLC0415

        typer.echo(importlib.metadata.version("batos-console"))
        raise typer.Exit(DONE)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> Any:
    """Take what goes before the command's name."""
    del version
