"""Rules that hold for every vessel on a cluster: how it is locked in, asked, told and ended.

Each rule takes all manifests of one rendering and returns its faults, in words; none is good.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from containers.manifests import (
    NAME,
    Manifest,
    Workload,
    environment,
    of_kind,
    quantity,
    title,
    vessels,
    workloads,
)

from batos.bus.settings import BusSettings
from batos.console.settings import ConsoleSettings
from batos.curator.settings import CuratorSettings
from batos.forge_trainer.settings import ForgeSettings
from batos.image.settings import ImageSettings
from batos.kernel.settings import KernelSettings
from batos.persona_inference.settings import InferenceSettings
from batos.supervisor.settings import SupervisorSettings
from batos.vessel import SettingsError, VesselSettings, load_settings

SETTINGS: Mapping[str, type[VesselSettings]] = {
    "image": ImageSettings,
    "bus": BusSettings,
    "kernel": KernelSettings,
    "inference": InferenceSettings,
    "curator": CuratorSettings,
    "forge": ForgeSettings,
    "supervisor": SupervisorSettings,
    "console": ConsoleSettings,
    "backup": ConsoleSettings,
}
KEY_ROLES = {"backup": "console"}
"""Whose keys a workload has that is no vessel."""
PREFIX = "BATOS_"
USER = 10001
KEYS = "/run/batos/keys"
KEYS_MODE = 0o440
WRITABLE = ("/var/lib/batos", "/tmp", "/dev/shm")  # noqa: S108 - places in a container
BACKUPS = "/backups"
"""Where the image's vessel may write, too."""
PODS_WRITE = {"load-model": ("/models",), "restore-image": ("/var/lib/batos", "/tmp")}  # noqa: S108 - as above
"""Where pods that bring something may write."""
CHECKS = {"image": ["python", "-m", "batos.image.check"], "bus": ["python", "-m", "batos.bus.check"]}
PROGRESS_S = 600
"""After which the cluster gives a rollout up, unless it is told otherwise."""
WITHOUT_PAGES = "console"
"""Waits for a person; what runs in it is started by that person."""
BY_IMAGE = {"BATOS_HOME": "/var/lib/batos", "BATOS_KEYS": KEYS}
"""What the container images set themselves."""
BROUGHT = {"batos-database/uri": "postgresql://user:password@host/batos"}


