"""What the curator counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class CuratorMetrics:
    """The curator's own figures on its /metrics page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter("batos_curator_records", "Log records taken into memory", registry=registry)
        self.missing = Counter(
            "batos_curator_missing_records",
            "Log records that a jump of seq shows to be lost",
            registry=registry,
        )
        self.undecodable = Counter("batos_curator_undecodable_lines", "Log lines that are no record", registry=registry)
        self.unread = Counter(
            "batos_curator_unread_logs", "Times that a kernel in the roster did not give its log", registry=registry
        )
        self.rows = Counter("batos_curator_rows", "Rows put into data sets, by side", ["split"], registry=registry)
        self.datasets = Counter("batos_curator_datasets", "Data sets built", registry=registry)
        self.ingested_at = Gauge(
            "batos_curator_ingested_timestamp_seconds", "When all logs were last read to their ends", registry=registry
        )
