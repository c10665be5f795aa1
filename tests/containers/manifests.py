"""Kubernetes manifests as tests look at them: rendered, sorted by kind, workloads with their pods and containers."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"
WORKLOAD_KINDS = ("Deployment", "StatefulSet", "Pod", "CronJob")
KINDS = (
    *WORKLOAD_KINDS,
    *("ConfigMap", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget", "Secret", "Service"),
    "ServiceAccount",
)
"""All that the rules know; what is of another kind nobody would have looked at."""
RENDER_TIMEOUT_S = 60

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]+))?")
"""Of the grammar in Kubernetes' API: a signed number, then a binary suffix, a decimal one or an exponent."""
_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def render(folder: Path) -> list[Manifest]:
    """Return what `kubectl kustomize` makes of a folder."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=RENDER_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def read(text: str) -> list[Manifest]:
    """Return the manifests of a YAML stream."""
    return [manifest for manifest in yaml.safe_load_all(text) if manifest is not None]


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Return those of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest | None:
    """Return the one of a kind with a name, if it is there."""
    return next((found for found in of_kind(manifests, kind) if found["metadata"]["name"] == name), None)


def title(manifest: Manifest) -> str:
    """Return how a manifest is called in a fault."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


@dataclass(frozen=True)
class Workload:
    """What makes pods.

    Attributes:
        manifest: the whole of it.
        labels: of its pods.
        pod: the pods' spec.
        claims: names of its claim templates.
    """

    manifest: Manifest
    labels: Mapping[str, str]
    pod: Manifest
    claims: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def title(self) -> str:
        return title(self.manifest)

    @property
    def is_job(self) -> bool:
        return bool(self.manifest["kind"] == "CronJob")

    @property
    def replicas(self) -> int:
        return int(self.manifest["spec"].get("replicas", 1))

    @property
    def volumes(self) -> list[Manifest]:
        return list(self.pod.get("volumes", []))

    def containers(self) -> list[Manifest]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]


def workloads(manifests: Iterable[Manifest]) -> list[Workload]:
    """Return all that makes pods."""
    found = []
    for manifest in of_kind(manifests, *WORKLOAD_KINDS):
        whole = manifest
        if manifest["kind"] == "CronJob":
            whole = manifest["spec"]["jobTemplate"]["spec"]["template"]
        elif manifest["kind"] != "Pod":
            whole = manifest["spec"]["template"]
        claims = manifest["spec"].get("volumeClaimTemplates", [])
        labels = whole["metadata"].get("labels", {})
        found.append(Workload(manifest, labels, whole["spec"], tuple(claim["metadata"]["name"] for claim in claims)))
    return found


def vessels(manifests: Iterable[Manifest]) -> list[Workload]:
    """Return the workloads that are parts of a fleet."""
    return [workload for workload in workloads(manifests) if workload.labels.get(PART_OF) == "batos"]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (`matchLabels`, `matchExpressions`) selects these labels; an empty one selects all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", []))


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    found, values = labels.get(expression["key"]), expression.get("values", [])
    verdicts = {
        "In": found in values,
        "NotIn": found not in values,
        "Exists": found is not None,
        "DoesNotExist": found is None,
    }
    return verdicts[expression["operator"]]


def quantity(value: object) -> Decimal:
    """Return a quantity as a number.

    Raises:
        ValueError: it is none.
    """
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{value!r} is no quantity")
    number, suffix, exponent = found.groups()
    if suffix in _BINARY:
        return Decimal(number) * _BINARY[suffix]
    return Decimal(number).scaleb(_DECIMAL[suffix] if suffix else int(exponent or 0))


def quantities(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield place and text of every quantity below a node."""
    if isinstance(node, Mapping):
        for key, inner in node.items():
            here = f"{path}.{key}" if path else str(key)
            if key in {"requests", "limits"} and isinstance(inner, Mapping):
                yield from ((f"{here}.{resource}", value) for resource, value in inner.items())
            elif key == "sizeLimit":
                yield here, inner
            else:
                yield from quantities(inner, here)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, inner in enumerate(node):
            yield from quantities(inner, f"{path}[{index}]")


def references(workload: Workload) -> Iterator[tuple[str, str, str | None]]:
    """Yield kind, name and key (None: the whole of it) of each ConfigMap and Secret that the pods need."""
    for volume in workload.volumes:
        yield from _volume_references(volume)
    for container in workload.containers():
        for entry in container.get("envFrom", []):
            for kind, source in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if source in entry:
                    yield kind, entry[source]["name"], None
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for kind, key_of in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                if key_of in source:
                    yield kind, source[key_of]["name"], source[key_of]["key"]


def _volume_references(volume: Manifest) -> Iterator[tuple[str, str, str | None]]:
    for kind, source, name in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
        if source in volume:
            yield kind, volume[source][name], None
            yield from ((kind, volume[source][name], item["key"]) for item in volume[source].get("items", []))


def environment(workload: Workload, manifests: Iterable[Manifest], brought: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a workload's first container as the cluster would make it.

    Args:
        workload: whose.
        manifests: with the ConfigMaps.
        brought: values of Secrets that an operator brings, by `name/key`.
    """
    manifests = list(manifests)
    container = workload.pod["containers"][0]
    result: dict[str, str] = {}
    for entry in container.get("envFrom", []):
        found = named(manifests, "ConfigMap", entry["configMapRef"]["name"]) or {}
        result.update(found.get("data", {}))
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "configMapKeyRef" in source:
            found = named(manifests, "ConfigMap", source["configMapKeyRef"]["name"]) or {}
            value = found.get("data", {}).get(source["configMapKeyRef"]["key"], "")
        elif "secretKeyRef" in source:
            value = brought[f"{source['secretKeyRef']['name']}/{source['secretKeyRef']['key']}"]
        elif "fieldRef" in source:
            value = f"{workload.name}-0" if source["fieldRef"]["fieldPath"] == "metadata.name" else ""
        elif "resourceFieldRef" in source:
            field, _, resource = source["resourceFieldRef"]["resource"].partition(".")
            value = str(math.ceil(quantity(container["resources"][field][resource])))
        else:
            value = variable["value"]
        result[variable["name"]] = value
    return result
