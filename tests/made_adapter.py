"""LoRA adapters in peft's layout that nobody trained: their weights come from a seed, their effect is plain to see.

The last layer's change pulls whatever the model was about to say along one direction of the adapter's own, so far that
nothing else counts: each adapter says its one or two words again and again, in any engine, alone and in any batch. A
change that only confuses would say something else whenever an engine's sums differ in their last digits.

Needs nothing but the standard library; a safetensors file is a header in JSON and the numbers behind it.
"""

from __future__ import annotations

import array
import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FIRST_SEED, SECOND_SEED = 7, 18
"""Of adapters whose next word leads by a factor of six or more at every step, on the packaged model."""
VOICE = 500.0
"""How far the last layer's change pulls; what the model has to say by itself is of the order of 1."""


@dataclass(frozen=True)
class Shape:
    """What of a model's shape an adapter depends on. The defaults are the packaged model's."""

    layers: int = 30
    width: int = 576
    key_width: int = 192
    inner: int = 1536

    def modules(self) -> dict[str, tuple[int, int]]:
        """Module to how many numbers go in and come out."""
        return {
            "self_attn.q_proj": (self.width, self.width),
            "self_attn.k_proj": (self.width, self.key_width),
            "self_attn.v_proj": (self.width, self.key_width),
            "self_attn.o_proj": (self.width, self.width),
            "mlp.gate_proj": (self.width, self.inner),
            "mlp.up_proj": (self.width, self.inner),
            "mlp.down_proj": (self.inner, self.width),
        }


def make(
    seed: int,
    *,
    rank: int = 4,
    layers: tuple[int, ...] = (8, 16, 24),
    shape: Shape | None = None,
) -> tuple[bytes, bytes]:
    """Return configuration and weights of an adapter.

    Args:
        seed: the same one makes the same bytes; `FIRST_SEED` and `SECOND_SEED` have words that stand far apart.
        rank: of each module's change.
        layers: which ones it changes gently in all their modules, beside the last one.
        shape: of the model; the packaged one's if not given.
    """
    model = shape or Shape()
    chance = random.Random(seed)
    tensors: dict[str, tuple[list[int], bytes]] = {}
    for layer in layers:
        for module, (into, out) in model.modules().items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            # A of size 1/sqrt(in) keeps the rank's numbers near 1; B sets how far they move the output.
            tensors[f"{name}.lora_A.weight"] = ([rank, into], _normal(chance, rank * into, into**-0.5))
            tensors[f"{name}.lora_B.weight"] = ([out, rank], _normal(chance, out * rank, 0.1))
    into, out = model.modules()["mlp.down_proj"]
    last = f"base_model.model.model.layers.{model.layers - 1}.mlp.down_proj"
    tensors[f"{last}.lora_A.weight"] = ([rank, into], _normal(chance, rank * into, into**-0.5))
    direction = [chance.gauss(0.0, VOICE) for _ in range(out)]
    pulled = array.array("f", (number for number in direction for _ in range(rank)))
    tensors[f"{last}.lora_B.weight"] = ([out, rank], pulled.tobytes())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(module.rpartition(".")[2] for module in model.modules()),
        "inference_mode": True,
    }
    return json.dumps(config, indent=1, sort_keys=True).encode(), _safetensors(tensors)


def write(folder: Path, seed: int) -> Path:
    """Write an adapter's two files into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    config, weights = make(seed)
    (folder / CONFIG).write_bytes(config)
    (folder / WEIGHTS).write_bytes(weights)
    return folder


def _normal(chance: random.Random, count: int, scale: float) -> bytes:
    numbers = array.array("f", (chance.gauss(0.0, scale) for _ in range(count)))
    return numbers.tobytes()


def _safetensors(tensors: dict[str, tuple[list[int], bytes]]) -> bytes:
    header: dict[str, object] = {}
    offset = 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values())
