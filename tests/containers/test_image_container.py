"""The image vessel alone in its container: a client on the host commits and reads over TLS, nobody else does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.conftest import Images
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from batos.console.keys import make_keys
from batos.uvm import ImageUnreachable, open_image, read_blob, store_blob
from batos.uvm.conformance import StorageConformance, StorageUnderTest

pytestmark = pytest.mark.timeout(1800)

USER = 10001
PORT = 9991
START_TIMEOUT_S = 60


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    make_keys(folder)
    if os.getuid() == 0:
        for path in (folder / "image").rglob("*"):
            os.chown(path, USER, USER)
        os.chown(folder / "image", USER, USER)
    return folder


@pytest.fixture
def address(images: Images, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the image's container is reached from the host."""
    for name, value in images.engine.environment.items():
        if name.startswith(("DOCKER_", "TESTCONTAINERS_")):
            monkeypatch.setenv(name, value)
    container = (
        DockerContainer(images.tag("core"))
        .with_command(["python", "-m", "batos.image"])
        .with_exposed_ports(PORT)
        .with_volume_mapping(str(keys / "image"), "/run/batos/keys", "ro")
        .with_tmpfs_mount("/tmp")  # noqa: S108 - the container's own
        .with_kwargs(read_only=True, cap_drop=["ALL"])
        .waiting_for(LogMessageWaitStrategy("serving").with_startup_timeout(START_TIMEOUT_S))
    )
    settings = {
        f"BATOS_BUS_{name}": f"tcp://bus:{5701 + n}"
        for n, name in enumerate(("WORK", "CONTROL", "PUBLISH", "SUBSCRIBE"))
    }
    settings |= {"BATOS_NAME": "image", "BATOS_KEY_NAME": "image", "BATOS_IMAGE_LISTEN": f"0.0.0.0:{PORT}"}
    container.tmpfs["/var/lib/batos"] = f"uid={USER},mode=0700"
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container as running:
        yield f"zeo://127.0.0.1:{running.get_exposed_port(PORT)}?wait_timeout=15"


class TestStorage(StorageConformance):
    """The container's storage passes what every other one does."""

    @pytest.fixture
    def storage(self, address: str, keys: Path) -> StorageUnderTest:
        return StorageUnderTest("container", f"{address}&tls={keys / 'kernel'}")


def test_a_client_on_the_host_commits_and_reads_blobs(address: str, keys: Path) -> None:
    """With a certificate of the fleet; a second client sees all of it."""
    with open_image(f"{address}&tls={keys / 'kernel'}") as image, image.transaction() as root:
        root["lobby"].greeting = "hello"
        root["lobby"].weights = store_blob(b"\x02" * 300_000)
    with open_image(f"{address}&tls={keys / 'forge'}") as image, image.snapshot() as root:
        assert root["lobby"].greeting == "hello"
        assert read_blob(root["lobby"].weights) == b"\x02" * 300_000


def test_without_a_certificate_nobody_is_admitted(address: str, keys: Path) -> None:
    """Neither in plain words nor with the authority's certificate alone: nothing is read, and the image goes on."""
    with pytest.raises(ImageUnreachable):
        open_image(address.replace("wait_timeout=15", "wait_timeout=1"))
    with open_image(f"{address}&tls={keys / 'curator'}") as image:
        assert image.last_tid()
