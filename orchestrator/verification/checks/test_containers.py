"""Ports that a container engine opens past the firewall."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.verification.admission import bounds
from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.nftables import RULESET, members
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.sockets import CONTAINER_HELPERS, SS, sockets
from orchestrator.verification.subject import Subject

ENGINES = (
    "for name in docker podman nerdctl; do command -v $name; done; "
    "ls -d /run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock 2>/dev/null; true"
)
_LISTS = {
    "docker": "if command -v docker >/dev/null; then docker ps --format '{{json .}}'; fi",
    "podman": "if command -v podman >/dev/null; then podman ps --format json; fi",
}
# Rules that iptables wrote are opaque to nft where they have a target of its own; iptables tells them in full. Those of
# iptables-legacy lie elsewhere in the kernel, where neither nft nor the other iptables sees them: only their tables' names.
_NOT_TOLD = "# not told: "
_IPTABLES = (
    "for name in iptables ip6tables; do for kind in $name $name-legacy; do if command -v $kind-save >/dev/null; "
    f"then $kind-save || printf '\\n{_NOT_TOLD}%s\\n' $kind; fi; done; "
    "if grep -qsx nat /proc/net/${name%tables}_tables_names && ! command -v $name-legacy-save >/dev/null; "
    f"then printf '\\n{_NOT_TOLD}%s\\n' $name-legacy; fi; done"
)
_ANY = {"daddr": "any address", "dport": "every port"}

# (proto, port or range, address that it is published on, by whom)
Published = tuple[str, str, str, str]


@pytest.mark.control("NET-04")
def test_container_ports(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What engines say themselves, what listens in their containers' place, and what the kernel forwards."""
    engines, listening, ruleset, iptables, *lists = ask(host, ENGINES, SS, RULESET, _IPTABLES, *_LISTS.values())
    found = [*_helpers(text(listening)), *_forwarded(json_of(ruleset)["nftables"]), *_saved(text(iptables))]
    names = text(engines).split()
    untold = [line.removeprefix(_NOT_TOLD) for line in text(iptables).splitlines() if line.startswith(_NOT_TOLD)]
    for name in untold:
        sheet.could_not_look(f"what {name} forwards is not known: `{name}-save` is not there, or fails")
    if not names and not found and not untold:
        raise NotApplicable("there is no container engine, and the kernel forwards no port")
    for name, result in zip(_LISTS, lists, strict=True):
        found += _listed(name, result, sheet)
    declared = [flow for flow in subject.flows() if flow["service"] == "extra"]
    opened = sorted({row for row in found if not _local(row[2])})
    for proto, port, address, who in opened:
        place = f"{port}/{proto} is published on {address} by {who}"
        wanted = "published on 127.0.0.1, or declared in firewall_extra_flows"
        sheet.expect(any(_within(proto, port, flow) for flow in declared), place, wanted)
    if not opened and (names or found):
        sheet.expect(True, f"{', '.join(names) or 'a forwarding rule'}: no port is published", "")


def _within(proto: str, port: str, flow: Mapping[str, Any]) -> bool:
    """Say whether a published port, or a range of them, lies within a declared flow."""
    if proto != flow["proto"] or not port.replace("-", "").isdigit():
        return False
    (low, high), (lowest, highest) = bounds({"port": port}), bounds(flow)
    return lowest <= low and high <= highest


def _local(address: str) -> bool:
    try:
        return ipaddress.ip_network(address.strip("[]")).is_loopback
    except ValueError:
        return False


def _helpers(shown: str) -> Iterator[Published]:
    for proto, address, port, process in sockets(shown):
        if process in CONTAINER_HELPERS:
            yield proto, str(port), address, process


