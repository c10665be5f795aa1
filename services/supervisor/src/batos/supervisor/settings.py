"""What the supervisor and the keeper can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from batos.vessel import VesselSettings


class SupervisorSettings(VesselSettings):
    """Settings of the supervisor vessel."""

    service: ClassVar[str] = "supervisor"

    supervisor_drain_timeout_s: float = Field(
        default=120.0, ge=0, le=3600, description="Seconds that a plank's work may still take when it is replaced."
    )
    supervisor_poll_s: float = Field(
        default=0.2, ge=0.01, le=10, description="Seconds between two looks at the roster during a roll."
    )


class KeeperSettings(VesselSettings):
    """Settings of the keeper of a local fleet."""

    service: ClassVar[str] = "keeper"

    stop_timeout_s: float = Field(
        default=60.0, ge=0.1, le=600, description="Seconds that ending every child may take in all."
    )
    keeper_kernels: int = Field(default=2, ge=1, le=32, description="How many kernels the fleet has.")
    keeper_foundation_timeout_s: float = Field(
        default=60.0, ge=1, le=3600, description="Seconds in which image and bus must be ready at the start."
    )
    keeper_grace_s: float = Field(
        default=10.0,
        ge=0.1,
        le=600,
        description="Seconds from SIGTERM to a second one, which cuts the drain, when the fleet is stopped.",
    )
    keeper_kill_s: float = Field(default=3.0, ge=0.1, le=60, description="Seconds from the second SIGTERM to SIGKILL.")
    keeper_backoff_first_s: float = Field(
        default=0.2, ge=0.01, le=10, description="Seconds before a vessel that failed once is started again."
    )
    keeper_backoff_ceiling_s: float = Field(
        default=10.0, ge=0.1, le=600, description="The longest such wait; it doubles with every failure in a row."
    )
    keeper_stable_s: float = Field(
        default=30.0, ge=0.1, le=3600, description="A vessel that lived this long wipes out its failures before."
    )
    keeper_loop_after: int = Field(
        default=4, ge=1, le=100, description="Failures in a row after which a vessel is said to be crash-looping."
    )
    keeper_successor_timeout_s: float = Field(
        default=900.0, ge=1, le=86400, description="Seconds after which a successor that nobody asks about is ended."
    )
    keeper_log_bytes: int = Field(
        default=5_000_000,
        ge=10_000,
        le=10**9,
        description="A child's stderr file that is larger at its start is put aside as .1.",
    )
    keeper_omp_threads: int = Field(
        default=2, ge=1, le=256, description="OMP_NUM_THREADS of the children, where the environment has none."
    )
    keeper_poll_s: float = Field(default=0.5, ge=0.05, le=10, description="Seconds between two looks at the roster.")
