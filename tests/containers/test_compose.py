"""The whole fleet by `docker compose`: images of the shipped Dockerfile, the shipped file, the real embedded model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers.compose_fleet import ComposeFleet, answer, console
from containers.conftest import Images
from containers.container_engine import CHECKOUT
from local_fleet import wait_for

# Building every image, and bringing up the first fleet, belong to the first test that runs.
pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]

KERNELS = ("kernel-1", "kernel-2")
VESSELS = ("bus", "curator", "forge", "image", "inference", *KERNELS, "supervisor")
BACKUPS = "/backups"
MISSIONS = (
    "Why do ships have several separate compartments in the hull?",
    "What should a lighthouse keeper write down every evening?",
    "How would you explain tides to a child?",
)


@pytest.fixture(scope="module")
def fleet(images: Images) -> Iterator[ComposeFleet]:
    """The fleet, up and healthy; afterwards everything is taken down, and nothing of it may be left."""
    found = images.project("fleet")
    try:
        up = found.run("up", "--detach", "--wait", "--wait-timeout", "240", timeout=300, expect=None)
        logs = "" if up.returncode == 0 else found.run("logs", "--tail", "15").stdout
        assert up.returncode == 0, f"{up.stderr[-3000:]}\n{logs[-6000:]}"
        yield found
    finally:
        found.run("--profile", "*", "down", "--volumes", timeout=240)
    assert found.left() == {}


def healthy(fleet: ComposeFleet) -> None:
    """Wait until every container is up and healthy again, so that tests do not see each other's damage."""
    fleet.run("up", "--detach", "--no-recreate", "--wait", "--wait-timeout", "120", timeout=180)


def asked(fleet: ComposeFleet) -> list[subprocess.Popen[str]]:
    return [fleet.start(*console("ask", text)) for text in MISSIONS]


def answered(asking: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    found = []
    for process in asking:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, f"{out}\n{err}"
        found.append(answer(out))
    return found


def test_every_vessel_is_there_and_healthy(fleet: ComposeFleet) -> None:
    """One container a vessel, healthy by its own check; the keys' job ended well; nothing is published to a network."""
    healthy(fleet)
    found = fleet.containers()
    assert {name for name, one in found.items() if one["Health"] == "healthy"} == set(VESSELS)
    assert (found["keys"]["State"], found["keys"]["ExitCode"]) == ("exited", 0)
    assert not [one for one in found.values() for port in one["Publishers"] or () if port["PublishedPort"]]
    status = fleet.batos("status")
    assert {vessel["name"]: vessel["ready"] for vessel in status["vessels"]} == dict.fromkeys(VESSELS, True)


def test_a_mission_is_asked_through_the_console(fleet: ComposeFleet) -> None:
    """Answered by the whole fleet, with all that an answer says about itself."""
    healthy(fleet)
    found = fleet.batos("ask", "What is a tide? Answer in one sentence.")
    assert found["outcome"] == "COMPLETE"
    assert found["answer"].strip()
    assert len(found["tid"]) == 16
    assert found["kernel"] in KERNELS
    assert found["usage"]["completion_tokens"] > 0


def test_containers_may_do_what_they_must_and_no_more(fleet: ComposeFleet) -> None:
    """No root, no capability, nothing written but the home and /tmp, no secret key but the vessel's own."""
    healthy(fleet)
    for name in VESSELS:
        found = fleet.inspect(name)
        assert found["Config"]["User"] == "10001:10001", name
        host = found["HostConfig"]
        assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"]), name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Memory"] > 0, name
        writable = {mount["Destination"] for mount in found["Mounts"] if mount["RW"]} | set(host["Tmpfs"] or {})
        own = {"/backups"} if name == "image" else set()
        assert writable == {"/var/lib/batos", "/tmp", *own}, name  # noqa: S108 - the containers' own
        keys = fleet.inside(name, "ls", "/run/batos/keys").stdout.split()
        role = "kernel" if name in KERNELS else name
        assert [key for key in keys if key.endswith(".secret")] == [f"{role}.secret"], name
    refused = fleet.inside("kernel-1", "touch", "/opt/batos/x", expect=1)
    assert "Read-only file system" in refused.stderr


