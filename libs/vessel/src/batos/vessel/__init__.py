"""The life of a BAT OS process: settings, fleet file, health pages, readiness, drain."""

from __future__ import annotations

from batos.vessel.errors import FleetNotFound, FleetRunning, SettingsError, StartFailed, VesselError
from batos.vessel.fleet import FleetFile, FleetLock, FleetPlace, keeper_pid
from batos.vessel.health import HealthPages, HealthServer, HealthState
from batos.vessel.logs import configure_logging
from batos.vessel.ports import free_ports
from batos.vessel.run import EXIT_DONE, EXIT_FAILED, EXIT_SETTINGS, PRIVATE_UMASK, live, run, say_failure
from batos.vessel.settings import CURVE_OFF, VesselSettings, load_settings, without_password
from batos.vessel.tether import tethered
from batos.vessel.vessel import Vessel

__all__ = [
    "CURVE_OFF",
    "EXIT_DONE",
    "EXIT_FAILED",
    "EXIT_SETTINGS",
    "PRIVATE_UMASK",
    "FleetFile",
    "FleetLock",
    "FleetNotFound",
    "FleetPlace",
    "FleetRunning",
    "HealthPages",
    "HealthServer",
    "HealthState",
    "SettingsError",
    "StartFailed",
    "Vessel",
    "VesselError",
    "VesselSettings",
    "configure_logging",
    "free_ports",
    "keeper_pid",
    "live",
    "load_settings",
    "run",
    "say_failure",
    "tethered",
    "without_password",
]
