"""Starts and ends the fleet of a home, and shows what is awaited meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import psutil

from batos.console.errors import ConsoleError, FleetUnreachable
from batos.console.fleet import Fleet, reach, roster
from batos.console.progress import Moving
from batos.console.settings import ConsoleSettings
from batos.protocol import RequestTimeout, VesselCard
from batos.vessel import FleetFile, FleetNotFound, FleetPlace, keeper_pid, tethered

KEEPER_LOG = "keeper.log"
POLL_S = 0.1
ROSTER_S = 2.0
KILL_S = 5.0
"""How long processes that were killed may take to be gone."""
LOOPING = "ends again and again"
"""What the keeper says, after its name, of a vessel that fails at every start."""
LOOPING_S = 10.0
"""How long that may go on before it is believed."""
LAST_LINES = 15
_TAIL_BYTES = 16_384
_FILE_MODE = 0o600


def start_keeper(settings: ConsoleSettings, *, kernels: int | None, tied: bool) -> subprocess.Popen[bytes]:
    """Start the keeper of a home in a session of its own, so that Ctrl-C reaches this command alone.

    Args:
        settings: name the home.
        kernels: how many the fleet has; None leaves it to the keeper's settings.
        tied: it ends with this process, however this process ends.
    """
    log = settings.home / "log" / KEEPER_LOG
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    environ = {**os.environ, "BATOS_HOME": str(settings.home)}
    if kernels is not None:
        environ["BATOS_KEEPER_KERNELS"] = str(kernels)
    argv = [sys.executable, "-m", settings.console_keeper]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
    try:
        return subprocess.Popen(
            tethered(argv) if tied else argv,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=environ,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


async def until_ready(
    settings: ConsoleSettings, moving: Moving, process: subprocess.Popen[bytes] | None = None
) -> tuple[FleetPlace, ...]:
    """Return the places of the fleet once every one is ready.

    Args:
        settings: name the home, and how long it may take.
        moving: shows what is awaited.
        process: the keeper, where this command started it: its end is noticed.

    Raises:
        ConsoleError: the keeper ended, or it takes too long; with the last words of who is to blame.
    """
    awaited = ["keeper"]
    try:
        async with asyncio.timeout(settings.console_up_s):
            while (file := _fleet_file(settings.home)) is None:
                moving.show("waiting for the keeper to say where the fleet is")
                _check(process, settings.home)
                await asyncio.sleep(POLL_S)
            while True:
                try:
                    async with reach(settings) as fleet:
                        await _every_place(fleet, file.places, settings.home, moving, process, awaited)
                        return file.places
                except FleetUnreachable:
                    moving.show("waiting for the bus to answer")
                    _check(process, settings.home)
    except TimeoutError:
        blamed = awaited[0]
        _fail(
            settings.home,
            blamed,
            "fleet_not_ready",
            f"after {settings.console_up_s:g} s still waiting for {', '.join(awaited)}",
        )


async def _every_place(
    fleet: Fleet,
    places: Iterable[FleetPlace],
    home: Path,
    moving: Moving,
    process: subprocess.Popen[bytes] | None,
    awaited: list[str],
) -> None:
    """Return once every place is ready; keep in `awaited` the names of those that are not."""
    names = [place.name for place in places]
    looping_since: dict[str, float] = {}
    while True:
        _check(process, home)
        try:
            cards = (await roster(fleet, ROSTER_S)).vessels
        except RequestTimeout:
            moving.show("waiting for the bus to answer")
            continue
        waiting = unready(names, cards)
        if not waiting:
            return
        said = keeper_says(cards, keeper_pid(home))
        looping_since = {name: looping_since[name] for name in looping_since if name in waiting}
        for name in waiting:
            if f"{name} {LOOPING}" in said:
                looping_since.setdefault(name, moving.elapsed_s)
        waiting.update(dict.fromkeys(looping_since, LOOPING))
        awaited[:] = sorted(waiting, key=lambda name: name not in looping_since)
        if any(moving.elapsed_s - since > LOOPING_S for since in looping_since.values()):
            _fail(home, awaited[0], "vessel_fails", f"{', '.join(looping_since)}: fails at every start")
        words = ", ".join(f"{name} ({why})" for name, why in waiting.items())
        moving.show(f"{len(names) - len(waiting)} of {len(names)} vessels ready, waiting for {words}")
        await asyncio.sleep(POLL_S)


def keeper_says(cards: Iterable[VesselCard], pid: int | None) -> str:
    """Return what the keeper itself waits for; it knows of processes that never reached the bus."""
    return "; ".join(card.reason for card in cards if card.kind == "keeper" and card.pid == pid and not card.ready)


def unready(names: Iterable[str], cards: Iterable[VesselCard]) -> dict[str, str]:
    """Return which places are not filled by a vessel that is ready, and why."""
    newest: dict[str, VesselCard] = {}
    for card in sorted(cards, key=lambda card: (card.ready, card.started_at)):
        newest[card.name] = card
    found = {}
    for name in names:
        there = newest.get(name)
        if there is None:
            found[name] = "not on the bus yet"
        elif not there.ready:
            found[name] = there.reason or "not ready"
    return found


def _fleet_file(home: Path) -> FleetFile | None:
    """Return what the keeper that runs now has written; None as long as it has not."""
    try:
        file = FleetFile.load(home)
    except FleetNotFound:
        return None
    return file if file.keeper_pid and file.keeper_pid == keeper_pid(home) else None


def _check(process: subprocess.Popen[bytes] | None, home: Path) -> None:
    if process is not None and process.poll() is not None:
        _fail(home, "keeper", "keeper_ended", f"the keeper ended with exit code {process.returncode}")
    if process is None and keeper_pid(home) is None:
        _fail(home, "keeper", "keeper_ended", "the keeper has ended")


def _fail(home: Path, vessel: str, code: str, message: str) -> NoReturn:
    path = home / "log" / f"{vessel}.log"
    words = "".join(f"\n  | {line}" for line in last_lines(path))
    raise ConsoleError(code, f"{message}; the last words of {vessel} ({path}):{words or ' none'}")


def last_lines(path: Path, count: int = LAST_LINES) -> list[str]:
    """Return the last lines of a log; none where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


