"""Makes the sockets of a process, all with the same limits, and with CURVE unless it is switched off."""

from __future__ import annotations

import zmq

from batos.protocol.envelope import MAX_MESSAGE_BYTES
from batos.protocol.ids import new_id
from batos.protocol.keys import KeyPair

WORK_HIGH_WATER_MARK = 10_000
"""Messages queued in the socket on a request channel. Requests in flight are bounded well below it; beyond it a peer
keeps what it sends (`Wire`) and the bus treats the receiver as not there, so that nothing is dropped unseen."""

EVENT_HIGH_WATER_MARK = 50_000
"""Events queued for one subscriber. The default of 1,000 dropped 71 % of a burst; events are some hundred bytes, so
this bounds a subscriber that has stopped reading to some ten megabytes."""

LINGER_MS = 500
"""How long a closing process tries to hand over what it has already said."""

ZAP_DOMAIN = b"batos"
"""Domain in which bound sockets ask whether a key is admitted; without somebody to answer they admit nobody."""

IO_THREADS = 2
WORK_IO = 0b01
SIDE_IO = 0b10
"""One thread of ZeroMQ's for work, one for everything else: a thread that encrypts a body of some ten megabytes does
nothing else for that long, and control and heartbeats must not wait for it."""

RECONNECT_MS = 50
RECONNECT_MAX_MS = 250
EVENT_PING_MS = 2_000
"""ZMTP pings on event sockets, which have no heartbeats of ours."""
EVENT_PING_TIMEOUT_MS = 6_000


class SocketMaker:
    """Makes connected or bound sockets in one context, and ends that context."""

    def __init__(self, keys: KeyPair, *, server_key: str = "", serve: bool = False) -> None:
        """Begin with no sockets.

        Args:
            keys: the process's own pair.
            server_key: public key of the bus (z85); empty switches CURVE off for connecting sockets.
            serve: bound sockets ask for CURVE with `keys` as the server's pair.
        """
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=IO_THREADS)
        self._keys = keys
        self._server_key = server_key
        self._serve = serve

    def dealer(self, address: str, *, work: bool) -> zmq.Socket[bytes]:
        """Make a DEALER that talks to the bus, with a routing id of its own: a fresh socket is a fresh route."""
        socket = self._connecting(zmq.DEALER, WORK_HIGH_WATER_MARK)
        socket.setsockopt(zmq.AFFINITY, WORK_IO if work else SIDE_IO)
        socket.setsockopt(zmq.ROUTING_ID, new_id().encode("ascii"))
        socket.connect(address)
        return socket

    def publisher(self, address: str) -> zmq.Socket[bytes]:
        """Make a publishing socket (XPUB, so that it hears when the bus listens) that refuses rather than drops.

        With IMMEDIATE it also hears when the connection ends; else it would go on to fill the queue of a dead one.
        """
        socket = self._connecting(zmq.XPUB, EVENT_HIGH_WATER_MARK)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._ping(socket)
        socket.connect(address)
        return socket

    def subscriber(self, address: str) -> zmq.Socket[bytes]:
        """Make a SUB without subscriptions."""
        socket = self._connecting(zmq.SUB, EVENT_HIGH_WATER_MARK)
        self._ping(socket)
        socket.connect(address)
        return socket

    def router(self, address: str, *, work: bool) -> zmq.Socket[bytes]:
        """Make a bound ROUTER that says so when a receiver is not there."""
        socket = self._binding(zmq.ROUTER, WORK_HIGH_WATER_MARK)
        socket.setsockopt(zmq.AFFINITY, WORK_IO if work else SIDE_IO)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        return self._bind(socket, address)

    def relay_in(self, address: str) -> zmq.Socket[bytes]:
        """Make the bound XSUB that takes every event of every publisher."""
        socket = self._binding(zmq.XSUB, EVENT_HIGH_WATER_MARK)
        self._ping(socket)
        return self._bind(socket, address)

    def relay_out(self, address: str) -> zmq.Socket[bytes]:
        """Make the bound XPUB that hears of every subscription, repeated ones too."""
        socket = self._binding(zmq.XPUB, EVENT_HIGH_WATER_MARK)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._ping(socket)
        return self._bind(socket, address)

    def _connecting(self, kind: int, high_water_mark: int) -> zmq.Socket[bytes]:
        socket = self._socket(kind, high_water_mark)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        if self._server_key:
            socket.curve_publickey = self._keys.public.encode("ascii")
            socket.curve_secretkey = self._keys.secret.encode("ascii")
            socket.curve_serverkey = self._server_key.encode("ascii")
        return socket

    def _binding(self, kind: int, high_water_mark: int) -> zmq.Socket[bytes]:
        socket = self._socket(kind, high_water_mark)
        if self._serve:
            socket.curve_publickey = self._keys.public.encode("ascii")
            socket.curve_secretkey = self._keys.secret.encode("ascii")
            socket.curve_server = True
            socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return socket

    def _socket(self, kind: int, high_water_mark: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        socket.setsockopt(zmq.AFFINITY, SIDE_IO)
        socket.setsockopt(zmq.SNDHWM, high_water_mark)
        socket.setsockopt(zmq.RCVHWM, high_water_mark)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        return socket

    @staticmethod
    def _bind(socket: zmq.Socket[bytes], address: str) -> zmq.Socket[bytes]:
        try:
            socket.bind(address)
        except zmq.ZMQError:
            socket.close(linger=0)
            raise
        return socket

    @staticmethod
    def _ping(socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.HEARTBEAT_IVL, EVENT_PING_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, EVENT_PING_TIMEOUT_MS)
