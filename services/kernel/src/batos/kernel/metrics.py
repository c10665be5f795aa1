"""What a kernel counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from batos.uvm.sandbox_errors import RULES

_CYCLE_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_PROMPT_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class KernelMetrics:
    """The kernel's figures, `batos_kernel_…`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.accepted = Counter(
            "batos_kernel_missions_accepted", "Missions made durable for who asked", ["duplicate"], registry=registry
        )
        self.missions = Counter(
            "batos_kernel_missions", "Missions that ended here, by outcome", ["outcome"], registry=registry
        )
        self.batches = Counter("batos_kernel_intake_commits", "Transactions of the intake", registry=registry)
        self.cycle_duration = Histogram(
            "batos_kernel_cycle_duration_seconds", "From claim to outcome", buckets=_CYCLE_BUCKETS_S, registry=registry
        )
        self.running = Gauge("batos_kernel_running_cycles", "Cycles at work", registry=registry)
        self.waiting = Gauge(
            "batos_kernel_waiting_missions", "Missions that no kernel runs, at the last look", registry=registry
        )
        self.waiters = Gauge("batos_kernel_waiters", "Requests that wait for a mission to end", registry=registry)
        self.adopted = Counter(
            "batos_kernel_missions_adopted", "Missions taken over from a lost kernel", registry=registry
        )
        self.released = Counter(
            "batos_kernel_missions_released", "Missions given back unfinished, by reason", ["reason"], registry=registry
        )
        self.log_records = Counter(
            "batos_kernel_log_records", "Records of the metacognition log", ["event_type"], registry=registry
        )
        self.log_faulty = Gauge(
            "batos_kernel_log_faulty", "1 while the metacognition log cannot be written", registry=registry
        )
        self.log_torn = Counter(
            "batos_kernel_log_torn_lines", "Torn last lines of the log that were cut", registry=registry
        )
        self.prompts = Counter("batos_kernel_prompts", "Prompts asked, by result", ["result"], registry=registry)
        self.prompt_duration = Histogram(
            "batos_kernel_prompt_duration_seconds",
            "From a batch of prompts to its last answer",
            buckets=_PROMPT_BUCKETS_S,
            registry=registry,
        )
        self.tokens = Counter("batos_kernel_tokens", "Tokens of prompts and answers", ["kind"], registry=registry)
        self.bindings = Counter("batos_kernel_bindings", "Adapters bound, by act", ["act"], registry=registry)
        self.stopped = Counter(
            "batos_kernel_methods_stopped",
            "Methods of cycles that the sandbox stopped or refused, by rule",
            ["rule"],
            registry=registry,
        )
        for counter, values in (
            (self.accepted, ("false", "true")),
            (self.missions, ("COMPLETE", "FAILED", "fenced", "left")),
            (self.prompts, ("answered", "failed")),
            (self.tokens, ("prompt", "completion")),
            (self.bindings, ("promote", "rollback")),
            (self.stopped, sorted(RULES)),
        ):
            # A series that begins with its first event hides that event from every rate.
            for value in values:
                counter.labels(value)
