"""What persona-inference counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from batos.protocol import Usage

DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
"""Bounds in seconds."""
FIRST_TEXT_BUCKETS = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60)
BASE = "base"


class Figures:
    """The vessel's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all of them."""
        self.requests = Counter(
            "batos_inference_requests",
            "Infer requests by outcome (stop, length, an error's code) and adapter (base, a loaded one's name, other)",
            ("engine", "outcome", "adapter"),
            registry=registry,
        )
        self.probes = Counter(
            "batos_inference_probes", "Readiness probes by outcome", ("engine", "outcome"), registry=registry
        )
        self.tokens = Counter(
            "batos_inference_tokens", "Tokens by the engine's count", ("engine", "kind"), registry=registry
        )
        self.duration = Histogram(
            "batos_inference_duration_seconds",
            "From the request's arrival to its answer",
            ("engine",),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.first_text = Histogram(
            "batos_inference_first_text_seconds",
            "From the beginning of decoding to the first text",
            ("engine",),
            buckets=FIRST_TEXT_BUCKETS,
            registry=registry,
        )
        self.queue = Gauge("batos_inference_queue_requests", "Requests that wait for a slot", registry=registry)
        self.running = Gauge("batos_inference_running_requests", "Requests being decoded", registry=registry)
        self.adapters = Gauge("batos_inference_loaded_adapters", "Adapters loaded in the engine", registry=registry)
        self.engine_up = Gauge("batos_inference_engine_up", "1 while the engine answers", registry=registry)
        self.engine_own = Gauge(
            "batos_inference_engine_figure", "The engine's own figures, by its own names", ("name",), registry=registry
        )
        self.engine_losses = Counter(
            "batos_inference_engine_losses", "Times that a running engine was lost", registry=registry
        )

    def answered(self, engine: str, outcome: str, adapter: str, usage: Usage, duration_s: float) -> None:
        """Count an answer."""
        self.requests.labels(engine, outcome, adapter or BASE).inc()
        self.tokens.labels(engine, "prompt").inc(usage.prompt_tokens)
        self.tokens.labels(engine, "completion").inc(usage.completion_tokens)
        self.duration.labels(engine).observe(duration_s)
