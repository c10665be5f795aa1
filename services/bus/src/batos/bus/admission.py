"""Who may speak to the bus: whoever proves to have the secret of a public key that lies in the keys folder."""

from __future__ import annotations

import logging
import time

import zmq
from zmq.auth.asyncio import AsyncioAuthenticator

from batos.protocol import ZAP_DOMAIN, KeyRing

FRESH_S = 1.0
"""A folder that changed less than this before it was read is read again: two changes may carry the same time."""

_log = logging.getLogger(__name__)


class Admission:
    """Answers ZeroMQ's question whether a key is known; reads the folder again when it has changed."""

    def __init__(self, ring: KeyRing, *own: str) -> None:
        """Begin with the keys that lie there now.

        Args:
            ring: the folder.
            own: public keys that are admitted without a file.
        """
        self._ring = ring
        self._own = frozenset(own)
        self._known: set[str] = set()
        self._read_at = 0.0
        self._changed_at = -1.0
        self.refused = 0

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether this key (z85) is admitted. The name is what pyzmq calls."""
        text = key.decode("ascii", errors="replace")
        if text not in self._known:
            self._read()
        admitted = text in self._known or text in self._own
        if not admitted:
            self.refused += 1
            _log.warning("refused unknown key %s… on %s", text[:8], domain)
        return admitted

    def _read(self) -> None:
        """Read the folder unless nothing can have changed."""
        try:
            changed_at = self._ring.folder.stat().st_mtime
        except FileNotFoundError:
            self._known = set()
            return
        if changed_at != self._changed_at or self._read_at - changed_at < FRESH_S:
            self._read_at = time.time()
            self._changed_at = changed_at
            self._known = self._ring.known()


class Gatekeeper:
    """Runs the authentication for all sockets of one context. It must run before any of them is bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admission: Admission) -> None:
        self._authenticator = AsyncioAuthenticator(context)
        self._admission = admission

    def start(self) -> None:
        """Begin to answer."""
        self._authenticator.start()
        self._authenticator.configure_curve_callback(domain=ZAP_DOMAIN.decode(), credentials_provider=self._admission)

    def stop(self) -> None:
        """Answer no more."""
        self._authenticator.stop()
