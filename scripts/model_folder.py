"""Turns a GGUF model into the folder that trainers and vLLM read: `model_folder.py --gguf FILE --folder DIR`.

Needs an environment with torch, transformers and gguf. The folder appears whole or not at all; a second call finds it
and ends at once. `batos-model.json` in it names the file that it was made from: what is trained on the folder belongs
to that model.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

MANIFEST = "batos-model.json"
LAYOUT = 1
"""Version of the manifest; a folder with another one is made again."""
DTYPE = "bfloat16"
BYTES_PER_MB = 1_000_000
HASHED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What of the folder its manifest vouches for."""
PROBES = ("Hello, world!", "  two spaces\n\tand a tab", "naïve café — 東京 😀", "def f(x):\n    return {'a': [1, 2.5]}")
"""Texts that the tokenizer must give back as they were."""


class FolderFailed(Exception):  # noqa: N818 - it is what happened
    """The folder could not be made; the text says why."""


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a folder says about itself; nothing where no manifest can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_current(folder: Path, source_sha256: str) -> bool:
    """Whether a folder was made from this model, by this layout, and is still whole."""
    manifest = read_manifest(folder)
    if manifest.get("layout") != LAYOUT or manifest.get("source_sha256") != source_sha256:
        return False
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in manifest.get("sizes", {}).items()
    )


def convert(gguf: Path, target: Path) -> None:
    """Write weights (bfloat16) and tokenizer of a GGUF model into an empty folder.

    Raises:
        FolderFailed: the tokenizer does not give texts back as they were.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch  # noqa: PLC0415 - seconds to import, and only needed when a folder is made
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    said("tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    for text in PROBES:
        back = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
        if back != text:
            raise FolderFailed(f"the tokenizer of {gguf.name} turns {text!r} into {back!r}")
    tokenizer.save_pretrained(target)
    said("weights")
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype=getattr(torch, DTYPE),
        quantization_config=GgufConfig(dequantize=True),
    )
    said("writing")
    model.save_pretrained(target)


def make(gguf: Path, folder: Path) -> bool:
    """Make the folder of a model unless it stands already.

    Args:
        gguf: the model.
        folder: what is made; its parent is made too.

    Returns:
        Whether anything had to be done.

    Raises:
        FolderFailed: the model is missing or cannot be converted.
    """
    if not gguf.is_file():
        raise FolderFailed(f"{gguf} does not exist; make the embedded engine's environment with `make install`")
    said("hashing the model")
    source = sha256(gguf)
    if is_current(folder, source):
        return False
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        convert(gguf, partial)
        files = sorted({path for pattern in HASHED for path in partial.glob(pattern)})
        manifest = {
            "layout": LAYOUT,
            "source": gguf.name,
            "source_sha256": source,
            "dtype": DTYPE,
            "files": {path.name: sha256(path) for path in files},
            "sizes": {path.name: path.stat().st_size for path in files},
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        put_in_place(partial, folder, source)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def put_in_place(partial: Path, folder: Path, source: str) -> None:
    """Give a finished folder its name. Where another process was faster, its equal work is kept."""
    replaced = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(replaced)
    try:
        partial.rename(folder)
    except OSError:
        if not is_current(folder, source):
            raise
    finally:
        shutil.rmtree(replaced, ignore_errors=True)


def said(stage: str) -> None:
    """Say on stderr what is being done."""
    sys.stderr.write(f"model folder: {stage}\n")
    sys.stderr.flush()


def main() -> int:
    """Read the command line and make the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gguf", type=Path, required=True, help="the model")
    parser.add_argument("--folder", type=Path, required=True, help="where its folder is to stand")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        made = make(arguments.gguf.absolute(), arguments.folder.absolute())
    except (FolderFailed, OSError) as error:
        sys.stderr.write(f"model folder: {error}\n")
        return 1
    size = sum(path.stat().st_size for path in arguments.folder.iterdir()) / BYTES_PER_MB
    said(f"{'made' if made else 'found'}: {arguments.folder}, {size:.0f} MB, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
