"""What the console can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from batos.vessel import VesselSettings


class ConsoleSettings(VesselSettings):
    """Settings of the `batos` command: `BATOS_CONSOLE_…`, or the table `[console]` of `batos.toml`."""

    service: ClassVar[str] = "console"

    console_reach_s: float = Field(
        default=4.0,
        ge=0.1,
        le=60,
        description="Seconds within which the bus must answer, else the fleet counts as away.",
    )
    console_request_s: float = Field(
        default=30.0, ge=0.5, le=600, description="Seconds that an ordinary request may take before it is given up."
    )
    console_keeper: str = Field(
        default="batos.supervisor.keeper",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$",
        max_length=200,
        description="Module that `batos up` runs to keep the fleet's processes.",
    )
    console_up_s: float = Field(
        default=180.0, ge=1, le=3600, description="Seconds within which every vessel must be ready after `batos up`."
    )
    console_down_s: float = Field(
        default=60.0, ge=1, le=3600, description="Seconds after which `batos down` kills what has not ended by itself."
    )
