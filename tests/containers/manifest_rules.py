"""Rules that the schema of Kubernetes cannot hold: what one manifest says of another has to be true.

Each rule takes all manifests of one rendering and returns its faults, in words; none is good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from containers.manifests import (
    KINDS,
    Manifest,
    Workload,
    matches,
    named,
    of_kind,
    quantities,
    quantity,
    references,
    title,
    workloads,
)

BROUGHT = {("Secret", "batos-database"): {"uri"}}
"""What an operator brings, with its keys."""


def kinds_are_known(manifests: Sequence[Manifest]) -> list[str]:
    """Nothing is of a kind that no rule looks at, and nothing is there twice."""
    counts = Counter(title(manifest) for manifest in manifests)
    twice = [f"{name} is there {count} times" for name, count in counts.items() if count > 1]
    return [f"{title(manifest)}: unknown kind" for manifest in manifests if manifest["kind"] not in KINDS] + twice


def selectors_match(manifests: Sequence[Manifest]) -> list[str]:
    """A workload selects its own pods and no others; Services, budgets and affinities select pods that are there."""
    found = workloads(manifests)
    faults = []
    for one in found:
        if one.manifest["kind"] in {"Pod", "CronJob"}:
            continue
        selector = one.manifest["spec"]["selector"]
        if not matches(selector, one.labels):
            faults.append(f"{one.title}: its selector does not match its own pods")
        others = [other.title for other in found if other is not one and matches(selector, other.labels)]
        faults += [f"{one.title}: its selector matches the pods of {other}" for other in others]
    for who, selector in chain(_service_selectors(manifests), _pod_selectors(manifests)):
        if not any(matches(selector, workload.labels) for workload in found):
            faults.append(f"{who}: its selector matches no pod")
    return faults


def _service_selectors(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for service in of_kind(manifests, "Service"):
        yield title(service), {"matchLabels": service["spec"]["selector"]}
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        yield title(budget), budget["spec"]["selector"]


def _pod_selectors(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for workload in workloads(manifests):
        for constraint in workload.pod.get("topologySpreadConstraints", []):
            yield f"{workload.title}, topology spread", constraint["labelSelector"]
        for kind in ("podAffinity", "podAntiAffinity"):
            terms = workload.pod.get("affinity", {}).get(kind, {})
            for term in terms.get("requiredDuringSchedulingIgnoredDuringExecution", []):
                yield f"{workload.title}, {kind}", term["labelSelector"]
            for weighted in terms.get("preferredDuringSchedulingIgnoredDuringExecution", []):
                yield f"{workload.title}, {kind}", weighted["podAffinityTerm"]["labelSelector"]


def ports_match(manifests: Sequence[Manifest]) -> list[str]:
    """What a Service or a probe aims at is a port of the container; a StatefulSet's Service is its headless own."""
    faults = []
    for service in of_kind(manifests, "Service"):
        for workload in workloads(manifests):
            if matches({"matchLabels": service["spec"]["selector"]}, workload.labels):
                open_ports = _ports(workload.containers())
                targets = [port.get("targetPort", port["port"]) for port in service["spec"]["ports"]]
                faults += [
                    f"{title(service)}: {workload.title} has no port {target}"
                    for target in targets
                    if target not in open_ports
                ]
    for workload in workloads(manifests):
        for container in workload.containers():
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                target = container.get(probe, {}).get("httpGet", {}).get("port")
                if target is not None and target not in _ports([container]):
                    faults.append(f"{workload.title}: {probe} asks port {target}, which is none of the container's")
        if workload.manifest["kind"] == "StatefulSet":
            faults += _governing_faults(workload, manifests)
    return faults


def _ports(containers: Iterable[Manifest]) -> set[str | int]:
    ports = [port for container in containers for port in container.get("ports", [])]
    return {port["containerPort"] for port in ports} | {port["name"] for port in ports if "name" in port}


def _governing_faults(workload: Workload, manifests: Sequence[Manifest]) -> list[str]:
    service = named(manifests, "Service", workload.manifest["spec"].get("serviceName", ""))
    if service is None:
        return [f"{workload.title}: its serviceName names no Service"]
    if service["spec"].get("clusterIP") != "None":
        return [f"{workload.title}: {title(service)} is not headless"]
    if not matches({"matchLabels": service["spec"]["selector"]}, workload.labels):
        return [f"{workload.title}: {title(service)} does not select its pods"]
    return []


