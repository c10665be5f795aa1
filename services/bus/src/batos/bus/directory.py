"""Who is on a channel: by route, by incarnation, by service."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from batos.bus.peers import PeerState
from batos.protocol import Hello


class Directory:
    """The peers of one channel."""

    def __init__(self) -> None:
        self._routes: dict[bytes, PeerState] = {}
        self._sessions: dict[str, PeerState] = {}
        self._providers: dict[str, dict[str, PeerState]] = {}
        self._families: set[str] = {"bus", "vessel"}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[PeerState]:
        return iter(list(self._sessions.values()))

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    def at(self, route: bytes) -> PeerState | None:
        """Return who speaks from a route."""
        return self._routes.get(route)

    def get(self, session: str | None) -> PeerState | None:
        """Return the peer of an incarnation."""
        return None if session is None else self._sessions.get(session)

    def providers(self, service: str) -> Collection[PeerState]:
        """Return who serves a service, ready or not."""
        return self._providers.get(service, {}).values()

    def family(self, service: str) -> str:
        """Return what a service is counted under (`kernel` for `kernel/kernel-1`).

        Names that nobody ever served share one, so that invented ones cannot fill the metrics.
        """
        family = service.partition("/")[0]
        return family if family in self._families else "unknown"

    def welcome(self, route: bytes, hello: Hello, mono: float) -> PeerState:
        """Enter a peer, or bring what is known of it up to date with its Hello."""
        session = hello.card.incarnation
        peer = self._sessions.get(session)
        if peer is None:
            peer = self._sessions[session] = PeerState(route, hello.card, (), 1, mono)
        else:
            self._routes.pop(peer.route, None)
            self._unlist(peer)
        peer.route, peer.card, peer.services = route, hello.card, hello.services
        peer.capacity = max(1, hello.capacity)
        peer.seen_at, peer.unreachable_since, peer.leaving = mono, None, False
        self._routes[route] = peer
        for service in hello.services:
            self._providers.setdefault(service, {})[session] = peer
            self._families.add(service.partition("/")[0])
        return peer

    def remove(self, peer: PeerState) -> None:
        """Forget a peer."""
        del self._sessions[peer.session]
        self._routes.pop(peer.route, None)
        self._unlist(peer)

    def _unlist(self, peer: PeerState) -> None:
        for service in peer.services:
            providers = self._providers.get(service, {})
            providers.pop(peer.session, None)
            if not providers:
                self._providers.pop(service, None)
