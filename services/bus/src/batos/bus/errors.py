"""What can keep the bus from starting."""

from __future__ import annotations

import zmq


class BusError(Exception):
    """The root of the bus's errors."""


class AddressUnusable(BusError):  # noqa: N818 - it names what the address is
    """One of the four addresses cannot be bound.

    Attributes:
        which: work, control, publish or subscribe.
        address: the endpoint.
    """

    def __init__(self, which: str, address: str, error: zmq.ZMQError) -> None:
        reason = "is in use by another process" if error.errno == zmq.EADDRINUSE else f"cannot be bound ({error})"
        super().__init__(
            f"{which} address {address} {reason}: stop what holds it, or set BATOS_BUS_{which.upper()} "
            f"to a free address for the whole fleet"
        )
        self.which = which
        self.address = address
