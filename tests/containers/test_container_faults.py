"""What goes wrong in a container ends it with one line that says what, and `docker compose ps` shows which."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containers.conftest import Images
from local_fleet import wait_for

from batos.console.keys import make_keys
from batos.protocol import new_id

pytestmark = pytest.mark.timeout(1800)

USER = 10001
BUS = {f"BATOS_BUS_{name}": f"tcp://127.0.0.1:{port}" for name, port in (
    ("WORK", 5701), ("CONTROL", 5702), ("PUBLISH", 5703), ("SUBSCRIBE", 5704),
)}  # fmt: skip
HOME = "/var/lib/batos"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys as the containers' user may read them."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return given_away(folder)


def given_away(folder: Path) -> Path:
    """Let the containers' user own a folder, where this user may do so."""
    if os.getuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, USER, USER)
    return folder


@pytest.fixture
def run(images: Images, keys: Path) -> Iterator[Run]:
    """Run one vessel in a container until it ends."""
    name = f"batos-fault-{new_id()[-8:]}"

    def run_vessel(
        module: str, role: str, *options: str, image: str = "core", mount_keys: bool = True, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {"BATOS_NAME": role, "BATOS_KEY_NAME": role, **BUS, **settings}
        return images.engine.run(
            "run", "--rm", "--name", name, "--network", "none", "--read-only", "--tmpfs", "/tmp",  # noqa: S108
            *(("-v", f"{keys / role}:/run/batos/keys:ro") if mount_keys else ()),
            *(part for key, value in environment.items() for part in ("-e", f"{key}={value}")),
            *options, images.tag(image), "/opt/batos/bin/python", "-m", module,
            timeout=90, expect=None,
        )  # fmt: skip

    yield run_vessel
    images.engine.run("rm", "--force", name, expect=None)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "role"), [("batos.kernel", "kernel"), ("batos.bus", "bus"), ("batos.image", "image")]
)
def test_keys_that_are_not_mounted(run: Run, module: str, role: str) -> None:
    """The line names the file, the command that makes it and where it is to be mounted."""
    done = run(module, role, "--tmpfs", f"{HOME}:uid={USER}", mount_keys=False)
    assert done.returncode == 2
    assert "/run/batos/keys/bus.public cannot be read" in last_line(done)
    assert "batos keys make" in last_line(done)


def test_a_storage_that_cannot_be_meant(run: Run) -> None:
    """The line repeats the address and says what is wrong with it."""
    done = run("batos.kernel", "kernel", "--tmpfs", f"{HOME}:uid={USER}", BATOS_IMAGE_URI="zeo://image:9991")
    assert done.returncode == 1
    assert "'zeo://image:9991' is no address of an image" in last_line(done)
    assert "TLS only" in last_line(done)


def test_an_engine_for_a_gpu_without_one(run: Run) -> None:
    """The line says that there is no GPU, and what to give the container or to set."""
    done = run("batos.persona_inference", "inference", "--tmpfs", f"{HOME}:uid={USER}", image="inference-vllm")
    assert done.returncode == 1
    assert "this machine shows no GPU" in last_line(done)
    assert "--gpus all" in last_line(done)


def test_a_home_that_is_not_mounted(run: Run) -> None:
    """The line says that it cannot be written, and what to mount."""
    done = run("batos.image", "image", BATOS_IMAGE_LISTEN="127.0.0.1:9991")
    assert done.returncode == 2
    assert f"{HOME} cannot be written; mount a volume there" in last_line(done)


def test_a_home_of_another_user(run: Run) -> None:
    """The line says which folder, whose it is and whose it has to be."""
    done = run("batos.image", "image", "--tmpfs", f"{HOME}:uid=0,mode=0755", BATOS_IMAGE_LISTEN="127.0.0.1:9991")
    assert done.returncode == 2
    assert f"{HOME} is user 0's, and this process is user {USER}" in last_line(done)
    assert "let this user own the folder or volume" in last_line(done)


@pytest.mark.parametrize(
    ("name", "value"), [("BATOS_METRICS_PORT", "5701"), ("BATOS_BUS_CONTROL", "tcp://127.0.0.1:5701")]
)
def test_a_port_that_is_taken(run: Run, name: str, value: str) -> None:
    """The line says which one."""
    done = run("batos.bus", "bus", "--tmpfs", f"{HOME}:uid={USER}", **{name: value})
    assert done.returncode == 1
    assert "5701" in last_line(done)


def test_a_secret_that_everybody_can_read(run: Run, keys: Path, tmp_path: Path) -> None:
    """It is no secret: the vessel does not start with it."""
    open_keys = tmp_path / "keys"
    shutil.copytree(keys / "kernel", open_keys)
    (open_keys / "kernel.secret").chmod(0o644)
    given_away(open_keys)
    done = run(
        "batos.kernel", "kernel", "-v", f"{open_keys}:/open:ro", "--tmpfs", f"{HOME}:uid={USER}", BATOS_KEYS="/open"
    )
    assert done.returncode == 1
    assert "/open/kernel.secret can be read by everybody" in last_line(done)


def test_compose_shows_which_container_fails(images: Images) -> None:
    """With a wrong address of the image its clients are started again and again, the others are healthy."""
    project = images.project("fault", BATOS_IMAGE_URI="zeo://image:9991")
    try:
        project.run("up", "--detach", "image", "bus", "curator", timeout=240)
        wait_for("the curator to say why", lambda: "TLS only" in project.run("logs", "curator").stdout)
        found = project.containers()
        assert {found[name]["Health"] for name in ("image", "bus")} == {"healthy"}
        assert found["curator"]["Health"] != "healthy"
    finally:
        project.run("down", "--volumes", timeout=120)
    assert project.left() == {}
