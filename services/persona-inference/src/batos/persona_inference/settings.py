"""What persona-inference can be told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from batos.vessel import VesselSettings


class InferenceSettings(VesselSettings):
    """Settings of persona-inference; each is `BATOS_` and its name in capitals, or stands in `batos.toml`."""

    service: ClassVar[str] = "inference"

    inference_engine: Literal["auto", "llama", "vllm", "openai"] = Field(
        default="auto", description="Which engine answers; auto: vllm where there is CUDA, else llama."
    )
    inference_model: Path | None = Field(
        default=None, description="llama: a GGUF file (unset: the packaged model); vllm: a model's folder."
    )
    inference_model_name: str = Field(
        default="", max_length=200, description="What the model is called in answers; empty: its file's name."
    )
    inference_slots: int = Field(
        default=0, ge=0, le=1024, description="Requests decoded at a time; 0: 4 (llama, openai) or 32 (vllm)."
    )
    inference_context_tokens: int = Field(
        default=0,
        ge=0,
        le=4_000_000,
        description="What one request may use, prompt and answer; 0: 2048 (llama), 8192 (openai), the model's (vllm).",
    )
    inference_queue: int = Field(
        default=64, ge=0, le=10_000, description="Requests that may wait for a slot; what comes beyond is refused."
    )
    inference_max_adapters: int = Field(
        default=8, ge=1, le=256, description="Adapters kept loaded; the one that was used longest ago makes room."
    )
    inference_threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Threads that decode (llama, vllm on a CPU); 0: one a processor, at most 8.",
    )
    inference_top_k: int = Field(default=40, ge=0, le=100_000, description="Tokens considered at a time; 0: all.")
    inference_min_p: float = Field(
        default=0.05, ge=0, le=1, description="Least probability of a token, relative to the likeliest one's."
    )
    inference_delta_s: float = Field(
        default=0.05, ge=0, le=5, description="Seconds for which streamed text is gathered into one event."
    )
    inference_look_s: float = Field(
        default=5.0, ge=0.1, le=600, description="Seconds between two looks whether the engine answers."
    )
    inference_stall_s: float = Field(
        default=60.0, ge=1, le=3600, description="Seconds without its answer after which the engine is started anew."
    )
    inference_starts: int = Field(
        default=5, ge=1, le=100, description="Starts of the engine that may fail in a row before the vessel gives up."
    )
    inference_start_timeout_s: float = Field(
        default=900.0, ge=1, le=36_000, description="Seconds that vLLM may take to load its model."
    )

    inference_llama_python: Path | None = Field(
        default=None, description="Interpreter with llama.cpp; unset: this one, or that of .venv-inference beside it."
    )

    inference_vllm_python: Path | None = Field(
        default=None, description="Interpreter with vLLM; unset: this one, or that of .venv-vllm beside it."
    )
    inference_vllm_device: Literal["auto", "cuda", "cpu"] = Field(
        default="auto", description="What vLLM computes on; auto: cuda where there is a GPU. cpu needs its CPU build."
    )
    inference_vllm_dtype: str = Field(default="auto", max_length=20, description="vLLM's --dtype.")
    inference_vllm_quantization: str = Field(
        default="", max_length=40, description="vLLM's --quantization; empty: as the model's folder says."
    )
    inference_vllm_tensor_parallel: int = Field(
        default=1, ge=1, le=64, description="GPUs that one model is spread over."
    )
    inference_vllm_gpu_memory: float = Field(
        default=0.9, gt=0, le=1, description="Share of each GPU's memory that vLLM may take."
    )
    inference_vllm_max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = Field(
        default=64, description="Largest rank of an adapter."
    )
    inference_vllm_cpu_cache_gb: int = Field(
        default=1, ge=1, le=4096, description="Memory of the key-value cache where vLLM runs on a CPU, in GB."
    )
    inference_vllm_args: tuple[str, ...] = Field(
        default=(), max_length=100, description="Further arguments for vLLM's server, as a JSON list."
    )

    inference_openai_url: str = Field(
        default="", max_length=1024, description="An OpenAI-compatible API, for example http://gpu-host:8000/v1."
    )
    inference_openai_key: SecretStr = Field(default=SecretStr(""), description="Its key, where it wants one.")
    inference_openai_bytes_per_token: float = Field(
        default=3.0, ge=0.5, le=16, description="To estimate token counts where the API cannot count."
    )
