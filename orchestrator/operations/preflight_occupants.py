"""Judges what a host serves before the first run: services that it would take over, and what its firewall would cut off."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from orchestrator.errors import Problem
from orchestrator.inventory.derivations import ANYWHERE, SIGNALLING, TURN, Topology, flows, listeners
from orchestrator.operations.preflight_checks import Facts, Remark

# Process -> name, package, the file that the role replaces, the group of hosts, and Jitsi's own package with that service: who
# installed Jitsi by hand goes on from there. Where no TURN shares port 443 the role web stops HAProxy.
_TAKEN = {
    "lua5.4": ("Prosody", "prosody", "/etc/prosody/prosody.cfg.lua", SIGNALLING, "jitsi-meet-prosody"),
    "turnserver": ("coturn", "coturn", "/etc/turnserver.conf", TURN, "jitsi-meet-turnserver"),
    "haproxy": ("HAProxy", "haproxy", "/etc/haproxy/haproxy.cfg", SIGNALLING, ""),
}
# Names in the local network (mDNS, LLMNR): nobody is served by them through a router.
_LOCAL_NAMES = (5353, 5355)
_EPHEMERAL_FROM = 32768
"""Linux's own range of ports for who asks, not for who serves (ip(7), ip_local_port_range)."""


def judge_occupants(name: str, facts: Facts, topology: Topology) -> list[Remark]:
    """Return what the first run would meet on a host; [] where one has begun already, as then what is there is ours."""
    if facts.get("begun") or not facts.get("root") or not facts.get("sockets"):
        return []
    return [*_services(name, facts, topology), *_sites(name, facts, topology), *_cut_off(name, facts, topology)]


def _services(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    running, jitsi = {socket["process"] for socket in facts["sockets"]}, facts.get("jitsi") or ()
    for process, (service, package, file, group, theirs) in _TAKEN.items():
        if process in running and group in topology["hosts"][name]["groups"] and theirs not in jitsi:
            message = f"{service} runs here already, and provisioning would replace its configuration: {file}"
            hint = f"move it to another host; where nobody needs it, on the host: apt-get purge {package}"
            yield Remark(Problem(message, name, hint))


def _sites(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    sites = facts.get("nginx_sites")
    running = any(socket["process"] == "nginx" for socket in facts["sockets"])
    if sites and running and SIGNALLING in topology["hosts"][name]["groups"]:
        message = (
            f"nginx serves other sites here, and provisioning would put its own settings over them: {', '.join(sites)}"
        )
        hint = "move them to another host; where nobody needs them, remove these files and: systemctl reload nginx"
        yield Remark(Problem(message, name, hint))


def _cut_off(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    # What only the site's own hosts may reach is lost to everybody else.
    kept = [f for f in flows(topology, name) if f["service"] in ("sshd", "extra") or tuple(f["sources"]) == ANYWHERE]
    let_in = [(flow["proto"], *_ends(flow["port"])) for flow in kept]
    known = {(each["proto"], each["port"], each["process"]) for each in listeners(topology, name)}
    ours, lost = _ours(facts, topology["hosts"][name]["groups"]), set()
    for socket in facts["sockets"]:
        proto, port, process = socket["proto"], socket["port"], socket["process"]
        covered = any(proto == each and low <= port <= high for each, low, high in let_in)
        if not covered and (proto, port, process) not in known and _serves(socket) and process not in ours:
            lost.add((port, proto, process or "no process: the kernel"))
    if lost:
        named = ", ".join(f"{port}/{proto} ({process})" for port, proto, process in sorted(lost))
        hint = "what others need of it firewall_extra_flows lets in, such as [{proto: tcp, port: 10050, purpose: monitoring}]"
        yield Remark(Problem(f"will be unreachable from outside: {named}", name, hint), blocking=False)


def _ours(facts: Facts, groups: Collection[str]) -> set[str]:
    """Return the processes that the run arranges anew on this host: nobody is told that they lose a port."""
    taken = {process for process, (*_, group, _) in _TAKEN.items() if group in groups}
    return taken | ({"nginx"} if SIGNALLING in groups else set()) | ({"java"} if facts.get("jitsi") else set())


def _ends(port: int | str) -> tuple[int, int]:
    low, _, high = str(port).partition("-")
    return int(low), int(high or low)


def _serves(socket: Mapping[str, Any]) -> bool:
    """Say whether others may be served by a socket; WireGuard's belongs to no process, and lies among who asks."""
    address = ipaddress.ip_address(socket["address"])
    # Java binds IPv4 so.
    address = getattr(address, "ipv4_mapped", None) or address
    asks = socket["proto"] == "udp" and socket["port"] >= _EPHEMERAL_FROM and bool(socket["process"])
    return not (asks or address.is_loopback or address.is_link_local or socket["port"] in _LOCAL_NAMES)
