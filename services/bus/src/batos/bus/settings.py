"""Settings of the bus: the four addresses that it binds, and what every vessel has."""

from __future__ import annotations

from typing import ClassVar

from batos.vessel import VesselSettings


class BusSettings(VesselSettings):
    """The addresses (`bus_work` and its siblings) are every vessel's settings; the bus binds what others connect to."""

    service: ClassVar[str] = "bus"
