"""What a peer counts is on its vessel's page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from batos.protocol import PeerStats
from batos.vessel.peer_metrics import PeerCollector


def test_counts_are_read_when_the_page_is_asked_for() -> None:
    """Every field of the peer's counts is a counter, and shows what the peer has counted by now."""
    stats = PeerStats()
    registry = CollectorRegistry()
    registry.register(PeerCollector(stats))
    stats.undecodable += 2
    page = generate_latest(registry).decode()
    assert "batos_peer_undecodable_total 2.0" in page
    assert "batos_peer_requests_total 0.0" in page
