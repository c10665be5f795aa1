"""What the tests of containers share: an engine, images built by the shipped Dockerfile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from containers.compose_fleet import TAG, ComposeFleet
from containers.container_engine import ContainerEngine, NoEngine

from batos.protocol import new_id

BUILD_TIMEOUT_S = 900
ENGINE_FOLDER = Path("/tmp/batos-test-engine")  # noqa: S108 - kept from run to run, short enough for its socket


@dataclass(frozen=True)
class Images:
    """The images under test, and with which variables Compose uses them."""

    engine: ContainerEngine
    variables: dict[str, str]

    def project(self, name: str, **variables: str) -> ComposeFleet:
        """Return a Compose project of its own."""
        return ComposeFleet(self.engine, f"batos-{name}-{new_id()[-8:]}", {**self.variables, **variables})

    def tag(self, name: str) -> str:
        """Return the full name of an image."""
        return f"batos/{name}:{TAG}"


@pytest.fixture(scope="session")
def container_engine() -> Iterator[ContainerEngine]:
    """The engine; a test that needs one is skipped, with the reason, where there is none."""
    try:
        engine = ContainerEngine.find(ENGINE_FOLDER)
    except NoEngine as none:
        pytest.skip(str(none))
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def images(container_engine: ContainerEngine, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """All images, built from the checkout."""
    found = Images(container_engine, container_engine.bases(tmp_path_factory.mktemp("base")))
    # Compose builds what its file names; vLLM's image stands in a profile.
    found.project("build").run("build", timeout=BUILD_TIMEOUT_S)
    found.project("build").run("--profile", "gpu", "build", "inference-gpu", timeout=BUILD_TIMEOUT_S)
    return found
