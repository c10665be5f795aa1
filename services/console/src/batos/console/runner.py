"""Runs what a command does: settings, screen, event loop, and an exit code for whatever happens."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from batos.console.errors import INTERRUPTED, explained

if TYPE_CHECKING:
    from batos.console.fleet import Fleet
    from batos.console.settings import ConsoleSettings
    from batos.console.show import Screen


@dataclass(frozen=True)
class Work:
    """What a command works with."""

    settings: ConsoleSettings
    screen: Screen

    def fleet(self) -> AbstractAsyncContextManager[Fleet]:
        """Connect to the fleet of the home."""
        from batos.console import fleet  # noqa: PLC0415 - `batos --help` needs none of it

        return fleet.reach(self.settings)


def execute(work: Callable[[Work], Awaitable[int]], *, as_json: bool = False) -> None:
    """Do what a command does and end it with its exit code; errors that a sentence explains are that sentence.

    Raises:
        typer.Exit: always.
    """
    from batos.console.show import Screen  # noqa: PLC0415

    screen = Screen(as_json=as_json)
    try:
        code = asyncio.run(_prepared(work, screen))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        said = explained(error)
        if said is None:
            raise
        screen.failed(said)
        raise typer.Exit(said.exit_code) from None
    raise typer.Exit(code)


async def _prepared(work: Callable[[Work], Awaitable[int]], screen: Screen) -> int:
    """Read the settings and do the work; SIGTERM ends it in order, as Ctrl-C does."""
    from batos.console.settings import ConsoleSettings  # noqa: PLC0415
    from batos.vessel import load_settings  # noqa: PLC0415

    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work(Work(load_settings(ConsoleSettings), screen))
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
