"""The manifests under deploy/k8s: every overlay rendered, valid, and fitting together and to the code."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import kubernetes_validate
import pytest
from containers import manifest_rules, network_rules, vessel_rules
from containers.manifests import (
    NAME,
    Manifest,
    environment,
    matches,
    named,
    of_kind,
    quantity,
    render,
    vessels,
    workloads,
)

from batos.console.keys import ROLES, make_keys

CHECKOUT = Path(__file__).resolve().parents[2]
MANIFESTS = CHECKOUT / "deploy" / "k8s"
KEYS = Path("components/keys/roles")
OVERLAYS = ("laptop", "workstation", "production")
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the oldest and the newest that the manifests are validated for."""
BUS_PORTS = (5701, 5702, 5703, 5704)
IMAGE_PORT, METRICS_PORT, DNS_PORT, POSTGRESQL_PORT = 9991, 9100, 53, 5432
IMAGE_CLIENTS = {"kernel", "inference", "curator", "forge"}
DATABASE_CLIENTS = {*IMAGE_CLIENTS, "console"}
"""The console, too: there is no vessel that cares for a database in its place."""
PROMETHEUS = "monitoring/prometheus"
NAME_SERVER = "kube-system/kube-dns"
RULES = (*manifest_rules.RULES, *vessel_rules.RULES, *network_rules.RULES)

Rendered = Mapping[str, list[Manifest]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests with keys of a fleet of their own."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the manifests cannot be rendered")
    folder = tmp_path_factory.mktemp("k8s")
    shutil.copytree(
        MANIFESTS, folder, dirs_exist_ok=True, ignore=lambda path, _: ["roles"] if path.endswith("keys") else []
    )
    make_keys(folder / KEYS)
    return folder


@pytest.fixture(scope="module")
def rendered(tree: Path) -> Rendered:
    """Each overlay, as it would be applied."""
    return {name: render(tree / "overlays" / name) for name in OVERLAYS}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid(rendered: Rendered, overlay: str, version: str) -> None:
    """Kubernetes' own schemas, without additional properties, take every manifest."""
    for manifest in rendered[overlay]:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_keeps_a_rule(rendered: Rendered, overlay: str, rule: Callable[[list[Manifest]], list[str]]) -> None:
    """What no schema can see holds in every overlay."""
    assert rule(rendered[overlay]) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_reaches_whom(rendered: Rendered, overlay: str) -> None:
    """The bus is everybody's, the image its clients', metrics Prometheus's; nothing else can be reached."""
    manifests = rendered[overlay]
    fleet = {vessel.labels[NAME] for vessel in vessels(manifests)}
    found = network_rules.reach(manifests)
    expected = {("bus", port): fleet for port in BUS_PORTS}
    expected |= {(name, METRICS_PORT): {PROMETHEUS} for name in fleet - {"console"}}
    expected[NAME_SERVER, DNS_PORT] = fleet
    if overlay == "production":
        databases = {where: who for (where, port), who in found.items() if port == POSTGRESQL_PORT}
        assert "postgresql" in databases
        expected |= {(where, POSTGRESQL_PORT): DATABASE_CLIENTS for where in databases}
    else:
        expected["image", IMAGE_PORT] = IMAGE_CLIENTS
    assert found == expected


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_are_there(rendered: Rendered, overlay: str) -> None:
    """Every vessel, in one namespace; kernels with a budget and a log volume each; the mind alone on its own volume."""
    manifests = rendered[overlay]
    assert {manifest["metadata"].get("namespace") for manifest in manifests if manifest["kind"] != "Namespace"} == {
        "batos"
    }
    fleet = {vessel.labels[NAME]: vessel for vessel in vessels(manifests)}
    stored = {"kernel", "forge"} if overlay == "production" else {"kernel", "forge", "image"}
    assert set(fleet) == set(ROLES) - ({"image"} if overlay == "production" else set())
    assert {name for name, vessel in fleet.items() if vessel.claims == ("home",)} == stored
    assert fleet["kernel"].manifest["spec"]["podManagementPolicy"] == "Parallel"
    budgets = of_kind(manifests, "PodDisruptionBudget")
    guarded = [
        name
        for name, vessel in fleet.items()
        for budget in budgets
        if matches(budget["spec"]["selector"], vessel.labels)
    ]
    assert guarded == ["kernel"]


def test_the_laptop(rendered: Rendered) -> None:
    """The embedded engine answers, two kernels think, and all requests together fit on a small machine."""
    fleet = {vessel.name: vessel for vessel in vessels(rendered["laptop"])}
    assert fleet["kernel"].replicas == 2
    assert fleet["inference"].pod["containers"][0]["image"].startswith("batos/inference-llama:")
    assert vessel_rules.gpus(rendered["laptop"]) == {}
    requests = [(vessel.replicas, vessel.pod["containers"][0]["resources"]["requests"]) for vessel in fleet.values()]
    assert sum(count * quantity(request["cpu"]) for count, request in requests) < 1
    assert sum(count * quantity(request["memory"]) for count, request in requests) < 2.5e9


def test_the_workstation(rendered: Rendered) -> None:
    """VLLM has the one GPU, and the forge trains the very model that it serves."""
    manifests = rendered["workstation"]
    fleet = {vessel.name: vessel for vessel in vessels(manifests)}
    assert vessel_rules.gpus(manifests) == {"inference": 1}
    engine = fleet["inference"].pod["containers"][0]
    assert engine["image"].startswith("batos/inference-vllm:")
    assert engine["command"][0] == "/opt/batos/bin/python"
    told = {name: environment(fleet[name], manifests, {}) for name in ("inference", "forge")}
    assert told["inference"]["BATOS_INFERENCE_ENGINE"] == "vllm"
    assert told["inference"]["BATOS_INFERENCE_VLLM_PYTHON"] == "/usr/bin/python3"
    assert told["inference"]["BATOS_INFERENCE_MODEL"] == told["forge"]["BATOS_FORGE_MODEL"] != ""


