"""`batos doctor`: looks at a home and its fleet, with or without one that runs."""

from __future__ import annotations

import asyncio
import time

from batos.console import doctor_fleet, doctor_home
from batos.console.attended import IMAGE_KIND
from batos.console.care import NOT_RUNNING, SERVICE, is_in_database
from batos.console.database_care import DatabaseCare
from batos.console.doctor_fleet import KINDS, Bounds
from batos.console.errors import ConsoleError, FleetUnreachable, explained
from batos.console.findings import Finding, note, wrong
from batos.console.fleet import Fleet, roster
from batos.console.image_tool import run_image_tool
from batos.console.runner import Work
from batos.console.settings import ConsoleSettings
from batos.protocol import ImageLook, ImageLooked, ImagePins, ImagePinsGet, ProtocolError
from batos.vessel import FleetFile, VesselError

IMAGE_FOLDER = "image"
WHERE_CONTAINERS_ARE_SEEN = "docker compose ps --all, or kubectl -n batos get pods"


async def examine(on: Work, bounds: Bounds) -> list[Finding]:
    """Look at everything; nothing is changed."""
    found = await asyncio.to_thread(_of_the_home, on.settings, bounds)
    found += await _of_the_fleet(on, bounds)
    if not _is_elsewhere(on.settings):
        found += await asyncio.to_thread(lambda: list(doctor_home.log_segments(on.settings)))
    return found


def _is_elsewhere(settings: ConsoleSettings) -> bool:
    """Whether the fleet's vessels have homes of their own, as containers have."""
    return bool(settings.bus_work)


def _of_the_home(settings: ConsoleSettings, bounds: Bounds) -> list[Finding]:
    if _is_elsewhere(settings):
        return [*doctor_home.keys(settings)]
    checks = (doctor_home.home(settings), doctor_home.keys(settings), doctor_home.environments(settings))
    return [*(finding for check in checks for finding in check), *doctor_home.home_disk(settings, bounds.free_bytes)]


async def _of_the_fleet(on: Work, bounds: Bounds) -> list[Finding]:
    try:
        async with on.fleet() as fleet:
            return await _asked(fleet, on.settings, bounds)
    except FleetUnreachable as error:
        if error.code == NOT_RUNNING:
            unserved = await _of_unserved_files(on.settings, bounds)
            return [note("fleet", f"none runs in {on.settings.home}", "batos up"), *unserved]
        return [_failed("fleet", error)]
    except (ProtocolError, VesselError) as error:  # keys or addresses that cannot be used
        return [_failed("fleet", error)]


async def _asked(fleet: Fleet, settings: ConsoleSettings, bounds: Bounds) -> list[Finding]:
    """Ask a fleet that runs; what one of it cannot answer is a finding."""
    try:
        there = await roster(fleet, settings.console_request_s)
    except ProtocolError as error:
        return [_failed("fleet", error)]
    places = _places(settings)
    kinds = () if places else _kinds(settings)
    helps = WHERE_CONTAINERS_ARE_SEEN if _is_elsewhere(settings) else "batos status"
    found = list(doctor_fleet.vessels(there, places, kinds, helps))
    if is_in_database(settings):  # an image vessel that runs all the same serves another image
        return [*found, *await _in_database(settings, bounds)]
    if not any(card.kind == IMAGE_KIND for card in there.vessels):
        if IMAGE_KIND not in (*places, *kinds):  # else it was said already that it is missing
            found.append(note("image", "it is kept elsewhere, and cared for there"))
        return found
    try:
        looked = await fleet.request(SERVICE, ImageLook(), ImageLooked, timeout_s=settings.console_request_s)
    except ProtocolError as error:
        return [*found, _failed("image", error)]
    return [*found, *doctor_fleet.image(looked, settings, bounds, time.time())]


async def _in_database(settings: ConsoleSettings, bounds: Bounds) -> list[Finding]:
    found = [note("image", "it is kept in PostgreSQL, whose own tools make its backups")]
    try:
        pinned = await DatabaseCare().request(SERVICE, ImagePinsGet(), ImagePins, timeout_s=settings.console_request_s)
    except (ConsoleError, VesselError) as error:
        return [*found, _failed("image", error)]
    return [*found, *doctor_fleet.pins(pinned.pins, bounds.pin_days, time.time())]


async def _of_unserved_files(settings: ConsoleSettings, bounds: Bounds) -> list[Finding]:
    if is_in_database(settings):
        return await _in_database(settings, bounds)
    if not (settings.home / IMAGE_FOLDER).is_dir():
        return []
    try:
        looked = await run_image_tool(["look", "--home", str(settings.home)], ImageLooked, lambda _event: None)
    except (ConsoleError, VesselError) as error:
        return [_failed("image", error)]
    return list(doctor_fleet.image(looked, settings, bounds, time.time()))


def _places(settings: ConsoleSettings) -> list[str]:
    """Return the names of all vessels that the fleet of this home should have; none where it is elsewhere."""
    if _is_elsewhere(settings):
        return []
    try:
        return [place.name for place in FleetFile.load(settings.home).places]
    except VesselError:
        return []


def _kinds(settings: ConsoleSettings) -> tuple[str, ...]:
    """Return of which kinds every fleet has a vessel, where nobody wrote down which vessels it should have."""
    return KINDS if is_in_database(settings) else (IMAGE_KIND, *KINDS)


def _failed(about: str, error: Exception) -> Finding:
    said = explained(error)
    return wrong(about, said.message, said.hint or "batos status") if said is not None else wrong(about, str(error))
