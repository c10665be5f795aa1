"""What the bus's /metrics page tells."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batos.bus.broker import Broker


class BusCollector(Collector):
    """Reads the broker's own counts when somebody looks, so that counting costs the bus next to nothing."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the bus."""
        requests = CounterMetricFamily(
            "batos_bus_requests", "Requests by how they ended", labels=["channel", "service", "outcome"]
        )
        queue = GaugeMetricFamily(
            "batos_bus_queue_length", "Requests that wait for a free vessel", labels=["channel", "service"]
        )
        in_flight = GaugeMetricFamily("batos_bus_in_flight", "Requests that a vessel works on", labels=["channel"])
        peers = GaugeMetricFamily("batos_bus_peers", "Peers that are there", labels=["channel"])
        undecodable = CounterMetricFamily("batos_bus_undecodable", "Messages that were none", labels=["channel"])
        for channel, exchange in self._broker.exchanges.items():
            for (service, outcome), count in exchange.outcomes.copy().items():
                requests.add_metric([channel, service, outcome], count)
            for service, length in exchange.waiting().items():
                queue.add_metric([channel, service], length)
            in_flight.add_metric([channel], exchange.in_flight)
            peers.add_metric([channel], exchange.peers)
            undecodable.add_metric([channel], exchange.undecodable)
        yield from (requests, queue, in_flight, peers, undecodable)
        yield CounterMetricFamily("batos_bus_events_relayed", "Events handed on", value=self._broker.relayed)
        yield CounterMetricFamily(
            "batos_bus_refused_keys", "Connections refused for an unknown key", value=self._broker.admission.refused
        )
