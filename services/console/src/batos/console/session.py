"""The console: a conversation with the fleet that runs."""

from __future__ import annotations

import asyncio
import os
import shlex
import traceback
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import NestedCompleter
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout

from batos.console import forge, missions, personas, rolling, status
from batos.console.errors import ConsoleError, WrongUsage, explained
from batos.console.fleet import Fleet
from batos.console.settings import ConsoleSettings
from batos.console.show import Screen, SilentView, outcome_text
from batos.console.tables import missions_table, order_table
from batos.console.turn import approve, turn, undo
from batos.console.watching import Watch
from batos.protocol import Event, MissionAccepted, MissionSubmit, new_id

HISTORY_FILE = "console_history"
PROMPT = "batos> "
TURN_S = 3600.0
ROLL_S = 300.0
LISTED = 10
_FILE_MODE = 0o600
_REFRESH_S = 0.5

HELP = """\
text                          ask a mission
/status                       vessels, model, what each persona has learned
/mission                      the newest missions; /mission ID shows one
/persona NAME                 a persona as the image holds it
/forge run NAME               a turn of the learning loop (then: /forge promote ORDER)
/forge promote|status ORDER   approve a candidate; how an order stands
/forge rollback NAME          what it answered with before
/roll KIND|VESSEL             replace planks under load
/quit                         leave; missions go on"""


async def converse(fleet: Fleet, settings: ConsoleSettings, screen: Screen) -> None:
    """Talk with whoever sits at the terminal until they leave."""
    with patch_stdout(raw=True):
        inner = Screen(lines=True, out=screen.out, err=screen.err)
        async with fleet.subscribe("mission/", "fleet", "progress/") as events:
            session = Session(fleet, settings, inner)
            await session.talk(_prompt(settings.home, session), events)


def _prompt(home: Path, session: Session) -> PromptSession[str]:
    names: dict[str, Any] = {name.lower(): None for name in status.PERSONAS}
    completer = NestedCompleter.from_nested_dict(
        {
            "/status": None,
            "/mission": None,
            "/persona": names,
            "/forge": {"run": names, "rollback": names, "promote": None, "status": None},
            "/roll": {"kernel": None, "curator": None, "forge": None, "inference": None, "supervisor": None},
            "/help": None,
            "/quit": None,
        }
    )
    return PromptSession(
        PROMPT,
        history=FileHistory(_private(home / HISTORY_FILE)),
        completer=completer,
        complete_while_typing=False,
        bottom_toolbar=session.toolbar,
        refresh_interval=_REFRESH_S,
    )


def _private(path: Path) -> str:
    """Make sure that a file is there and readable by its owner only."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _FILE_MODE))
    path.chmod(_FILE_MODE)
    return str(path)


class Session:
    """One conversation: what is typed, what happens meanwhile, and the work that goes on beside it."""

    def __init__(self, fleet: Fleet, settings: ConsoleSettings, screen: Screen) -> None:
        self.fleet = fleet
        self.settings = settings
        self.screen = screen
        self.watch = Watch(screen)
        self._tasks: set[asyncio.Task[None]] = set()

    async def talk(self, prompt: PromptSession[str], events: AsyncIterator[Event]) -> None:
        """Read lines and do what they say until /quit or end of input."""
        self.screen.say("ask something, or /help; /quit leaves")
        self._beside(self._watch(events))
        try:
            while True:
                try:
                    line = (await prompt.prompt_async()).strip()
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    return
                if line in {"/quit", "/exit"}:
                    return
                if line:
                    self._beside(self.obey(line))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def toolbar(self) -> str:
        """Say under the prompt what is being thought now."""
        return self.watch.now() or "nothing is being thought"

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._reported(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reported(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work; whatever goes wrong is said, and the conversation goes on."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - one command that fails ends no conversation
            said = explained(error)
            if said is None:
                traceback.print_exception(error)
                said = ConsoleError("fault", f"{type(error).__name__}: {error}", "this is a fault of the console")
            self.screen.failed(said)

    async def _watch(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self.watch.event(event)

    async def obey(self, line: str) -> None:
        """Do what a line says."""
        if not line.startswith("/"):
            await self._ask(line)
            return
        try:
            command, *arguments = shlex.split(line)
        except ValueError as error:
            raise WrongUsage("line_unreadable", f"that line cannot be read: {error}", "close the quotes") from None
        request_s = self.settings.console_request_s
        match command, arguments:
            case "/help", _:
                self.screen.say(HELP)
            case "/status", []:
                self.screen.say(status.render(await status.look(self.fleet, request_s)))
            case "/mission", []:
                found = await missions.newest(self.fleet, LISTED, request_s=request_s)
                self.screen.say(missions_table(found.missions))
            case "/mission", [mission_id]:
                self.screen.say(outcome_text(await missions.look(self.fleet, mission_id, request_s=request_s)))
            case "/persona", [name]:
                self.screen.say(personas.render(await personas.look(self.fleet, name, request_s=request_s)))
            case "/forge", [act, what]:
                await self._forge(act, what)
            case "/roll", [target]:
                await rolling.roll(self.fleet, self.screen, target, timeout_s=ROLL_S, request_s=request_s)
            case _:
                raise WrongUsage("command_unknown", f"{line!r} is not understood", "/help lists what is")

    async def _ask(self, text: str) -> None:
        mission_id = new_id()
        self.watch.own.add(mission_id)
        request_s = self.settings.console_request_s

        async def submit() -> MissionAccepted:
            body = MissionSubmit(mission_id=mission_id, text=text)
            return await self.fleet.request("kernel", body, MissionAccepted, timeout_s=request_s)

        ended = await missions.follow(
            self.fleet, mission_id, SilentView(), timeout_s=TURN_S, request_s=request_s, submit=submit
        )
        self.screen.say(outcome_text(ended))

    async def _forge(self, act: str, what: str) -> None:
        request_s = self.settings.console_request_s
        match act:
            case "run":
                await turn(self.fleet, self.screen, what, yes=False, timeout_s=TURN_S, request_s=request_s)
            case "promote":
                await approve(self.fleet, self.screen, what, request_s=request_s)
            case "rollback":
                await undo(self.fleet, self.screen, what, request_s=request_s)
            case "status":
                self.screen.say(order_table(await forge.order_status(self.fleet, what, request_s=request_s)))
            case _:
                raise WrongUsage("command_unknown", f"/forge {act} is not understood", "/help lists what is")