async def end_fleet(settings: ConsoleSettings, moving: Moving) -> bool:
    """End the fleet of a home and return once none of its processes is left; False where none ran.

    What has not ended within `console_down_s` is killed.

    Raises:
        ConsoleError: a process outlived even that.
    """
    pid = keeper_pid(settings.home)
    if pid is None:
        return False
    family = _Family(pid)
    family.terminate()
    deadline = moving.elapsed_s + settings.console_down_s
    killed = False
    while left := family.left():
        moving.show(f"ending {', '.join(left)}")
        if moving.elapsed_s > deadline:
            if killed:
                raise ConsoleError(
                    "not_ended", f"still there after SIGKILL: {', '.join(left)}", "see what holds them with `ps`"
                )
            moving.keep(f"killed, as it had not ended within {settings.console_down_s:g} s: {', '.join(left)}")
            family.kill()
            killed, deadline = True, moving.elapsed_s + KILL_S
        await asyncio.sleep(POLL_S)
    return True


class _Family:
    """The keeper and every process that comes from it, each known by its id and its birth."""

    def __init__(self, pid: int) -> None:
        self._members: dict[psutil.Process, str] = {}
        try:
            self._keeper: psutil.Process | None = psutil.Process(pid)
            self._members[self._keeper] = "keeper"
        except psutil.NoSuchProcess:
            self._keeper = None
        self._look()

    def terminate(self) -> None:
        """Ask the keeper to end the fleet."""
        if self._keeper is not None and _alive(self._keeper):
            self._keeper.terminate()

    def kill(self) -> None:
        """Kill everything."""
        for member in self._members:
            if _alive(member):
                member.kill()

    def left(self) -> list[str]:
        """Return the names of those that have not ended, the vessels before their children."""
        self._look()
        return list(dict.fromkeys(name for member, name in self._members.items() if _alive(member)))

    def _look(self) -> None:
        if self._keeper is None:
            return
        try:
            found = self._keeper.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for process in found:
            if process not in self._members:
                self._members[process] = _name(process)


def _name(process: psutil.Process) -> str:
    """Return the vessel's name that a process belongs to, else what the process is called."""
    try:
        name: str = process.environ().get("BATOS_NAME") or process.name()
    except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
        name = f"process {process.pid}"
    return name


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
