"""Makes a home ready for its fleet: addresses, keys, `fleet.json`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from batos.protocol import BusAddresses
from batos.supervisor.addresses import choose_bus, image_address, image_socket
from batos.supervisor.place import PlaceSpec
from batos.supervisor.places import is_image_local
from batos.supervisor.settings import KeeperSettings
from batos.vessel import CURVE_OFF, FleetFile, FleetNotFound, FleetPlace

BUS_NAME = "bus"
CONSOLE_NAME = "console"


def prepare(settings: KeeperSettings, places: Iterable[PlaceSpec]) -> KeeperSettings:
    """Choose addresses, make keys, write `fleet.json`; return the settings with what was chosen.

    Raises:
        SupervisorError: an address is occupied.
        VesselError: `fleet.json` cannot be read or written.
    """
    home = settings.home
    places = list(places)
    ring = settings.key_ring()
    public = ring.ensure(BUS_NAME).public
    for name in (settings.name, CONSOLE_NAME, *(place.name for place in places)):
        ring.ensure(name)
    try:
        before: BusAddresses | None = FleetFile.load(home).bus
    except FleetNotFound:
        before = None
    key = "" if settings.bus_server_key == CURVE_OFF else settings.bus_server_key or public
    given = BusAddresses(
        work=settings.bus_work,
        control=settings.bus_control,
        publish=settings.bus_publish,
        subscribe=settings.bus_subscribe,
        server_key=key,
    )
    bus = choose_bus(given, before)
    socket_path = image_socket(home)
    uri = settings.image_uri or image_address(socket_path, home)
    FleetFile(
        bus=bus,
        image_uri=uri,
        image_socket=str(socket_path) if is_image_local(settings.image_uri) else "",
        keeper_pid=os.getpid(),
        started_at=time.time(),
        places=tuple(FleetPlace(name=place.name, kind=place.kind) for place in places),
    ).save(home)
    return settings.model_copy(
        update={
            "image_uri": uri,
            "bus_work": bus.work,
            "bus_control": bus.control,
            "bus_publish": bus.publish,
            "bus_subscribe": bus.subscribe,
            "bus_server_key": key or CURVE_OFF,
        }
    )
