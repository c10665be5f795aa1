"""What the curator can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from batos.vessel import VesselSettings


class CuratorSettings(VesselSettings):
    """Settings of the curator, `BATOS_CURATOR_…`."""

    service: ClassVar[str] = "curator"

    curator_interval_s: float = Field(
        default=10.0, ge=0.1, le=3600, description="Seconds between two looks for new log records in the background."
    )
    curator_chunk_bytes: int = Field(
        default=1_000_000, ge=10_000, le=16_000_000, description="Bytes of a log that one request asks for."
    )
    curator_read_timeout_s: float = Field(
        default=10.0, ge=0.1, le=600, description="Seconds that a kernel may take to answer for a piece of its log."
    )
    curator_min_rows: int = Field(
        default=8, ge=4, le=1_000_000, description="Different answers that a data set needs at least."
    )
    curator_held_out_share: float = Field(
        default=0.2, gt=0, lt=0.5, description="Share of the rows that is held out to measure on."
    )
    curator_min_held_out: int = Field(
        default=2, ge=1, le=100_000, description="Rows that are held out at least, however few there are."
    )