def mounts_match(manifests: Sequence[Manifest]) -> list[str]:
    """Each mount has its volume, each volume its mount and its claim, each place one mount."""
    faults = []
    for workload in workloads(manifests):
        volumes = [volume["name"] for volume in workload.volumes] + list(workload.claims)
        mounts = [mount for container in workload.containers() for mount in container.get("volumeMounts", [])]
        used = {mount["name"] for mount in mounts}
        faults += [f"{workload.title}: mounts {name}, which is no volume" for name in sorted(used - set(volumes))]
        faults += [f"{workload.title}: volume {name} is mounted nowhere" for name in sorted(set(volumes) - used)]
        faults += [f"{workload.title}: volume {name} is there twice" for name in _twice(volumes)]
        for container in workload.containers():
            places = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            faults += [f"{workload.title}: two mounts at {place}" for place in _twice(places)]
        for volume in workload.volumes:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and claim not in _claims(manifests):
                faults.append(f"{workload.title}: there is no claim {claim}")
    return faults


def _claims(manifests: Sequence[Manifest]) -> set[str]:
    """Return the names of all claims, those that a StatefulSet makes for its pods among them."""
    claims = {claim["metadata"]["name"] for claim in of_kind(manifests, "PersistentVolumeClaim")}
    for workload in workloads(manifests):
        claims |= {
            f"{claim}-{workload.name}-{number}" for claim in workload.claims for number in range(workload.replicas)
        }
    return claims


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def references_exist(manifests: Sequence[Manifest]) -> list[str]:
    """Each ConfigMap, Secret, key and ServiceAccount that pods need is there, and none is there for nobody."""
    faults = []
    used: set[tuple[str, str]] = set()
    for workload in workloads(manifests):
        for kind, name, key in references(workload):
            used.add((kind, name))
            found = named(manifests, kind, name)
            keys = BROUGHT.get((kind, name)) if found is None else {*found.get("data", {})}
            if keys is None:
                faults.append(f"{workload.title}: there is no {kind} {name}")
            elif key is not None and key not in keys:
                faults.append(f"{workload.title}: {kind} {name} has no key {key}")
        account = workload.pod.get("serviceAccountName")
        if account is not None and named(manifests, "ServiceAccount", account) is None:
            faults.append(f"{workload.title}: there is no ServiceAccount {account}")
    unused = [
        f"{title(manifest)}: nobody uses it"
        for manifest in of_kind(manifests, "ConfigMap", "Secret")
        if (manifest["kind"], manifest["metadata"]["name"]) not in used
    ]
    return faults + unused


def quantities_parse(manifests: Sequence[Manifest]) -> list[str]:
    """Each quantity follows the grammar and is above zero; no request is above its limit, a device's is equal to it."""
    faults = []
    for manifest in manifests:
        for place, value in quantities(manifest):
            try:
                if quantity(value) <= 0:
                    faults.append(f"{title(manifest)}: {place} is {value}")
            except ValueError as error:
                faults.append(f"{title(manifest)}: {place}: {error}")
    if faults:
        return faults
    for workload in workloads(manifests):
        for container in workload.containers():
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            for name in sorted(set(requests) & set(limits)):
                request, limit = quantity(requests[name]), quantity(limits[name])
                if request > limit or ("/" in name and request != limit):
                    faults.append(f"{workload.title}: requests {requests[name]} of {name}, its limit is {limits[name]}")
    return faults


def budgets_allow_draining(manifests: Sequence[Manifest]) -> list[str]:
    """No disruption budget keeps a node from ever being emptied."""
    return [
        f"{title(budget)}: {workload.title} has no replica to spare"
        for budget in of_kind(manifests, "PodDisruptionBudget")
        for workload in workloads(manifests)
        if matches(budget["spec"]["selector"], workload.labels)
        and workload.replicas <= int(budget["spec"].get("minAvailable", 0))
    ]


def images_have_tags(manifests: Sequence[Manifest]) -> list[str]:
    """Each image names a version."""
    images = [
        (workload, container["image"]) for workload in workloads(manifests) for container in workload.containers()
    ]
    return [
        f"{workload.title}: image {image} names no version"
        for workload, image in images
        if image.rpartition(":")[2] in {image, "latest", ""}
    ]


RULES = (
    kinds_are_known,
    selectors_match,
    ports_match,
    mounts_match,
    references_exist,
    quantities_parse,
    budgets_allow_draining,
    images_have_tags,
)
