"""What the bus knows of one peer on one channel, and which of several it gives a request to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from batos.protocol import VesselCard


@dataclass(slots=True, eq=False)
class PeerState:
    """One incarnation on one channel.

    Attributes:
        route: routing id of its socket.
        card: what it last said of itself.
        services: what it serves on this channel.
        capacity: requests that it works on at a time.
        seen_at: monotonic seconds when it was last heard of.
        in_flight: ids of the requests it has, each with the monotonic second after which nobody waits for it.
        leaving: it said Goodbye: nothing new.
        unreachable_since: monotonic seconds when a frame could not be handed to it; None while it can.
        turn: number of the last dispatch to it, so that equals take turns.
    """

    route: bytes
    card: VesselCard
    services: tuple[str, ...]
    capacity: int
    seen_at: float
    in_flight: dict[str, float] = field(default_factory=dict)
    leaving: bool = False
    unreachable_since: float | None = None
    turn: int = 0

    @property
    def session(self) -> str:
        """Its incarnation."""
        return self.card.incarnation

    @property
    def free(self) -> bool:
        """Whether it can take one more request."""
        return len(self.in_flight) < self.capacity

    def owns(self, service: str) -> bool:
        """Whether this service is this very vessel (`kernel/kernel-1`, `vessel/<incarnation>`)."""
        _, slash, name = service.rpartition("/")
        return bool(slash) and name in (self.card.name, self.card.incarnation)

    def takes(self, service: str) -> bool:
        """Whether a request to this service may go to it at all, free or not."""
        if self.leaving or self.unreachable_since is not None:
            return False
        return self.owns(service) or (self.card.ready and not self.card.draining)


def choose(service: str, providers: Iterable[PeerState]) -> PeerState | None:
    """Return who gets the next request to a service, or None while it must wait.

    A shared service goes to the least loaded ready peer that is free. A vessel's own service goes to that vessel
    whether it is ready or not; of two incarnations of one name to a ready one, then to the newer.
    """
    best: PeerState | None = None
    best_load = 0.0
    for peer in providers:
        if not peer.takes(service):
            continue
        if peer.owns(service):
            if best is None or (peer.card.ready, peer.card.started_at) > (best.card.ready, best.card.started_at):
                best = peer
            continue
        if not peer.free:
            continue
        load = len(peer.in_flight) / peer.capacity
        if best is None or load < best_load or (load == best_load and peer.turn < best.turn):
            best, best_load = peer, load
    return best if best is not None and best.free else None
