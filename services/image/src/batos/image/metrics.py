"""What the storage server counts, read when it is scraped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batos.image.server import ServerCounts
from batos.image.storage import blob_bytes


class ImageCollector(Collector):
    """Clients, commits, loads and sizes of the image."""

    def __init__(
        self,
        counts: Callable[[], ServerCounts | None],
        folder: Path,
        blob_scan_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read on demand.

        Args:
            counts: what the server counts; None while it does not serve.
            folder: of the image's files.
            blob_scan_s: seconds for which a measured size of the blobs holds.
            clock: seconds that only go forward.
        """
        self._counts = counts
        self._folder = folder
        self._blob_scan_s = blob_scan_s
        self._clock = clock
        self._blob_bytes = 0
        self._scanned_at: float | None = None

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as of now."""
        counts = self._counts()
        if counts is None:
            return
        yield GaugeMetricFamily("batos_image_clients", "Connected clients", counts.clients)
        yield GaugeMetricFamily("batos_image_commits_waiting", "Commits that wait for the one before", counts.waiting)
        yield CounterMetricFamily("batos_image_loads", "Objects loaded by clients", counts.loads)
        yield CounterMetricFamily("batos_image_stores", "Objects stored by clients", counts.stores)
        yield CounterMetricFamily("batos_image_commits", "Transactions committed", counts.commits)
        yield CounterMetricFamily("batos_image_aborts", "Transactions aborted", counts.aborts)
        yield CounterMetricFamily("batos_image_conflicts", "Commits refused by a conflict", counts.conflicts)
        yield CounterMetricFamily(
            "batos_image_clients_expelled", "Clients that held the commit lock for too long", counts.expelled
        )
        yield CounterMetricFamily(
            "batos_image_commits_refused", "Commits refused because the disk was full", counts.refused
        )
        yield GaugeMetricFamily(
            "batos_image_disk_full",
            "1 from a commit that found the disk full until one is stored again",
            float(counts.disk_full),
        )
        yield GaugeMetricFamily("batos_image_size_bytes", "Size of live_image.fs", counts.size_bytes)
        yield GaugeMetricFamily(
            "batos_image_blob_size_bytes", "Size of all blobs, measured now and then", self._blobs()
        )

    def _blobs(self) -> int:
        now = self._clock()
        if self._scanned_at is None or now - self._scanned_at >= self._blob_scan_s:
            self._blob_bytes = blob_bytes(self._folder)
            self._scanned_at = now
        return self._blob_bytes
