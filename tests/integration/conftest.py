"""Fixtures of the integration tests, each part's from its own file."""

from __future__ import annotations

from integration.bus_fixtures import bus, peers, stopped_bus, workers
from integration.console_fixtures import batos, fleet
from integration.forge_fixtures import workshop
from integration.image_fixtures import awakened, care, server, socket
from integration.kernel_fixtures import mind
from integration.postgres_fixtures import postgres, postgres_cluster, postgres_pair, postgres_uri

__all__ = [
    "awakened",
    "batos",
    "bus",
    "care",
    "fleet",
    "mind",
    "peers",
    "postgres",
    "postgres_cluster",
    "postgres_pair",
    "postgres_uri",
    "server",
    "socket",
    "stopped_bus",
    "workers",
    "workshop",
]
