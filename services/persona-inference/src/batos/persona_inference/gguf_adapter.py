"""Turns a LoRA adapter as peft writes it into the GGUF file that llama.cpp reads. Runs in the engine's child process.

For models of the llama architecture. llama.cpp stores the rows of the query and key projections in another order than
transformers (pairs of rotary dimensions side by side), so the rows of their `lora_B` are moved the same way. Every
tensor is checked against the model before, and read back from the file after.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
import safetensors
from safetensors import SafetensorError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
ARCHITECTURE = "llama"

MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.([a-z_]+\.[a-z_]+)\.lora_(A|B)\.weight")
_UNSUPPORTED = (
    "use_dora",
    "use_rslora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
)

_DTYPES = {"F32": "<f4", "F16": "<f2"}

Array: TypeAlias = Any
"""A numpy array of float32; numpy belongs to the child's environment, not to the one where types are checked."""


class ConversionRefused(Exception):  # noqa: N818 - it says what happened
    """An adapter that cannot be turned into what llama.cpp reads.

    Attributes:
        code: `adapter_unsupported` or `adapter_corrupt`.
        message: what is wrong with it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def convert(folder: Path, target: Path, model: Path) -> int:
    """Write peft's adapter in a folder as a GGUF file that appears whole or not at all.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.
        target: the file to write.
        model: GGUF of the base model.

    Returns:
        How many tensors it holds.

    Raises:
        ConversionRefused: it is no plain LoRA of this model.
    """
    base = gguf.GGUFReader(str(model))
    rank, alpha = _settings(folder / CONFIG)
    tensors = _converted(_weights(folder / WEIGHTS), base, rank)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _write(partial, tensors, alpha)
        _verify(partial, tensors, alpha)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return len(tensors)


def permuted(rows: Array, heads: int) -> Array:
    """Return rows in llama.cpp's order: within each head, the two halves interleaved."""
    out, width = rows.shape
    return rows.reshape(heads, 2, out // heads // 2, width).swapaxes(1, 2).reshape(out, width)


def _settings(path: Path) -> tuple[int, float]:
    try:
        config = json.loads(path.read_bytes())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConversionRefused("adapter_corrupt", f"{CONFIG} cannot be read: {error!r}") from error
    if config.get("peft_type") != "LORA":
        raise ConversionRefused("adapter_unsupported", f"it is a {config.get('peft_type')} adapter, not LORA")
    if config.get("bias", "none") != "none":
        raise ConversionRefused("adapter_unsupported", "it trains biases, which llama.cpp cannot take from an adapter")
    for name in _UNSUPPORTED:
        if config.get(name):
            raise ConversionRefused("adapter_unsupported", f"it uses {name}, which llama.cpp does not know")
    return rank, alpha


def _weights(path: Path) -> dict[str, Array]:
    try:
        return {name: _array(**entry) for name, entry in safetensors.deserialize(path.read_bytes())}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConversionRefused("adapter_corrupt", f"{WEIGHTS} cannot be read: {error}") from error


def _array(*, dtype: str, shape: list[int], data: bytes) -> Array:
    """Decode a tensor; numpy itself does not know bfloat16, which is the upper half of a float32."""
    if dtype == "BF16":
        wide = np.frombuffer(data, dtype="<u2").astype("<u4") << 16
        return wide.view("<f4").reshape(shape)
    return np.frombuffer(data, dtype=_DTYPES[dtype]).astype(np.float32).reshape(shape)


def _converted(weights: Mapping[str, Array], base: Any, rank: int) -> dict[str, Array]:
    architecture = _field(base, "general.architecture")
    if architecture != ARCHITECTURE:
        raise ConversionRefused(
            "adapter_unsupported", f"adapters of {architecture} models cannot be served by llama.cpp here; use vLLM"
        )
    heads = {
        "attn_q": int(_field(base, f"{ARCHITECTURE}.attention.head_count")),
        "attn_k": int(_field(base, f"{ARCHITECTURE}.attention.head_count_kv")),
    }
    shapes = {tensor.name: tuple(int(size) for size in tensor.shape) for tensor in base.tensors}
    result: dict[str, Array] = {}
    for name, value in sorted(weights.items()):
        found = _TENSOR.fullmatch(name)
        module = MODULES.get(found.group(2)) if found else None
        if found is None or module is None:
            raise ConversionRefused("adapter_unsupported", f"its tensor {name} is not one of a plain LoRA")
        weight = f"blk.{found.group(1)}.{module}.weight"
        if weight not in shapes:
            raise ConversionRefused(
                "adapter_unsupported", f"the model has no {weight}, which its tensor {name} changes"
            )
        into, out = shapes[weight]
        side = found.group(3)
        wanted = (rank, into) if side == "A" else (out, rank)
        if value.shape != wanted:
            raise ConversionRefused(
                "adapter_unsupported", f"its tensor {name} is {value.shape}, the model needs {wanted}"
            )
        if not np.isfinite(value).all():
            raise ConversionRefused("adapter_corrupt", f"its tensor {name} holds what is no number")
        if side == "B" and module in heads:
            value = permuted(value, heads[module])  # noqa: PLW2901 - the same tensor in its new order
        result[f"{weight}.lora_{side.lower()}"] = np.ascontiguousarray(value)
    alone = {name.rpartition(".")[0] for name in result if _other(name) not in result}
    if alone or not result:
        raise ConversionRefused(
            "adapter_corrupt", f"one half is missing of: {', '.join(sorted(alone)) or 'everything'}"
        )
    return result


def _other(name: str) -> str:
    return name[:-1] + ("b" if name.endswith("a") else "a")


def _field(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise ConversionRefused("adapter_unsupported", f"the model does not say its {name}")
    return field.contents()


def _write(path: Path, tensors: Mapping[str, Array], alpha: float) -> None:
    writer = gguf.GGUFWriter(str(path), ARCHITECTURE)
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        for name, value in tensors.items():
            writer.add_tensor(name, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _verify(path: Path, tensors: Mapping[str, Array], alpha: float) -> None:
    reader = gguf.GGUFReader(str(path))
    back = {tensor.name: tensor for tensor in reader.tensors}
    same = back.keys() == tensors.keys() and all(
        np.array_equal(back[name].data.reshape(value.shape), value) for name, value in tensors.items()
    )
    if not same or _field(reader, gguf.Keys.Adapter.LORA_ALPHA) != np.float32(alpha):
        raise ConversionRefused("adapter_corrupt", "what was written could not be read back")
