"""Fixtures of the integration tests, each part's from its own file."""

from __future__ import annotations

from integration.bus_fixtures import bus, peers, stopped_bus, workers

__all__ = ["bus", "peers", "stopped_bus", "workers"]
