"""What NetworkPolicies let through: a pod that some policy selects is closed but for what a policy allows."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A pod, or an address outside the cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    address: str = ""


def passes(policies: Sequence[Policy], source: Place, target: Place, port: int) -> bool:
    """Whether a connection is let out at its source and in at its target; all policies are of one namespace."""
    return _open(policies, source, target, port, "egress") and _open(policies, target, source, port, "ingress")


def _open(policies: Sequence[Policy], pod: Place, peer: Place, port: int, direction: str) -> bool:
    selecting = [
        policy["spec"]
        for policy in policies
        if pod.namespace == policy["metadata"].get("namespace", pod.namespace)
        and direction.capitalize() in policy["spec"]["policyTypes"]
        and not pod.address
        and _selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not selecting:
        return True
    rules = [rule for spec in selecting for rule in spec.get(direction) or []]
    side = "to" if direction == "egress" else "from"
    return any(_is_port(rule, port) and _is_peer(rule.get(side), pod, peer) for rule in rules)


def _is_port(rule: Mapping[str, Any], port: int) -> bool:
    return not rule.get("ports") or any(one.get("port") in (None, port) for one in rule["ports"])


def _is_peer(peers: Sequence[Mapping[str, Any]] | None, pod: Place, peer: Place) -> bool:
    return not peers or any(_matches(one, pod, peer) for one in peers)


def _matches(described: Mapping[str, Any], pod: Place, peer: Place) -> bool:
    if block := described.get("ipBlock"):
        return (
            bool(peer.address)
            and _within(block["cidr"], peer.address)
            and not any(_within(one, peer.address) for one in block.get("except", []))
        )
    if peer.address:
        return False
    spaces = described.get("namespaceSelector")
    if spaces is None:
        near = peer.namespace == pod.namespace
    else:
        near = _selects(spaces, {"kubernetes.io/metadata.name": peer.namespace})
    return near and _selects(described.get("podSelector") or {}, peer.labels)


def _within(cidr: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert not selector.keys() - {"matchLabels"}, "another kind of selector"
    return selector.get("matchLabels", {}).items() <= labels.items()