def test_a_restarted_kernel_loses_no_mission(fleet: ComposeFleet) -> None:
    """`docker compose restart` of one kernel while missions are asked: each is answered."""
    healthy(fleet)
    asking = asked(fleet)
    fleet.run("restart", "kernel-1", timeout=200)
    assert {found["outcome"] for found in answered(asking)} == {"COMPLETE"}


def test_a_killed_kernel_loses_no_mission(fleet: ComposeFleet) -> None:
    """A kernel's container is killed while it runs a mission: the other kernel answers it all the same."""
    healthy(fleet)
    asking = asked(fleet)
    running: list[str] = []

    def is_running() -> bool:
        missions = fleet.batos("mission", "list", "--limit", "10")["missions"]
        running[:] = [mission["kernel"] for mission in missions if mission["state"] == "RUNNING"]
        return bool(running)

    wait_for("a mission to run", is_running)
    fleet.run("kill", running[0])
    found = answered(asking)
    assert {one["outcome"] for one in found} == {"COMPLETE"}
    assert {one["kernel"] for one in found} - {running[0]}


def test_the_kernels_are_rolled_under_load(fleet: ComposeFleet) -> None:
    """`batos roll kernel`: each drained kernel ends, its container is started again, and every mission is answered."""
    healthy(fleet)
    before = {vessel["name"]: vessel["incarnation"] for vessel in fleet.batos("status")["vessels"]}
    asking = asked(fleet)
    planks = fleet.batos("roll", "kernel")["planks"]
    assert {found["outcome"] for found in answered(asking)} == {"COMPLETE"}
    assert {plank["name"]: plank["old"] for plank in planks} == {name: before[name] for name in KERNELS}
    after = {vessel["name"]: vessel["incarnation"] for vessel in fleet.batos("status")["vessels"]}
    assert {plank["name"]: plank["new"] for plank in planks} == {name: after[name] for name in KERNELS}


def test_prometheus_finds_each_vessel_under_the_name_that_it_is_given(fleet: ComposeFleet) -> None:
    """Every target of the shipped configuration answers inside the fleet's network, with its own vessel's figures."""
    healthy(fleet)
    configuration = yaml.safe_load((CHECKOUT / "deploy" / "observability" / "prometheus.yml").read_text())
    static = [entry for job in configuration["scrape_configs"] for entry in job["static_configs"]]
    targets = {entry["labels"]["vessel"]: target for entry in static for target in entry["targets"]}
    assert set(targets) == set(VESSELS)
    read = "import sys, urllib.request; print(urllib.request.urlopen(f'http://{sys.argv[1]}/metrics').read().decode())"
    for name, target in targets.items():
        page = fleet.inside("supervisor", "python", "-c", read, target).stdout
        assert f'name="{name}"' in page, target
        assert "batos_vessel_ready 1.0" in page, target


def test_what_the_fleet_is_outlives_its_containers(fleet: ComposeFleet) -> None:
    """Containers are removed and made anew over the same volumes: the same mind, its missions and its keys."""
    healthy(fleet)
    mission = fleet.batos("ask", "What is a lighthouse?")["mission_id"]
    key = fleet.inside("bus", "cat", "/run/batos/keys/bus.public").stdout
    fleet.run("down", timeout=240)
    healthy(fleet)
    assert fleet.batos("mission", "show", mission)["outcome"] == "COMPLETE"
    assert fleet.inside("bus", "cat", "/run/batos/keys/bus.public").stdout == key