def _forwarded(ruleset: list[dict[str, Any]]) -> Iterator[Published]:
    """Yield what the loaded rules send to another address, whoever wrote them."""
    for row in ruleset:
        rule = row.get("rule", {})
        target = next((part for part in rule.get("expr", ()) if "dnat" in part or _opaque(part)), None)
        if target is None:
            continue
        who = f"a rule in {rule['family']} {rule['table']} {rule['chain']}"
        matches = [part["match"] for part in rule["expr"] if "match" in part]
        goal = [_destination(match) for match in matches if _destination(match)]
        addresses = [address for name, values in goal if name == "daddr" for address in values] or ["any address"]
        ports = [(proto, port) for proto, port in _ports(matches, target)] or [("any", "every port")]
        yield from ((proto, port, address, who) for proto, port in ports for address in addresses)


def _opaque(part: dict[str, Any]) -> bool:
    return isinstance(part.get("xt"), dict) and part["xt"].get("name") == "DNAT"


def _destination(match: dict[str, Any]) -> tuple[str, list[str]]:
    """Return which field of a destination must have which values; where it must not have them, it may be any other."""
    payload = match["left"].get("payload", {}) if isinstance(match["left"], dict) else {}
    field = payload.get("field", "")
    if field not in _ANY:
        return "", []
    return field, members(match["right"]) if match.get("op", "==") in ("==", "in") else [_ANY[field]]


def _ports(matches: list[dict[str, Any]], target: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for match in matches:
        field, values = _destination(match)
        if field == "dport":
            yield from ((match["left"]["payload"]["protocol"], port) for port in values)
    # `dnat to tcp dport map { 80 : 10.0.0.2 }` keeps its ports in the target.
    address = (target.get("dnat") or {}).get("addr")
    if isinstance(address, dict) and "map" in address:
        payload = address["map"]["key"].get("payload", {})
        for entry in address["map"]["data"].get("set", ()) if isinstance(address["map"]["data"], dict) else ():
            yield payload.get("protocol", "any"), str(entry[0])


def _saved(shown: str) -> Iterator[Published]:
    for line in shown.splitlines():
        # A comment may hold what looks like an option.
        told = re.sub(r' --comment ("(?:[^"\\]|\\.)*"|\S+)', "", line)
        if not told.startswith("-A ") or " -j DNAT" not in told:
            continue
        proto, ports, address = (_option(told, name) for name in ("-p", "--dports?", "-d"))
        where = address.removesuffix("/32").removesuffix("/128") or _ANY["daddr"]
        for port in (ports or _ANY["dport"]).split(","):
            yield proto or "any", port.replace(":", "-"), where, f"iptables chain {line.split()[1]}"


def _option(line: str, name: str) -> str:
    """Return an option's value as iptables-save prints it, "" where it is not there, or negated: any other is meant then."""
    found = re.search(rf" (! )?{name} (\S+)", line)
    return found[2] if found and not found[1] else ""


def _listed(name: str, result: CommandResult, sheet: Sheet) -> list[Published]:
    """Return what an engine says of its containers; one that does not answer leaves the question open."""
    if result.rc != 0:
        sheet.could_not_look(f"`{name} ps` ended with {result.rc}: {' '.join(result.stderr.split())[:120]}")
        return []
    shown = text(result).strip()
    if name == "podman":
        return [row for container in json.loads(shown or "[]") for row in _podman(container)]
    return [row for line in shown.splitlines() for row in _docker(json.loads(line))]


def _docker(container: dict[str, Any]) -> Iterator[Published]:
    for address, port, proto in re.findall(r"(\S+):(\d+(?:-\d+)?)->\S+/(\w+)", container.get("Ports") or ""):
        yield proto, port, address, f"docker's {container.get('Names')}"


def _podman(container: dict[str, Any]) -> Iterator[Published]:
    for row in container.get("Ports") or ():
        first, count = int(row["host_port"]), int(row.get("range") or 1)
        port = str(first) if count == 1 else f"{first}-{first + count - 1}"
        who = f"podman's {', '.join(container.get('Names') or ())}"
        yield from ((proto, port, row.get("host_ip") or "*", who) for proto in row["protocol"].split(","))
