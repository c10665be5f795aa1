"""What the forge counts."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from batos.mind.orders import Order, State


class ForgeMetrics:
    """The forge's own figures on its /metrics page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.orders = Gauge(
            "batos_forge_orders", "Training orders in the image, by state", ["state"], registry=registry
        )
        self.training = Gauge("batos_forge_training", "1 while an order is worked on", registry=registry)
        self.training_seconds = Counter(
            "batos_forge_training_seconds", "Time spent in training programs that came to their end", registry=registry
        )
        self.loss = Gauge(
            "batos_forge_loss",
            "Last losses: of a training step, held out for base and candidate",
            ["of"],
            registry=registry,
        )
        self.refused_files = Counter(
            "batos_forge_refused_files", "Files in the order folder that were no orders", registry=registry
        )
        self.restarts = Counter(
            "batos_forge_restarts", "Orders tried again because the image was away", registry=registry
        )

    def count(self, orders: Iterable[Order]) -> None:
        """Show how many orders are in each state."""
        tally = Tally(order.state for order in orders)
        for state in get_args(State):
            self.orders.labels(state).set(tally[state])
