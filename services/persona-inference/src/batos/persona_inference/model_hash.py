"""What identifies a base model's weights: computed once, remembered by the file's size and time of change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from batos.persona_inference.errors import EngineFailed

CACHE_FILE = "model-hashes.json"
MANIFEST = "batos-model.json"
"""In a model folder: which file it was made from, and the hashes of its own files."""
WEIGHTS = ("*.safetensors", "*.bin", "config.json")
"""Of a folder without a manifest: what makes up its hash."""


class Manifest(msgspec.Struct, frozen=True):
    """What a model folder says about itself; `scripts/model_folder.py` writes it."""

    source: str
    source_sha256: str
    files: dict[str, str]
    """File name to the hash of its bytes."""


class ModelHashes:
    """Hashes of model files, remembered in a folder."""

    def __init__(self, folder: Path) -> None:
        """Begin.

        Args:
            folder: where the cache stands; made when something is written.
        """
        self._path = folder / CACHE_FILE

    def of(self, model: Path) -> str:
        """Return the hash of a model: a file, or a folder as trainers and vLLM read it. Blocks while it reads.

        A folder that was made from another model (its manifest says so) is that model: what was learned on one
        belongs to the other.

        Raises:
            EngineFailed: it is not there, or a folder's files are not what its manifest says.
        """
        if model.is_file():
            return self._file(model)
        if not model.is_dir():
            raise EngineFailed(f"there is no model at {model}", "set BATOS_INFERENCE_MODEL")
        manifest = model / MANIFEST
        if manifest.is_file():
            return self._made(model, manifest)
        files = sorted({path for pattern in WEIGHTS for path in model.glob(pattern)})
        if not files:
            raise EngineFailed(f"{model} holds no weights", "set BATOS_INFERENCE_MODEL to a model's folder")
        whole = hashlib.sha256()
        for path in files:
            whole.update(f"{path.name} {self._file(path)}\n".encode())
        return whole.hexdigest()

    def _made(self, folder: Path, manifest: Path) -> str:
        try:
            said = msgspec.json.decode(manifest.read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineFailed(f"{manifest} cannot be read: {error}", "make the folder again") from error
        for name, digest in said.files.items():
            path = folder / Path(name).name
            if not path.is_file() or self._file(path) != digest:
                raise EngineFailed(f"{path} is not what {manifest.name} says", f"remove {folder} and make it again")
        return said.source_sha256

    def _file(self, path: Path) -> str:
        found = path.resolve().stat()
        key = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
        known = self._read()
        if key not in known:
            with path.open("rb") as file:
                known[key] = hashlib.file_digest(file, "sha256").hexdigest()
            self._write(known)
        return known[key]

    def _read(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _write(self, known: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        partial.write_bytes(msgspec.json.encode(known))
        partial.replace(self._path)
