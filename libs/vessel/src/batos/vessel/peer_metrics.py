"""What a vessel's peer counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from batos.protocol import PeerStats


class PeerCollector(Collector):
    """One counter for each field of `PeerStats`, `batos_peer_<field>_total`; read when the page is asked for."""

    def __init__(self, stats: PeerStats) -> None:
        """Begin to show a peer's counts.

        Args:
            stats: the counts, which the peer goes on writing in its own thread.
        """
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Return the counts as they stand."""
        for field in fields(PeerStats):
            name = field.name
            words = f"{name.replace('_', ' ')} of this vessel's peer on the bus, since it started"
            yield CounterMetricFamily(f"batos_peer_{name}", words, value=getattr(self._stats, name))
