"""The message broker: routes by service name, balances over ready vessels, notices the dead, relays events."""

from __future__ import annotations

from batos.bus.broker import Broker
from batos.bus.errors import AddressUnusable, BusError
from batos.bus.exchange import Exchange
from batos.bus.fleet import Fleet

__all__ = ["AddressUnusable", "Broker", "BusError", "Exchange", "Fleet"]