def test_production(rendered: Rendered) -> None:
    """No storage vessel and nothing of it is left; four kernels; the database's address is a Secret's."""
    manifests = rendered["production"]
    fleet = {vessel.name: vessel for vessel in vessels(manifests)}
    assert fleet["kernel"].replicas == 4
    assert [manifest for manifest in manifests if "image" in manifest["metadata"]["name"].split("-")] == []
    for name in DATABASE_CLIENTS:
        variables = {entry["name"]: entry for entry in fleet[name].pod["containers"][0]["env"]}
        reference = variables["BATOS_IMAGE_URI"]["valueFrom"]
        assert reference == {"secretKeyRef": {"name": "batos-database", "key": "uri"}}


def test_keys_are_those_that_are_made(tree: Path, rendered: Rendered) -> None:
    """Each role's Secret holds just the files that `batos keys make` makes for it."""
    for role in ROLES:
        made = {path.name for path in (tree / KEYS / role).iterdir()}
        secrets = [
            secret
            for secret in of_kind(rendered["laptop"], "Secret")
            if secret["metadata"]["name"].startswith(f"keys-{role}-")
        ]
        assert [set(secret["data"]) for secret in secrets] == [made]


def test_keys_are_never_committed() -> None:
    """Git ignores what `batos keys make` writes there."""
    path = MANIFESTS / KEYS / "kernel" / "kernel.secret"
    done = subprocess.run(
        ["git", "check-ignore", "--quiet", str(path)], cwd=CHECKOUT, capture_output=True, timeout=30, check=False
    )
    if done.returncode not in {0, 1}:
        pytest.skip("this is no git checkout")
    assert done.returncode == 0


def test_nothing_renders_without_keys(tree: Path, tmp_path: Path) -> None:
    """A fleet without keys would be applied and then hang: it is refused before."""
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True, ignore=lambda *_: ["roles"])
    with pytest.raises(AssertionError, match=r"components/keys/roles/image/image\.secret"):
        render(tmp_path / "overlays" / "laptop")


@pytest.fixture(scope="module", params=["laptop", "workstation"])
def with_backups(tree: Path, request: pytest.FixtureRequest) -> list[Manifest]:
    """An overlay to which the component of backups was added, as docs/kubernetes.md says."""
    folder = tree / "overlays" / f"{request.param}-with-backups"
    shutil.copytree(tree / "overlays" / request.param, folder)
    file = folder / "kustomization.yaml"
    before = "  - ../../components/images\n"
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, f"  - ../../components/backups\n{before}"))
    return render(folder)


def test_backups_can_be_asked_for_every_night(with_backups: list[Manifest]) -> None:
    """By a job with the console's key, which reaches the bus and nothing else; the image alone mounts the volume."""
    for manifest in with_backups:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
    for rule in RULES:
        assert rule(with_backups) == [], rule.__name__
    found = network_rules.reach(with_backups)
    assert {where for where, who in found.items() if "backup" in who} == {
        *(("bus", port) for port in BUS_PORTS),
        (NAME_SERVER, DNS_PORT),
    }
    assert {where for where in found if where[0] == "backup"} == set()
    pods = {one.name: one for one in workloads(with_backups)}
    (command,) = [container["command"] for container in pods["backup"].containers()]
    folder = command[command.index("backup") + 1]
    assert {
        (one.name, mount["mountPath"], mount.get("readOnly", False))
        for one in pods.values()
        for volume in one.volumes
        if volume.get("persistentVolumeClaim", {}).get("claimName") == "backups"
        for container in one.containers()
        for mount in container["volumeMounts"]
        if mount["name"] == volume["name"]
    } == {("image", folder, False)}


def test_backups_are_asked_for_by_those_who_want_them(rendered: Rendered) -> None:
    """No overlay has the job or the volume by itself."""
    for manifests in rendered.values():
        assert of_kind(manifests, "CronJob") == []
        assert named(manifests, "PersistentVolumeClaim", "backups") is None


def test_the_pod_that_restores_the_image(tree: Path, with_backups: list[Manifest]) -> None:
    """It mounts the image's volume and, for reading only, that of the backups; locked in like a vessel."""
    pod = render(tree / "restore-image")
    for manifest in pod:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    together = [*with_backups, *pod]
    for rule in RULES:
        assert rule(together) == [], rule.__name__
    (one,) = workloads(pod)
    claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in one.volumes}
    mounts = {claims[mount["name"]]: mount for mount in one.containers()[0]["volumeMounts"]}
    assert mounts["home-image-0"]["mountPath"] == vessel_rules.BY_IMAGE["BATOS_HOME"]
    assert mounts["backups"]["readOnly"] is True


def test_the_pod_that_brings_a_model(tree: Path, rendered: Rendered) -> None:
    """It mounts the models' volume of the overlays with vLLM, locked in like a vessel, with the fleet's own image."""
    loader = render(tree / "load-model")
    for manifest in loader:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    together = [*rendered["workstation"], *loader]
    for rule in RULES:
        assert rule(together) == [], rule.__name__
    assert named(rendered["workstation"], "PersistentVolumeClaim", "models") is not None
    used = {container["image"] for one in workloads(rendered["workstation"]) for container in one.containers()}
    assert {container["image"] for one in workloads(loader) for container in one.containers()} <= used
