from __future__ import annotations

import json
from pathlib import Path

import pytest

from batos.persona_inference.keeping import KeepingTimes
from batos.persona_inference.llama_server import Choosing
from batos.persona_inference.vllm_command import VllmSettings, command, environment
from batos.persona_inference.vllm_process import stage


def settings(**given: object) -> VllmSettings:
    values: dict[str, object] = {
        "python": Path("/env/bin/python"),
        "model": Path("/models/big"),
        "model_name": "big",
        "model_hash": "ab" * 32,
        "device": "cuda",
        "slots": 32,
        "context_tokens": 0,
        "max_adapters": 8,
        "max_lora_rank": 64,
        "choosing": Choosing(40, 0.05),
        "times": KeepingTimes(),
        **given,
    }
    return VllmSettings(**values)  # type: ignore[arg-type]  # a test's own keywords


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_cuda_gets_gpus_memory_and_quantization() -> None:
    """Tensor parallelism, the share of memory, quantization and length stand on the command line."""
    arguments = command(
        settings(tensor_parallel=2, gpu_memory=0.85, quantization="awq", context_tokens=8192, dtype="float16"), 8123
    )
    assert arguments[:5] == ["/env/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/models/big"]
    assert option(arguments, "--tensor-parallel-size") == "2"
    assert option(arguments, "--gpu-memory-utilization") == "0.85"
    assert option(arguments, "--quantization") == "awq"
    assert option(arguments, "--max-model-len") == "8192"
    assert option(arguments, "--dtype") == "float16"
    assert option(arguments, "--max-num-seqs") == "32"


def test_it_listens_on_loopback_only() -> None:
    """Its adapter endpoints are for trusted callers: nobody else reaches it, and callers show a key."""
    arguments = command(settings(), 8123)
    assert (option(arguments, "--host"), option(arguments, "--port")) == ("127.0.0.1", "8123")
    variables = environment(settings(), "secret", [0, 1])
    assert variables["VLLM_API_KEY"] == "secret"
    assert "secret" not in arguments
    assert variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert not any(name.startswith("VLLM_CPU") for name in variables)


def test_there_is_room_for_one_more_adapter_than_live() -> None:
    """One that comes stands beside those that are in use."""
    arguments = command(settings(max_adapters=3, max_lora_rank=16), 8123)
    assert "--enable-lora" in arguments
    assert (option(arguments, "--max-loras"), option(arguments, "--max-cpu-loras")) == ("4", "4")
    assert option(arguments, "--max-lora-rank") == "16"


def test_structured_output_has_no_blanks_to_babble() -> None:
    """JSON is decoded in one fixed layout."""
    structured = json.loads(option(command(settings(), 8123), "--structured-outputs-config"))
    assert structured == {"backend": "guidance", "disable_any_whitespace": True}


def test_a_cpu_gets_threads_and_cache() -> None:
    """As many processors as threads, and no GPU options."""
    cpu = settings(device="cpu", threads=2, cpu_cache_gb=3)
    assert "--gpu-memory-utilization" not in command(cpu, 8123)
    variables = environment(cpu, "secret", [5, 3, 4])
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "3,4"
    assert variables["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_the_operators_arguments_come_last() -> None:
    """So that they win."""
    assert command(settings(arguments=("--enforce-eager", "--dtype", "half")), 1)[-3:] == [
        "--enforce-eager",
        "--dtype",
        "half",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2", "loading weights, 50%"),
        ("INFO 11-24 [default_loader.py:1] Loading weights took 3.2 seconds", "weights loaded"),
        ("INFO GPU KV cache size: 43,690 tokens", "cache of 43,690 tokens"),
        ("INFO Starting vLLM server on http://127.0.0.1:8000", "opening its address"),
        ("something else", ""),
    ],
)
def test_its_output_says_how_far_it_is(line: str, words: str) -> None:
    """Lines that tell progress become words for /readyz."""
    assert stage(line) == words
