"""Whom a host's declared flows let in: the same port may be open to one source and closed to all others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.verification.reach import Target


@dataclass(frozen=True, slots=True)
class Policy:
    """What one address may answer to one source: flows that let it in, and those that let in others only.

    `doubtful` are flows for others where it is not sure how the host sees the source.
    """

    admitted: tuple[Mapping[str, Any], ...]
    others: tuple[Mapping[str, Any], ...]
    doubtful: tuple[Mapping[str, Any], ...]

    def ports(self, *, single: bool) -> list[int]:
        """Return the admitted single ports, or the bounds and the middle of each admitted range."""
        found: set[int] = set()
        for flow in self.admitted:
            low, high = bounds(flow)
            if single == (low == high):
                found |= {low, (low + high) // 2, high}
        return sorted(found)

    def flow(self, port: int, flows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the first of these flows that holds a port."""
        return next((flow for flow in flows if bounds(flow)[0] <= port <= bounds(flow)[1]), None)


def bounds(flow: Mapping[str, Any]) -> tuple[int, int]:
    """Return a flow's lowest and highest port."""
    low, _, high = str(flow["port"]).partition("-")
    return int(low), int(high or low)


def policy(flows: Iterable[Mapping[str, Any]], proto: str, target: Target) -> Policy:
    """Sort a host's flows by whether they let in the vantage point."""
    admitted, others, doubtful = [], [], []
    version = ipaddress.ip_address(target.address).version
    ours = ipaddress.ip_address(target.source) if target.source else None
    for flow in flows:
        if flow["proto"] != proto:
            continue
        networks = [net for net in map(ipaddress.ip_network, flow["sources"]) if net.version == version]
        if any(net.prefixlen == 0 or (ours and ours in net) for net in networks):
            admitted.append(flow)
        elif networks and not target.sure:
            doubtful.append(flow)
        else:
            others.append(flow)
    return Policy(tuple(admitted), tuple(others), tuple(doubtful))
