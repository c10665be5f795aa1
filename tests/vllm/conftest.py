"""What the tests of the vllm engine share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from leaks import nothing_left_behind

from batos.persona_inference.packaged_model import find_model

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER_TIMEOUT_S = 600


@pytest.fixture(scope="module", autouse=True)
def leak_check() -> Iterator[None]:
    """Fail a module that leaves threads, sockets or child processes behind.

    Not each test: a server that a module shares is looked after between its tests too, and such a look may be under
    way, its event loop at rest, when a test ends.
    """
    with nothing_left_behind():
        yield


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The packaged model as vLLM reads it; made once a checkout, under models/."""
    gguf = find_model(CHECKOUT / ".venv-inference" / "bin" / "python")
    folder = CHECKOUT / "models" / gguf.stem
    script = CHECKOUT / "scripts" / "model_folder.py"
    python = CHECKOUT / ".venv-vllm" / "bin" / "python"
    made = subprocess.run(
        [str(python), str(script), "--gguf", str(gguf), "--folder", str(folder)],
        capture_output=True,
        text=True,
        timeout=FOLDER_TIMEOUT_S,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return folder
