"""Fixtures of the integration tests, each part's from its own file."""

from __future__ import annotations

from integration.bus_fixtures import bus, peers, stopped_bus, workers
from integration.console_fixtures import batos, fleet
from integration.forge_fixtures import workshop
from integration.kernel_fixtures import mind

__all__ = ["batos", "bus", "fleet", "mind", "peers", "stopped_bus", "workers", "workshop"]
