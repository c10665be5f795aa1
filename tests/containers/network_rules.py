"""Who may connect to whom: what network policies amount to, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from containers.manifests import NAME, Manifest, matches, of_kind, title, vessels

Reach = dict[tuple[str, int], set[str]]
"""Pod name and port to the names of those who may connect."""


def reach(manifests: Sequence[Manifest]) -> Reach:
    """Return who may connect where: let out by one policy, in by another. A name that is no pod's is a stranger's."""
    out, into = _allowed(manifests, "Egress"), _allowed(manifests, "Ingress")
    pods = {workload.labels[NAME] for workload in vessels(manifests)}
    result: Reach = {}
    for subject, peer, port in into:
        if peer not in pods or (peer, subject, port) in out:
            result.setdefault((subject, port), set()).add(peer)
    for subject, peer, port in out:
        if peer not in pods:
            result.setdefault((peer, port), set()).add(subject)
    return result


def _allowed(manifests: Sequence[Manifest], direction: str) -> set[tuple[str, str, int]]:
    rules, peers = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    found = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        spec = policy["spec"]
        for rule in spec.get(rules, []) if direction in spec["policyTypes"] else []:
            names = {name for peer in rule.get(peers, [{}]) for name in _peer_names(peer, manifests)}
            ports = [port["port"] for port in rule.get("ports", [{"port": 0}])]
            subjects = [pod.labels[NAME] for pod in vessels(manifests) if matches(spec["podSelector"], pod.labels)]
            found |= {(subject, name, port) for subject in subjects for name in names for port in ports}
    return found


def _peer_names(peer: Mapping[str, Any], manifests: Sequence[Manifest]) -> list[str]:
    if "ipBlock" in peer:
        return [peer["ipBlock"]["cidr"]]
    if "namespaceSelector" in peer:
        labels = {
            **peer["namespaceSelector"].get("matchLabels", {}),
            **peer.get("podSelector", {}).get("matchLabels", {}),
        }
        return ["/".join(labels.values()) or "everybody"]
    if "podSelector" not in peer:
        return ["everybody"]
    return [pod.labels[NAME] for pod in vessels(manifests) if matches(peer["podSelector"], pod.labels)]


def closed_by_default(manifests: Sequence[Manifest]) -> list[str]:
    """One policy shuts every pod off in both directions, and each other one selects pods that are there."""
    faults = []
    policies = of_kind(manifests, "NetworkPolicy")
    shut = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(policy["spec"] == shut for policy in policies):
        faults.append("no policy denies everything")
    for policy in policies:
        spec = policy["spec"]
        peers = [peer for key in ("ingress", "egress") for rule in spec.get(key, []) for peer in _peers(rule)]
        own = [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
        faults += [
            f"{title(policy)}: selects no pod by {selector}"
            for selector in (spec["podSelector"], *own)
            if not any(matches(selector, pod.labels) for pod in vessels(manifests))
        ]
    return faults


def _peers(rule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*rule.get("from", []), *rule.get("to", [])]


RULES = (closed_by_default,)