def hardened(manifests: Sequence[Manifest]) -> list[str]:
    """No root, no capability, nothing written but the vessel's own volume and memory, no token, no service links."""
    faults = []
    for workload in workloads(manifests):
        pod = workload.pod
        wanted: dict[str, Any] = {
            "runAsNonRoot": True,
            **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), USER),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        faults += _unlike(workload, "pod", wanted, pod.get("securityContext", {}))
        faults += _unlike(workload, "pod", {"automountServiceAccountToken": False, "enableServiceLinks": False}, pod)
        faults += [f"{workload.title}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
        faults += [
            f"{workload.title}: hostPath {volume['name']}" for volume in workload.volumes if "hostPath" in volume
        ]
        for container in workload.containers():
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            faults += _unlike(workload, "container", wanted, container.get("securityContext", {}))
            if container.get("securityContext", {}).get("privileged"):
                faults.append(f"{workload.title}: privileged")
            faults += [f"{workload.title}: can write {place}" for place in _written(workload, container)]
    return faults


def _unlike(workload: Workload, where: str, wanted: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in wanted.items():
        if given.get(key) != value:
            yield f"{workload.title}: {where}'s {key} is {given.get(key)!r}, not {value!r}"


def _written(workload: Workload, container: Manifest) -> list[str]:
    allowed = WRITABLE if workload.manifest["kind"] != "Pod" else PODS_WRITE.get(workload.name, ())
    if workload.labels.get(NAME) == "image":
        allowed = (*allowed, BACKUPS)
    places = [mount["mountPath"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")]
    return [place for place in places if place not in allowed]


def volumes_are_taken_as_they_are(manifests: Sequence[Manifest]) -> list[str]:
    """Who owns a volume's files is looked at once, not file by file at each start: blobs and backups are many."""
    return [
        fault
        for workload in workloads(manifests)
        for fault in _unlike(
            workload, "pod", {"fsGroupChangePolicy": "OnRootMismatch"}, workload.pod.get("securityContext", {})
        )
    ]


def probed(manifests: Sequence[Manifest]) -> list[str]:
    """Pages tell who is alive; stores are asked in their own protocol whether they are ready."""
    faults = []
    for workload in vessels(manifests):
        name = workload.labels[NAME]
        for container in workload.containers() if not workload.is_job else ():
            probes = {kind: container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")}
            wanted = {"readiness"} if name == WITHOUT_PAGES else set(probes)
            faults += [f"{workload.title}: no {kind} probe" for kind in sorted(wanted) if not probes[kind]]
            faults += [
                f"{workload.title}: the {kind} probe may take longer than until the next one"
                for kind, probe in probes.items()
                if probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10)
            ]
            if name == WITHOUT_PAGES:
                continue
            if probes["liveness"].get("httpGet", {}).get("path") != "/healthz":
                faults.append(f"{workload.title}: liveness does not ask /healthz")
            command = probes["readiness"].get("exec", {}).get("command")
            page = probes["readiness"].get("httpGet", {}).get("path")
            if command != CHECKS.get(name) or page != (None if name in CHECKS else "/readyz"):
                faults.append(f"{workload.title}: readiness asks {command or page}")
    return faults


def bounded(manifests: Sequence[Manifest]) -> list[str]:
    """Each container says what it needs and what it may take."""
    return [
        f"{workload.title}: no {resource} in {kind}"
        for workload in workloads(manifests)
        for container in workload.containers()
        for kind in ("requests", "limits")
        for resource in ("cpu", "memory")
        if resource not in container.get("resources", {}).get(kind, {})
    ]


def told_what_they_know(manifests: Sequence[Manifest]) -> list[str]:
    """Each BATOS_ name is a setting of that very vessel, each value within its bounds, and name and key its own."""
    faults = []
    for workload in vessels(manifests):
        kind = workload.labels[NAME]
        given = environment(workload, manifests, BROUGHT)
        unknown = [name for name in given if name.startswith(PREFIX) and not _is_setting(kind, name)]
        faults += [f"{workload.title}: {name} is no setting of {kind}" for name in unknown]
        try:
            settings = _settings(workload, manifests)
        except SettingsError as error:
            faults.append(f"{workload.title}: {error}")
            continue
        if settings.key_name != KEY_ROLES.get(kind, kind):
            faults.append(f"{workload.title}: its key is {settings.key_name!r}")
        if settings.name != (f"{kind}-0" if kind == "kernel" else kind):
            faults.append(f"{workload.title}: its name is {settings.name!r}")
    return faults


def _is_setting(kind: str, name: str) -> bool:
    return name.removeprefix(PREFIX).lower() in SETTINGS[kind].model_fields


def _settings(workload: Workload, manifests: Sequence[Manifest]) -> VesselSettings:
    given = {**BY_IMAGE, **environment(workload, manifests, BROUGHT)}
    # A batos.toml of the checkout is none of the container's.
    with contextlib.chdir("/"), mock.patch.dict(os.environ, given, clear=True):
        return load_settings(SETTINGS[workload.labels[NAME]])


def have_time(manifests: Sequence[Manifest]) -> list[str]:
    """Nobody is killed in its drain, nor in a start that the vessel itself would still wait for."""
    faults = []
    for workload in vessels(manifests):
        settings = _settings(workload, manifests)
        grace = workload.pod.get("terminationGracePeriodSeconds", 30)
        needed = settings.drain_timeout_s + settings.stop_timeout_s
        if grace <= needed:
            faults.append(f"{workload.title}: {needed:g} s of drain and stop in a grace period of {grace} s")
        allowed = _start_s(workload)
        if isinstance(settings, InferenceSettings) and settings.inference_engine == "vllm":
            needed = settings.inference_start_timeout_s
            if allowed <= needed:
                faults.append(f"{workload.title}: {allowed} s for a start that may take {needed:g} s")
        deadline = workload.manifest["spec"].get("progressDeadlineSeconds", PROGRESS_S)
        if workload.manifest["kind"] == "Deployment" and deadline <= allowed:
            faults.append(f"{workload.title}: a rollout is given up after {deadline} s, a start after {allowed} s")
    return faults


def _start_s(workload: Workload) -> int:
    """Return how long the startup probe waits; the cluster's defaults where it does not say so."""
    probe = workload.pod["containers"][0].get("startupProbe", {})
    return int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))


def have_their_keys(manifests: Sequence[Manifest]) -> list[str]:
    """Each vessel has the keys of its role and no others, read-only, and not for everybody to read."""
    faults = []
    for workload in vessels(manifests):
        secrets = {volume["name"]: volume["secret"] for volume in workload.volumes if "secret" in volume}
        roles = [secret["secretName"].removeprefix("keys-").split("-")[0] for secret in secrets.values()]
        if roles != [KEY_ROLES.get(workload.labels[NAME], workload.labels[NAME])]:
            faults.append(f"{workload.title}: has the keys of {', '.join(roles) or 'nobody'}")
            continue
        name, secret = next(iter(secrets.items()))
        mounts = [mount for mount in workload.pod["containers"][0]["volumeMounts"] if mount["name"] == name]
        if [(mount["mountPath"], mount.get("readOnly")) for mount in mounts] != [(KEYS, True)]:
            faults.append(f"{workload.title}: its keys are not at {KEYS}, read-only")
        if secret.get("defaultMode") != KEYS_MODE:
            faults.append(f"{workload.title}: the mode of its keys is {secret.get('defaultMode')!r}")
    return faults


def replaced_one_for_one(manifests: Sequence[Manifest]) -> list[str]:
    """Where there is one of a kind, its successor never stands beside it: they have one name on the bus."""
    return [
        f"{title(manifest)}: a second one of the same name would start beside it"
        for manifest in of_kind(manifests, "Deployment")
        if manifest["spec"].get("strategy", {}).get("type") != "Recreate" or manifest["spec"].get("replicas") != 1
    ]


def jobs_end(manifests: Sequence[Manifest]) -> list[str]:
    """A job by schedule ends by itself, is tried a few times only, never runs beside itself, and leaves few pods."""
    faults = []
    for workload in workloads(manifests):
        if not workload.is_job:
            continue
        spec = workload.manifest["spec"]
        job = spec["jobTemplate"]["spec"]
        wanted = {"concurrencyPolicy": "Forbid"}
        faults += _unlike(workload, "job", wanted, spec)
        faults += _unlike(workload, "pod", {"restartPolicy": "Never"}, workload.pod)
        bounds = ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
        faults += [f"{workload.title}: no {name}" for name in bounds if name not in spec]
        faults += [
            f"{workload.title}: no {name}" for name in ("activeDeadlineSeconds", "backoffLimit") if name not in job
        ]
    return faults


def gpus(manifests: Sequence[Manifest]) -> dict[str, int]:
    """Return how many GPUs each vessel asks for."""
    counts = {}
    for workload in vessels(manifests):
        limits = workload.pod["containers"][0]["resources"]["limits"]
        if "nvidia.com/gpu" in limits:
            counts[workload.name] = int(quantity(limits["nvidia.com/gpu"]))
    return counts


RULES = (
    hardened,
    volumes_are_taken_as_they_are,
    probed,
    bounded,
    told_what_they_know,
    have_time,
    have_their_keys,
    replaced_one_for_one,
    jobs_end,
)
