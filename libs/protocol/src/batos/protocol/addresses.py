"""Where the bus is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BusAddresses:
    """The four sockets of a bus and the key that proves it is the right one.

    Attributes:
        work: ZeroMQ endpoint of the ROUTER for requests and replies, for example `tcp://127.0.0.1:5570`.
        control: endpoint of the ROUTER for drain, ping and stop.
        publish: endpoint of the XSUB that publishers connect to.
        subscribe: endpoint of the XPUB that subscribers connect to.
        server_key: the bus's public key (z85, 40 characters); empty switches CURVE off, for tests only.
    """

    work: str
    control: str
    publish: str
    subscribe: str
    server_key: str
