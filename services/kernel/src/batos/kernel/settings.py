"""What a kernel can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from batos.vessel import VesselSettings


class KernelSettings(VesselSettings):
    """Settings of a kernel, `BATOS_KERNEL_…`."""

    service: ClassVar[str] = "kernel"

    kernel_slots: int = Field(default=4, ge=1, le=256, description="Cycles that run at a time.")
    kernel_requests: int = Field(
        default=1024, ge=8, le=65536, description="Requests taken at a time; those that wait for a mission count."
    )
    kernel_text_bytes: int = Field(
        default=65536, ge=16, le=8_388_608, description="Bytes (UTF-8) that a mission's text may have."
    )
    kernel_batch: int = Field(default=256, ge=1, le=10_000, description="Missions committed together at most.")
    kernel_poll_s: float = Field(
        default=0.5, ge=0.02, le=60, description="Seconds between two looks for missions that nobody runs."
    )
    kernel_wait_poll_s: float = Field(
        default=0.1, ge=0.01, le=10, description="Seconds between two looks at missions of others that are waited for."
    )
    kernel_roster_s: float = Field(
        default=1.0, ge=0.05, le=60, description="Seconds between two looks at who is on the bus."
    )
    kernel_adopt_after_s: float = Field(
        default=6.0, ge=0.1, le=600, description="Seconds that an owner has to be missing before others take over."
    )
    kernel_max_adoptions: int = Field(
        default=20, ge=1, le=1000, description="How often a mission whose kernel was lost is started again."
    )
    kernel_genesis_after_s: float = Field(
        default=2.0, ge=0, le=3600, description="Seconds without any other mission before genesis begins."
    )
    kernel_infer_timeout_s: float = Field(
        default=120.0, ge=1, le=3600, description="Seconds that the answers to one batch of prompts may take."
    )
    kernel_engine_timeout_s: float = Field(
        default=30.0, ge=0.5, le=600, description="Seconds that counting tokens and describing the engine may take."
    )
    kernel_probe_timeout_s: float = Field(
        default=60.0, ge=0.5, le=600, description="Seconds that one probe of the engine may take at an awakening."
    )
    kernel_probe_pause_s: float = Field(default=1.0, ge=0.05, le=60, description="Seconds between two tries to awaken.")
    kernel_load_timeout_s: float = Field(
        default=120.0, ge=1, le=3600, description="Seconds that a replica may take to load an adapter."
    )
    kernel_sandbox_workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Methods of cycles that run at a time, no fewer than cycles; unset: as many as those.",
    )
    kernel_sandbox_wall_s: float = Field(
        default=180.0,
        ge=0.1,
        le=7200,
        description="Seconds that a cycle's method may take: more than the model's answers that it waits for.",
    )
    kernel_sandbox_cpu_s: float = Field(
        default=1.0, ge=0.05, le=60, description="Seconds that a cycle's method may compute."
    )
    kernel_sandbox_memory_bytes: int = Field(
        default=67_108_864, ge=1_048_576, le=4_294_967_296, description="Bytes that a cycle's method may fill."
    )
    kernel_log_segment_bytes: int = Field(
        default=67_108_864, ge=4096, le=4_294_967_296, description="Bytes after which the log begins a new segment."
    )

    @property
    def sandbox_workers(self) -> int:
        """Methods of cycles that run at a time."""
        return self.kernel_sandbox_workers or self.kernel_slots

    @field_validator("kernel_sandbox_workers")
    @classmethod
    def _a_worker_a_slot(cls, workers: int | None, others: ValidationInfo) -> int | None:
        """A method that waits for the model keeps its worker: with fewer, thoughts would wait for each other's."""
        slots = others.data.get("kernel_slots", 0)
        if workers is not None and workers < slots:
            raise _unfit(f"there have to be as many as BATOS_KERNEL_SLOTS, {slots}, or more; unset, there are")
        return workers

    @field_validator("kernel_sandbox_wall_s")
    @classmethod
    def _longer_than_answers(cls, wall_s: float, others: ValidationInfo) -> float:
        """Else a method that waits for the model would be stopped for the model's slowness."""
        answers_s = others.data.get("kernel_infer_timeout_s", 0.0)
        if wall_s <= answers_s:
            raise _unfit(f"it has to be more than BATOS_KERNEL_INFER_TIMEOUT_S, {answers_s:g}")
        return wall_s


def _unfit(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("unfit", "{sentence}", {"sentence": sentence})
