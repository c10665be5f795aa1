"""The vessel that knows the fleet and rolls it; in `batos.supervisor.keeper`, the keeper of local processes."""

from __future__ import annotations

from batos.supervisor.errors import PlaceError, RollError, RosterUnknown, SupervisorError
from batos.supervisor.place import PlaceSpec
from batos.supervisor.roll import RollFleet, RollLimits, RollOut
from batos.supervisor.settings import KeeperSettings, SupervisorSettings
from batos.supervisor.vessel import SupervisorVessel

__all__ = [
    "KeeperSettings",
    "PlaceError",
    "PlaceSpec",
    "RollError",
    "RollFleet",
    "RollLimits",
    "RollOut",
    "RosterUnknown",
    "SupervisorError",
    "SupervisorSettings",
    "SupervisorVessel",
]
