"""What the forge can be told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from batos.vessel import VesselSettings


class ForgeSettings(VesselSettings):
    """Settings of the forge, `BATOS_FORGE_…`."""

    service: ClassVar[str] = "forge"

    forge_python: Path | None = Field(
        default=None,
        description="Interpreter with torch, trl and peft; unset: the checkout's .venv-forge, made when needed.",
    )
    forge_checkout: Path | None = Field(
        default=None, description="Checkout with scripts/ and constraints/; unset: the one this package stands in."
    )
    forge_model: Path | None = Field(
        default=None,
        description="Base model: a GGUF file, or a folder made by scripts/model_folder.py; unset: the packaged one.",
    )
    forge_margin: float = Field(
        default=0.02, ge=0, lt=1, description="How much lower than the base's the held-out loss has to be, relatively."
    )
    forge_epochs: float = Field(default=3.0, gt=0, le=100, description="Passes over the rows.")
    forge_rank: int = Field(default=8, ge=1, le=256, description="Rank of the adapter.")
    forge_alpha: int = Field(default=16, ge=1, le=1024, description="Scale of the adapter, divided by its rank.")
    forge_learning_rate: float = Field(default=5e-4, gt=0, le=0.1, description="At the top of a cosine.")
    forge_batch: int = Field(default=4, ge=1, le=1024, description="Rows a step.")
    forge_max_length: int = Field(
        default=2048, ge=32, le=131072, description="Tokens of prompt and answer together; longer rows are left out."
    )
    forge_seed: int = Field(default=7, ge=0, le=2**31 - 1, description="Of everything random in a training.")
    forge_threads: int = Field(default=2, ge=1, le=256, description="Threads of the training.")
    forge_precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Numbers to compute with; auto: bf16 where the processor has it."
    )
    forge_checkpoint_steps: int = Field(
        default=5, ge=1, le=100_000, description="Steps between two checkpoints: what a crash costs at most."
    )
    forge_silence_s: float = Field(
        default=900.0, ge=1, le=86_400, description="Seconds without a word after which a child is given up."
    )
    forge_sync_interval_s: float = Field(
        default=1.0, ge=0.05, le=600, description="Seconds between two looks for new orders in the image."
    )
    forge_describe_timeout_s: float = Field(
        default=5.0, ge=0.1, le=600, description="Seconds that the engine may take to say which model it serves."
    )
