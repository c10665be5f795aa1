"""Which vessels a local fleet has, and how each is started."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from batos.supervisor.errors import SupervisorError
from batos.supervisor.place import PlaceSpec
from batos.supervisor.settings import KeeperSettings

INFERENCE_ENVIRONMENT = ".venv-inference"
RANK_WORKERS, RANK_ENGINE, RANK_BUS, RANK_IMAGE = range(4)
"""Order of stopping: first who uses the others."""
FOUNDATION = frozenset({RANK_BUS, RANK_IMAGE})


def local_places(settings: KeeperSettings) -> list[PlaceSpec]:
    """Return the places of a fleet on one machine.

    Where the image's URI names no Unix socket of this machine, the image is kept elsewhere and has no place.

    Raises:
        SupervisorError: there is no interpreter to run persona-inference with.
    """
    core = sys.executable

    def place(name: str, kind: str, module: str, rank: int = RANK_WORKERS, *, two_at_once: bool = False) -> PlaceSpec:
        return PlaceSpec(
            name=name,
            kind=kind,
            argv=(core, "-m", module),
            two_at_once=two_at_once,
            foundation=rank in FOUNDATION,
            stop_rank=rank,
        )

    places = []
    if is_image_local(settings.image_uri):
        places.append(place("image", "image", "batos.image", RANK_IMAGE))
    places.append(place("bus", "bus", "batos.bus", RANK_BUS))
    inference = str(inference_python(settings))
    places.append(
        PlaceSpec(
            name="inference",
            kind="inference",
            argv=(inference, "-m", "batos.persona_inference"),
            stop_rank=RANK_ENGINE,
        )
    )
    places += [
        place(f"kernel-{number}", "kernel", "batos.kernel", two_at_once=True)
        for number in range(1, settings.keeper_kernels + 1)
    ]
    places += [
        place("curator", "curator", "batos.curator"),
        place("forge", "forge", "batos.forge_trainer"),
        place("supervisor", "supervisor", "batos.supervisor"),
    ]
    return places


def is_image_local(uri: str) -> bool:
    """Return whether this fleet keeps its image's server itself."""
    parts = urlsplit(uri)
    return not uri or (parts.scheme == "zeo" and not parts.netloc)


def inference_python(settings: KeeperSettings) -> Path:
    """Return the interpreter of the inference environment.

    Raises:
        SupervisorError: there is none.
    """
    given = settings.inference_env_python
    beside = Path(sys.prefix).parent / INFERENCE_ENVIRONMENT / "bin" / "python"
    found = given.expanduser().absolute() if given is not None else beside
    if not found.exists():
        raise SupervisorError(
            "inference_environment",
            f"there is no Python at {found} to run persona-inference with",
            "make its environment with `make install`, or set BATOS_INFERENCE_ENV_PYTHON",
        )
    return found
