"""The bus as a vessel: its broker from start to stop."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from batos.bus.broker import Broker
from batos.bus.errors import AddressUnusable
from batos.bus.metrics import BusCollector
from batos.bus.settings import BusSettings
from batos.protocol import Drain
from batos.vessel import StartFailed, Vessel

REPLY_GRACE_S = 0.1
"""How long the answer to a `Drain` may take to leave before the bus ends."""


class BusVessel(Vessel[BusSettings]):
    """Routes until it is told to end. It has nothing to drain: who waits for an answer asks its successor again."""

    kind: ClassVar[str] = "bus"
    uses_bus: ClassVar[bool] = False
    distribution: ClassVar[str] = "batos-bus"

    def __init__(self, settings: BusSettings) -> None:
        super().__init__(settings)
        self._broker: Broker | None = None

    async def start(self) -> None:
        """Bind the four addresses."""
        addresses = self.settings.bus_addresses()
        for which in ("work", "control", "publish", "subscribe"):
            address = getattr(self.settings, f"bus_{which}")
            if address.rpartition(":")[2] in {"0", "*"}:
                raise StartFailed(
                    "address_unusable",
                    f"{which} address {address} names no port, so that no vessel could find it after a restart",
                    f"set BATOS_BUS_{which.upper()} to an address with a port for the whole fleet",
                )
        ring = self.settings.key_ring()
        keys = self.settings.key_pair()
        if addresses.server_key and addresses.server_key != keys.public:
            raise StartFailed(
                "server_key",
                f"BATOS_BUS_SERVER_KEY is {addresses.server_key}, but the key in {ring.folder} is {keys.public}",
                "set it to the key of this folder, or bring the folder that it belongs to",
            )
        broker = Broker(
            addresses,
            keys,
            ring.folder,
            self.card,
            heartbeat_s=self.settings.heartbeat_s,
            on_drain=self._drain_asked,
        )
        try:
            await broker.start()
        except AddressUnusable as error:
            raise StartFailed("address_unusable", str(error)) from error
        self._broker = broker
        self.registry.register(BusCollector(broker))
        self.set_ready(True)

    async def stop(self) -> None:
        """Let go of the sockets."""
        if self._broker is not None:
            await self._broker.close()
            self._broker = None

    def _drain_asked(self, message: Drain) -> None:
        asyncio.get_running_loop().call_later(REPLY_GRACE_S, self.begin_drain, message.timeout_s)
