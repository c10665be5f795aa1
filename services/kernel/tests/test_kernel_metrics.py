"""What a kernel counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from batos.kernel.metrics import KernelMetrics


def test_what_has_not_happened_yet_counts_zero() -> None:
    """So that a rate sees the first failure, too."""
    registry = CollectorRegistry()
    KernelMetrics(registry)
    for name, label, values in (
        ("batos_kernel_missions_total", "outcome", ("COMPLETE", "FAILED", "fenced", "left")),
        ("batos_kernel_prompts_total", "result", ("answered", "failed")),
        ("batos_kernel_tokens_total", "kind", ("prompt", "completion")),
        ("batos_kernel_bindings_total", "act", ("promote", "rollback")),
        ("batos_kernel_methods_stopped_total", "rule", ("tampering", "time", "worker")),
        ("batos_kernel_missions_accepted_total", "duplicate", ("true", "false")),
    ):
        assert [registry.get_sample_value(name, {label: value}) for value in values] == [0.0] * len(values)
