"""The rules over manifests: each finds what it is there to find. A small fleet is broken in one place at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from containers import manifest_rules, network_rules, vessel_rules
from containers.manifests import Manifest, matches, quantity, read, title

SMALL_FLEET = Path(__file__).with_name("small_fleet.yaml")
RULES = (*manifest_rules.RULES, *vessel_rules.RULES, *network_rules.RULES)

POD = "spec.template.spec"
VESSEL = f"{POD}.containers.0"
JOB = "spec.jobTemplate.spec"
JOB_POD = f"{JOB}.template.spec"
GONE = object()
"""Put in the place of what is to be taken away."""


@pytest.fixture
def fleet() -> list[Manifest]:
    """The small fleet, to be broken."""
    return read(SMALL_FLEET.read_text(encoding="utf-8"))


def put(fleet: Sequence[Manifest], which: str, path: str, value: object) -> None:
    """Change one place of one manifest; `+` at the end of a path appends to a list."""
    node: Any = next(manifest for manifest in fleet if title(manifest) == which)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        node = node[part]
    if last == "+":
        node.append(value)
    elif value is GONE:
        del node[last]
    else:
        node[last] = value


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_fleet_has_no_faults(fleet: list[Manifest], rule: Callable[[Sequence[Manifest]], list[str]]) -> None:
    """What is as it should be is not complained about."""
    assert rule(fleet) == []


KERNEL, BUS, BACKUP = "StatefulSet kernel", "Deployment bus", "CronJob backup"
OTHER = {"matchLabels": {"app.kubernetes.io/name": "other"}}
BREAKS = [
    (manifest_rules.kinds_are_known, "Service bus", "kind", "Ingress", "Ingress bus: unknown kind"),
    (manifest_rules.kinds_are_known, "Service bus", "metadata.name", "kernel", "Service kernel is there 2 times"),
    (manifest_rules.selectors_match, "Service bus", "spec.selector", OTHER["matchLabels"], "Service bus: .* no pod"),
    (manifest_rules.selectors_match, KERNEL, "spec.selector", OTHER, "does not match its own pods"),
    (manifest_rules.selectors_match, BUS, "spec.selector", {"matchLabels": {}}, "the pods of StatefulSet kernel"),
    (manifest_rules.selectors_match, "PodDisruptionBudget kernel", "spec.selector", OTHER, "no pod"),
    (manifest_rules.selectors_match, KERNEL, f"{POD}.topologySpreadConstraints.0.labelSelector", OTHER, "no pod"),
    (manifest_rules.ports_match, "Service bus", "spec.ports.0.targetPort", 5702, "no port 5702"),
    (manifest_rules.ports_match, BUS, f"{VESSEL}.livenessProbe.httpGet.port", "pages", "livenessProbe asks port pages"),
    (manifest_rules.ports_match, KERNEL, "spec.serviceName", "kernels", "names no Service"),
    (manifest_rules.ports_match, "Service kernel", "spec.clusterIP", GONE, "is not headless"),
    (manifest_rules.mounts_match, KERNEL, f"{VESSEL}.volumeMounts.0.name", "house", "mounts house, .* no volume"),
    (manifest_rules.mounts_match, KERNEL, "spec.volumeClaimTemplates", [], "mounts home, which is no volume"),
    (manifest_rules.mounts_match, KERNEL, f"{VESSEL}.volumeMounts.2", GONE, "volume tmp is mounted nowhere"),
    (manifest_rules.mounts_match, KERNEL, f"{VESSEL}.volumeMounts.2.mountPath", "/var/lib/batos", "two mounts at /var"),
    (manifest_rules.mounts_match, BUS, f"{POD}.volumes.0.persistentVolumeClaim.claimName", "x", "there is no claim x"),
    (manifest_rules.references_exist, "Secret keys-kernel-1", "metadata.name", "x", "no Secret keys-kernel-1"),
    (manifest_rules.references_exist, "Secret keys-kernel-1", "metadata.name", "x", "Secret x: nobody uses it"),
    (manifest_rules.references_exist, "ConfigMap fleet", "metadata.name", "x", "no ConfigMap fleet"),
    (manifest_rules.references_exist, KERNEL, f"{POD}.volumes.1.secret.items.0.key", "x", "has no key x"),
    (manifest_rules.references_exist, KERNEL, f"{VESSEL}.env.3.valueFrom.secretKeyRef.key", "url", "has no key url"),
    (manifest_rules.references_exist, BUS, f"{POD}.serviceAccountName", "x", "no ServiceAccount x"),
    (manifest_rules.quantities_parse, KERNEL, f"{VESSEL}.resources.limits.memory", "1Gx", "'1Gx' is no quantity"),
    (manifest_rules.quantities_parse, KERNEL, f"{POD}.volumes.0.emptyDir.sizeLimit", "64 Mi", "sizeLimit"),
    (manifest_rules.quantities_parse, "PersistentVolumeClaim bus", "spec.resources.requests.storage", "1GB", "1GB"),
    (manifest_rules.quantities_parse, KERNEL, f"{VESSEL}.resources.requests.memory", "2Gi", "its limit is 1Gi"),
    (manifest_rules.quantities_parse, KERNEL, f"{VESSEL}.resources.requests.cpu", "-1", "is -1"),
    (manifest_rules.budgets_allow_draining, KERNEL, "spec.replicas", 1, "has no replica to spare"),
    (manifest_rules.images_have_tags, BUS, f"{VESSEL}.image", "batos/core", "names no version"),
    (manifest_rules.images_have_tags, BUS, f"{VESSEL}.image", "batos/core:latest", "names no version"),
    (vessel_rules.hardened, BUS, f"{POD}.securityContext.runAsUser", 0, "runAsUser is 0, not 10001"),
    (vessel_rules.hardened, BUS, f"{POD}.securityContext.seccompProfile", GONE, "seccompProfile is None"),
    (vessel_rules.hardened, BUS, f"{POD}.enableServiceLinks", GONE, "enableServiceLinks"),
    (vessel_rules.hardened, BUS, f"{POD}.automountServiceAccountToken", True, "automountServiceAccountToken"),
    (vessel_rules.hardened, BUS, f"{VESSEL}.securityContext.readOnlyRootFilesystem", False, "readOnlyRootFilesystem"),
    (vessel_rules.hardened, BUS, f"{VESSEL}.securityContext.capabilities.add", ["SYS_PTRACE"], "capabilities"),
    (vessel_rules.hardened, BUS, f"{VESSEL}.volumeMounts.0.mountPath", "/etc", "can write /etc"),
    (vessel_rules.hardened, BUS, f"{POD}.volumes.+", {"name": "x", "hostPath": {"path": "/"}}, "hostPath x"),
    (
        vessel_rules.volumes_are_taken_as_they_are,
        KERNEL,
        f"{POD}.securityContext.fsGroupChangePolicy",
        GONE,
        "fsGroupChangePolicy is None, not 'OnRootMismatch'",
    ),
    (vessel_rules.probed, KERNEL, f"{VESSEL}.startupProbe", GONE, "no startup probe"),
    (vessel_rules.probed, KERNEL, f"{VESSEL}.readinessProbe.httpGet.path", "/healthz", "readiness asks /healthz"),
    (vessel_rules.probed, KERNEL, f"{VESSEL}.livenessProbe.httpGet.path", "/readyz", "does not ask /healthz"),
    (vessel_rules.probed, BUS, f"{VESSEL}.readinessProbe.exec.command.2", "batos.bus", "readiness asks"),
    (vessel_rules.probed, BUS, f"{VESSEL}.readinessProbe.timeoutSeconds", 60, "longer than until the next"),
    (vessel_rules.bounded, BUS, f"{VESSEL}.resources.limits.memory", GONE, "no memory in limits"),
    (vessel_rules.told_what_they_know, "ConfigMap fleet", "data.BATOS_BUS_WROK", "x", "BATOS_BUS_WROK is no setting"),
    (vessel_rules.told_what_they_know, BUS, f"{VESSEL}.env.0.name", "BATOS_KERNEL_SLOTS", "no setting of bus"),
    (vessel_rules.told_what_they_know, KERNEL, f"{VESSEL}.resources.limits.cpu", "257", "BATOS_KERNEL_SLOTS"),
    (vessel_rules.told_what_they_know, BUS, f"{VESSEL}.env.1.value", "kernel", "its key is 'kernel'"),
    (vessel_rules.told_what_they_know, BUS, f"{VESSEL}.env.0.value", "buses", "its name is 'buses'"),
    (vessel_rules.have_time, KERNEL, f"{POD}.terminationGracePeriodSeconds", 130, "130 s of drain and stop"),
    (vessel_rules.have_time, BUS, f"{VESSEL}.env.2.value", "25", "35 s of drain and stop"),
    (vessel_rules.have_their_keys, BUS, f"{POD}.volumes.1.secret.secretName", "keys-kernel-1", "the keys of kernel"),
    (vessel_rules.have_their_keys, BUS, f"{POD}.volumes.1.secret.defaultMode", 0o444, "the mode of its keys is 292"),
    (vessel_rules.have_their_keys, BUS, f"{VESSEL}.volumeMounts.1.readOnly", GONE, "read-only"),
    (vessel_rules.replaced_one_for_one, BUS, "spec.strategy", GONE, "would start beside it"),
    (
        vessel_rules.hardened,
        BACKUP,
        f"{JOB_POD}.containers.0.volumeMounts.0",
        {"name": "keys", "mountPath": "/backups"},
        "CronJob backup: can write /backups",
    ),
    (vessel_rules.hardened, BACKUP, f"{JOB_POD}.securityContext.runAsUser", 0, "runAsUser is 0, not 10001"),
    (vessel_rules.have_their_keys, BACKUP, f"{JOB_POD}.volumes.0.secret.secretName", "keys-bus-1", "the keys of bus"),
    (vessel_rules.told_what_they_know, BACKUP, f"{JOB_POD}.containers.0.env.1.value", "bus", "its key is 'bus'"),
    (vessel_rules.jobs_end, BACKUP, "spec.concurrencyPolicy", GONE, "concurrencyPolicy is None, not 'Forbid'"),
    (vessel_rules.jobs_end, BACKUP, f"{JOB_POD}.restartPolicy", "OnFailure", "restartPolicy is 'OnFailure'"),
    (vessel_rules.jobs_end, BACKUP, "spec.failedJobsHistoryLimit", GONE, "no failedJobsHistoryLimit"),
    (vessel_rules.jobs_end, BACKUP, f"{JOB}.activeDeadlineSeconds", GONE, "no activeDeadlineSeconds"),
    (network_rules.closed_by_default, "NetworkPolicy nobody", "spec.policyTypes", ["Ingress"], "no policy denies"),
    (network_rules.closed_by_default, "NetworkPolicy bus", "spec.podSelector", OTHER, "bus: selects no pod"),
    (
        network_rules.closed_by_default,
        "NetworkPolicy bus",
        "spec.ingress.0.from.0.podSelector",
        OTHER,
        "bus: selects no pod",
    ),
]


@pytest.mark.parametrize(("rule", "which", "path", "value", "fault"), BREAKS)
def test_a_rule_finds_what_breaks_it(
    fleet: list[Manifest],
    rule: Callable[[Sequence[Manifest]], list[str]],
    which: str,
    path: str,
    value: object,
    fault: str,
) -> None:
    """One wrong place is found, and said in words that name it."""
    put(fleet, which, path, value)
    assert any(re.search(fault, found) for found in rule(fleet)), rule(fleet)


def test_every_rule_is_broken_by_something() -> None:
    """No rule is here that was never seen to find a fault."""
    assert {rule.__name__ for rule, *_ in BREAKS} == {rule.__name__ for rule in RULES}


def test_an_engine_that_loads_longer_than_its_probe_waits(fleet: list[Manifest]) -> None:
    """The cluster has to wait for as long as the vessel itself gives its engine."""
    put(
        fleet,
        BUS,
        "spec.template.metadata.labels",
        {"app.kubernetes.io/name": "inference", "app.kubernetes.io/part-of": "batos"},
    )
    put(fleet, BUS, f"{VESSEL}.env.+", {"name": "BATOS_INFERENCE_ENGINE", "value": "vllm"})
    put(fleet, BUS, f"{VESSEL}.startupProbe.periodSeconds", 10)
    put(fleet, BUS, f"{VESSEL}.startupProbe.failureThreshold", 90)
    put(fleet, BUS, "spec.progressDeadlineSeconds", 1000)
    assert vessel_rules.have_time(fleet) == ["Deployment bus: 900 s for a start that may take 900 s"]
    put(fleet, BUS, f"{VESSEL}.startupProbe.failureThreshold", 91)
    assert vessel_rules.have_time(fleet) == []
    put(fleet, BUS, "spec.progressDeadlineSeconds", GONE)
    assert vessel_rules.have_time(fleet) == ["Deployment bus: a rollout is given up after 600 s, a start after 910 s"]


def test_reach_needs_both_sides(fleet: list[Manifest]) -> None:
    """Who is let in but not out, or out but not in, does not reach; strangers count by their own labels."""
    assert network_rules.reach(fleet) == {("bus", 5701): {"kernel"}}
    put(fleet, "NetworkPolicy to-bus", "spec.egress.0.ports.0.port", 5702)
    assert network_rules.reach(fleet) == {}
    stranger = {"from": [{"namespaceSelector": {"matchLabels": {"name": "x"}}}], "ports": [{"port": 1}]}
    put(fleet, "NetworkPolicy bus", "spec.ingress", [stranger])
    put(fleet, "NetworkPolicy to-bus", "spec.egress", [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])
    assert network_rules.reach(fleet) == {("bus", 1): {"x"}, ("10.0.0.0/8", 0): {"backup", "bus", "kernel"}}
    put(fleet, "NetworkPolicy bus", "spec.ingress", [{}])
    put(fleet, "NetworkPolicy to-bus", "spec.egress", [])
    assert network_rules.reach(fleet) == {("bus", 0): {"everybody"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"), ("1", "1"), ("+1.5", "1.5"), (".5", "0.5"), ("1.", "1"), ("100m", "0.1"), ("2k", "2000"),
        ("1Ki", "1024"), ("1.5Gi", "1610612736"), ("1G", "1000000000"), ("1e3", "1000"), ("12E-1", "1.2"),
        ("1E", "1e18"), (2, "2"),
    ],
)  # fmt: skip
def test_a_quantity(text: object, value: str) -> None:
    """Numbers with a binary suffix, a decimal one or an exponent are understood."""
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "1Gx", "1GB", "1gi", "1K", "Gi", "1 Gi", "1e", "1e3Mi", "1,5", "0x10", "1Gi\n", "."]
)
def test_no_quantity(text: str) -> None:
    """What the grammar does not have is refused."""
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "a", "operator": "In", "values": ["1"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "b", "operator": "DoesNotExist"}, True),
    ],
)
def test_a_selector_expression(expression: dict[str, Any], selected: bool) -> None:
    """Expressions select as Kubernetes says."""
    assert matches({"matchExpressions": [expression]}, {"a": "1"}) is selected