def test_the_mind_comes_back_from_a_backup(fleet: ComposeFleet) -> None:
    """A backup through the console's container; then the image's volume is removed, and made anew from the backup."""
    healthy(fleet)
    mission = fleet.batos("ask", "What is a harbour?")["mission_id"]
    first = fleet.batos("image", "backup", BACKUPS)
    made = fleet.batos("image", "backup", BACKUPS)
    assert (first["kind"], made["kind"] in {"incremental", "unchanged"}) == ("full", True)
    doctor = fleet.batos("doctor", "--free-gb", "0")
    assert doctor["wrong"] == 0, doctor
    assert [one["level"] for one in doctor["findings"] if one["about"] == "backup"] == ["well"]
    refused = fleet.run(*console("image", "backup", "/elsewhere"), expect=None)
    assert refused.returncode == 1, refused.stdout

    fleet.run("down", timeout=240)
    fleet.engine.run("volume", "rm", f"{fleet.project}_image")
    restore = ("batos", "image", "restore", BACKUPS, "--into", "/var/lib/batos", "--json")
    restored = answer(fleet.run("run", "--rm", "--no-deps", "-T", "image", *restore).stdout)
    assert (restored["root_hash"], restored["compared"]) == (made["root_hash"], True)
    healthy(fleet)
    assert fleet.batos("mission", "show", mission)["outcome"] == "COMPLETE"


def test_backups_may_go_to_a_folder_of_this_machine(images: Images, tmp_path: Path) -> None:
    """Which one, a variable says; else they have a volume of their own."""
    for given, wanted in (({}, "backups"), ({"BATOS_DEPLOY_BACKUPS": str(tmp_path)}, str(tmp_path))):
        services = images.project("backups", **given).config()["services"]
        mounts = {volume["target"]: volume["source"] for volume in services["image"]["volumes"]}
        assert mounts[BACKUPS] == wanted
        assert not [name for name, one in services.items() if name != "image" and BACKUPS in str(one.get("volumes"))]


def test_the_console_is_told_of_an_image_in_a_database() -> None:
    """As all who open it: no vessel could be asked for its care. Of the image's own vessel it needs no address."""
    services = yaml.safe_load((CHECKOUT / "deploy" / "docker-compose.yml").read_text())["services"]
    told = {name: one.get("environment", {}).get("BATOS_IMAGE_URI") for name, one in services.items()}
    assert told.pop("console") == "${BATOS_IMAGE_URI:-}"
    clients = {name: uri for name, uri in told.items() if uri is not None}
    assert set(clients) == {*KERNELS, "curator", "forge", "inference", "inference-gpu"}
    assert {uri[: len("${BATOS_IMAGE_URI:-zeo:")] for uri in clients.values()} == {"${BATOS_IMAGE_URI:-zeo:"}


def test_the_gpu_profile_is_vllm_with_a_reservation(images: Images, tmp_path: Path) -> None:
    """In place of the embedded engine; model, quantization, parallelism and cache come from variables."""
    project = images.project(
        "gpu",
        BATOS_DEPLOY_MODEL=str(tmp_path),
        BATOS_DEPLOY_GPUS="2",
        BATOS_DEPLOY_VLLM_CACHE="/srv/cache",
        BATOS_INFERENCE_VLLM_QUANTIZATION="awq",
        BATOS_INFERENCE_VLLM_TENSOR_PARALLEL="2",
    )
    services = project.config("--profile", "gpu")["services"]
    assert "inference" not in services
    engine = services["inference-gpu"]
    (device,) = engine["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 2, ["gpu"])
    wanted = {"BATOS_INFERENCE_VLLM_QUANTIZATION": "awq", "BATOS_INFERENCE_VLLM_TENSOR_PARALLEL": "2"}
    assert engine["environment"].items() >= wanted.items()
    mounts = {volume["target"]: volume["source"] for volume in engine["volumes"]}
    assert mounts["/models/model"] == str(tmp_path)
    assert mounts["/var/lib/batos/vllm"] == "/srv/cache"
    assert "inference" in engine["networks"]["default"]["aliases"]


def test_the_shipped_file_stands_alone(images: Images) -> None:
    """Without the tests' override it is valid in every profile, and its default is the whole fleet."""
    for profile in ("llama", "gpu", "console", "observability"):
        images.engine.run(
            "compose", "-f", str(CHECKOUT / "deploy/docker-compose.yml"), "--profile", profile, "config", "-q"
        )
    whole = images.engine.run(
        "compose", "-f", str(CHECKOUT / "deploy/docker-compose.yml"), "config", "--format", "json"
    )
    assert set(json.loads(whole.stdout)["services"]) == {*VESSELS, "keys"}
