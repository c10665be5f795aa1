"""One ZeroMQ socket on an asyncio loop, emptied in batches.

`zmq.asyncio` makes a future for every message; here the loop watches the socket's descriptor and takes what is there,
up to a batch a turn, which carries several times the rate. The descriptor is edge-triggered (it only says that
something changed), so the socket is looked at again after everything that may have swallowed an edge.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import zmq

BATCH = 128
"""Messages taken in one turn of the loop; timers and other sockets run between two batches."""

OUTBOX_LIMIT = 20_000
"""Messages kept while the socket's own queue is full; more are refused."""


class Wire:
    """Owns one socket: hands what arrives to a callback, keeps what cannot be sent at once, closes it."""

    def __init__(self, socket: zmq.Socket[bytes], on_frames: Callable[[list[bytes]], None]) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._outbox: deque[Sequence[bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.Handle | None = None
        self._descriptor = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._descriptor, self._ready)
        self._look_again()

    @property
    def closed(self) -> bool:
        """Whether the socket is gone."""
        return self._socket.closed

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send, or keep for later while the socket's queue is full. False: closed, or too much is kept already."""
        if self._socket.closed:
            return False
        if not self._outbox:
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                pass
            else:
                self._look_again()
                return True
        if len(self._outbox) >= OUTBOX_LIMIT:
            return False
        self._outbox.append(frames)
        self._look_again()
        return True

    def send_now(self, frames: Sequence[bytes]) -> bool:
        """Send only if it can be done at once (ROUTER: the peer is connected and its queue has room)."""
        if self._socket.closed:
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        self._look_again()
        return True

    def subscribe(self, topic: bytes) -> None:
        """Ask for events whose topic begins so (SUB sockets)."""
        self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._look_again()

    def unsubscribe(self, topic: bytes) -> None:
        """Ask no more for what `subscribe` asked for."""
        self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
        self._look_again()

    def close(self, linger_ms: int) -> None:
        """Let the loop forget the socket and close it; what is not sent yet is tried for so long."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._descriptor)
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._outbox.clear()
        self._socket.close(linger=linger_ms)

    def _look_again(self) -> None:
        """Look at the socket once more in the next turn of the loop."""
        if self._look is None:
            self._look = self._loop.call_soon(self._ready)

    def _ready(self) -> None:
        """Take a batch of what is there, send what was kept."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        socket = self._socket
        taken = 0
        drained = False
        try:
            while taken < BATCH and not socket.closed:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    drained = True
                    break
                taken += 1
                self._on_frames(frames)
        finally:
            if not socket.closed:
                self._flush()
                if not drained or socket.poll(0, zmq.POLLIN):
                    self._look_again()

    def _flush(self) -> None:
        """Send what was kept, oldest first, as far as the socket takes it."""
        while self._outbox:
            try:
                self._socket.send_multipart(self._outbox[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._outbox.popleft()
