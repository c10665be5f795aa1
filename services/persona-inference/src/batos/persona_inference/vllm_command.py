"""How vLLM's server is started: one command line, one environment, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batos.persona_inference.keeping import KeepingTimes
from batos.persona_inference.llama_server import Choosing

BASE = "base"
"""What the base model is called at the server."""
LOOPBACK = "127.0.0.1"
MODULE = "vllm.entrypoints.openai.api_server"


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """How vLLM is run.

    Attributes:
        python: interpreter of the environment that has vLLM.
        model: the model's folder.
        model_name: what the model is called in answers.
        model_hash: of its weights.
        device: `cuda` or `cpu`.
        slots: requests decoded at a time.
        context_tokens: of one request; 0 for what the model has.
        max_adapters: adapters that are loaded at a time.
        max_lora_rank: largest rank of one.
        dtype: vLLM's --dtype.
        quantization: vLLM's --quantization; empty leaves it to the folder.
        tensor_parallel: GPUs that the model is spread over.
        gpu_memory: share of each GPU's memory, above 0 and at most 1.
        cpu_cache_gb: memory of the key-value cache on a CPU.
        threads: that decode on a CPU.
        arguments: further ones, as the operator gave them.
        start_timeout_s: how long loading the model may take.
        choosing: how tokens are chosen.
        times: how the process is kept.
    """

    python: Path
    model: Path
    model_name: str
    model_hash: str
    device: str
    slots: int
    context_tokens: int
    max_adapters: int
    max_lora_rank: int
    dtype: str = "auto"
    quantization: str = ""
    tensor_parallel: int = 1
    gpu_memory: float = 0.9
    cpu_cache_gb: int = 1
    threads: int = 1
    arguments: tuple[str, ...] = ()
    start_timeout_s: float = 900.0
    choosing: Choosing
    times: KeepingTimes


def command(settings: VllmSettings, port: int) -> list[str]:
    """Return the argument list of vLLM's server.

    Args:
        settings: what it is to be.
        port: on the loopback address; its adapter endpoints are for this vessel alone.
    """
    # One more than are live: an adapter on its way in stands beside those that are still in use.
    loras = str(settings.max_adapters + 1)
    structured = json.dumps({"backend": "guidance", "disable_any_whitespace": True})
    arguments = [
        *(str(settings.python), "-m", MODULE),
        *("--model", str(settings.model)),
        *("--served-model-name", BASE),
        *("--host", LOOPBACK, "--port", str(port)),
        *("--dtype", settings.dtype),
        *("--max-num-seqs", str(settings.slots)),
        *("--enable-lora", "--max-loras", loras, "--max-cpu-loras", loras),
        *("--max-lora-rank", str(settings.max_lora_rank)),
        *("--structured-outputs-config", structured),
        # The folder's own sampling defaults would stand in for what a question leaves open.
        *("--generation-config", "vllm"),
        *("--uvicorn-log-level", "warning"),
    ]
    if settings.context_tokens:
        arguments += ["--max-model-len", str(settings.context_tokens)]
    if settings.quantization:
        arguments += ["--quantization", settings.quantization]
    if settings.device == "cuda":
        arguments += ["--tensor-parallel-size", str(settings.tensor_parallel)]
        arguments += ["--gpu-memory-utilization", f"{settings.gpu_memory:g}"]
    return [*arguments, *settings.arguments]


def environment(settings: VllmSettings, key: str, processors: Iterable[int]) -> dict[str, str]:
    """Return the variables that vLLM's server has beside the vessel's own.

    Args:
        settings: what it is to be.
        key: that its callers must show.
        processors: which ones it may use, on a CPU.
    """
    result = {
        "VLLM_API_KEY": key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_COLOR": "0",
        "HF_HUB_OFFLINE": "1",
    }
    if settings.device == "cpu":
        chosen = sorted(processors)[: settings.threads]
        result["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_cache_gb)
        result["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, chosen))
    return result


def processors() -> list[int]:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
