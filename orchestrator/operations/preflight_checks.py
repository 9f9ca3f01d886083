"""Judges the facts of one host: pure functions, all remarks at once."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Problem
from orchestrator.inventory import openpgp
from orchestrator.inventory.derivations import ANYWHERE, BRIDGES, SIGNALLING, TURN, Topology, flows, listeners

SUPPORTED_DEBIAN = ("12", "13")
ARCHITECTURES = ("x86_64", "aarch64")

# Upstream's handbook asks for 4 GB for a test and 8 GB for service (docs/devops-guide/requirements.md); Jicofo and the
# bridge may each take 3 GB of heap. Below the first number the services do not even start together.
MINIMUM_MEMORY_MB = 1900
COMFORTABLE_MEMORY_MB = 3500
# Debian, nginx, Prosody, coturn, and what the two JVMs take beside their heaps.
_BESIDE_HEAPS_MB = 600
_HEAPS = {"videobridge_max_memory": BRIDGES, "jicofo_max_memory": SIGNALLING}
# Packages take about 1.5 GB; the rest is for logs, upgrades and room to repair. The handbook asks for 20 GB.
MINIMUM_DISK_MB = 3000
COMFORTABLE_DISK_MB = 10_000
# TURN credentials and tokens carry times; the base role starts time synchronisation, so this only warns.
CLOCK_SECONDS = 60
_SWITCH_OFF = {"ufw": "ufw disable", "firewalld": "systemctl disable --now firewalld"}

_SERVICES = {
    "haproxy": "HAProxy",
    "nginx": "nginx",
    "lua5.4": "Prosody",
    "java": "Jicofo and the bridge",
    "turnserver": "coturn",
}

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that preflight saw; a blocking one stops provisioning."""

    problem: Problem
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the site expects of its hosts, beyond the topology; the places are "file:line" of what says so."""

    repository_url: str = ""
    key_fingerprints: Sequence[str] = ()
    control_time: float = 0.0
    repository_place: str = ""
    key_place: str = ""


def judge_host(name: str, facts: Facts, topology: Topology, wanted: Wanted) -> list[Remark]:
    """Return every remark about one host."""
    remarks = list(_system(name, facts))
    if facts.get("python"):
        remarks += [
            *_resources(name, facts),
            *_heaps(name, facts, topology),
            *_addresses(name, facts, topology),
            *_clock(name, facts, wanted),
            *_package_locks(name, facts),
            *_ports(name, facts, topology),
            *_firewalls(name, facts),
            *_input_drops(name, facts, topology),
            *_unwanted(name, facts),
            *_meetings(name, facts),
            *_repository(name, facts, wanted),
        ]
    return remarks


def _system(name: str, facts: Facts) -> Iterator[Remark]:
    release = facts.get("os") or {}
    identity, version = release.get("ID", ""), release.get("VERSION_ID", "")
    if identity != "debian" or version not in SUPPORTED_DEBIAN:
        seen = release.get("PRETTY_NAME") or f"{identity} {version}".strip() or "an unknown system"
        hint = f"install Debian {' or '.join(SUPPORTED_DEBIAN)}"
        yield Remark(Problem(f"unsupported distribution: {seen}", name, hint))
    if not facts.get("python"):
        yield Remark(Problem("Python is missing on the host", name, "apt-get install --yes python3"))
        return
    if not facts.get("root"):
        hint = "log in as root, or allow sudo without a password and set ansible_become: true"
        yield Remark(Problem("the user has no root rights without a password", name, hint))
    if not facts.get("systemd"):
        yield Remark(Problem("systemd does not run on the host", name, "an ordinary Debian installation has it"))
    if facts.get("architecture") not in ARCHITECTURES:
        message = f"the bridge has no native libraries for {facts.get('architecture')}"
        yield Remark(Problem(message, name, f"use one of {', '.join(ARCHITECTURES)}"))


def _resources(name: str, facts: Facts) -> Iterator[Remark]:
    memory = facts.get("memory_mb")
    if memory is None:
        yield Remark(Problem("the memory cannot be determined", name, "cat /proc/meminfo"), blocking=False)
    elif memory < COMFORTABLE_MEMORY_MB:
        blocking = memory < MINIMUM_MEMORY_MB
        hint = f"at least {MINIMUM_MEMORY_MB} MB; 4 GB for a test, 8 GB for service"
        yield Remark(Problem(f"too little memory: {memory} MB", name, hint), blocking)
    for path, free in (facts.get("disk_free_mb") or {}).items():
        if free is None:
            message = f"the free disk space below {path} cannot be determined"
            yield Remark(Problem(message, name, f"df -h {path}"), blocking=False)
        elif free < COMFORTABLE_DISK_MB:
            hint = f"at least {MINIMUM_DISK_MB} MB free, {COMFORTABLE_DISK_MB} MB for service; look with: df -h {path}"
            message = f"too little disk space: {free} MB free below {path}"
            yield Remark(Problem(message, name, hint), blocking=free < MINIMUM_DISK_MB)


def _heaps(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    groups, settings, memory = topology["hosts"][name]["groups"], topology["settings"], facts.get("memory_mb")
    heaps = {setting: settings[setting] for setting, group in _HEAPS.items() if group in groups and setting in settings}
    wanted = sum(map(_megabytes, heaps.values())) + _BESIDE_HEAPS_MB
    if heaps and memory is not None and memory < wanted:
        named = " + ".join(f"{setting} ({value})" for setting, value in heaps.items())
        message = f"the services may take more memory than there is: {wanted} MB of {memory} MB"
        hint = f"{named} + {_BESIDE_HEAPS_MB} MB for the rest; lower {' or '.join(heaps)}, or give the host more"
        yield Remark(Problem(message, name, hint), blocking=False)


def _megabytes(heap: str) -> int:
    number, unit = re.fullmatch(r"([0-9]+)([mMgG])", str(heap)).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit in "gG" else 1)


def _addresses(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    """Tell where others know a host by an address that a translation (NAT) gives it.

    coturn binds the declared addresses, and neither it nor the bridge tells participants another one than it has.
    """
    entry, present = topology["hosts"][name], facts.get("addresses")
    if not {BRIDGES, TURN} & set(entry["groups"]):
        return
    if present is None:
        message = "the addresses of the host's interfaces cannot be looked at"
        yield Remark(Problem(message, name, "on the host: ip address"), blocking=False)
        return
    own = {ipaddress.ip_address(address) for address in present}
    for variable, address in (("ansible_host", entry["address"]), ("base_address6", entry["address6"])):
        if address and ipaddress.ip_address(address) not in own:
            message = f"{address} ({variable}) is on no interface of the host"
            hint = "translated addresses (1:1 NAT, floating IP, DMZ) are not supported yet; give the host that address itself: ip address"
            yield Remark(Problem(message, name, hint))


def _clock(name: str, facts: Facts, wanted: Wanted) -> Iterator[Remark]:
    difference = float(facts.get("time") or 0) - wanted.control_time
    if wanted.control_time and abs(difference) > CLOCK_SECONDS:
        direction = "ahead of" if difference > 0 else "behind"
        message = f"the clock is {abs(difference):.0f} s {direction} this machine's"
        yield Remark(Problem(message, name, "timedatectl; provisioning starts time synchronisation"), blocking=False)


def _package_locks(name: str, facts: Facts) -> Iterator[Remark]:
    held = facts.get("locks")
    if held is None:
        yield Remark(
            Problem("the package manager's locks cannot be looked at", name, "see that no apt or dpkg runs there"),
            blocking=False,
        )
        return
    by_process: dict[int, list[str]] = {}
    for lock in held:
        by_process.setdefault(lock["pid"], []).append(lock["path"])
    for pid, paths in by_process.items():
        if any(lock["ours"] for lock in held if lock["pid"] == pid):
            message = f"apt is still at work for a run of ours that ended early (process {pid}); its end is waited for"
            yield Remark(Problem(message, name, f"ps -fp {pid}"), blocking=False)
            continue
        command = next(lock["command"] for lock in held if lock["pid"] == pid) or "a process that cannot be seen"
        message = f"apt is locked by process {pid} ({command}): {', '.join(paths)}"
        hint = f"wait until it has ended, it may be installing: ps -fp {pid}"
        yield Remark(Problem(message, name, hint))


def _ports(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    seen = facts.get("sockets")
    if seen is None:
        yield Remark(Problem("the listening sockets cannot be looked at", name, "ss -lntup"), blocking=False)
        return
    told: set[tuple[str, int, str]] = set()
    for expected in listeners(topology, name):
        service = _SERVICES.get(expected["process"])
        if service is None or not isinstance(expected["port"], int):
            continue
        for socket in seen:
            key = (socket["proto"], socket["port"], socket["process"])
            # With another `jitsi_turn_tls` a port goes from one of our own services to another.
            ours = socket["process"] in _SERVICES and facts.get("provisioned")
            if key in told or ours or not _collides(expected, socket, facts):
                continue
            told.add(key)
            holder = f"{socket['process']} (process {socket['pid']})" if socket["process"] else "an unseen process"
            message = f"port {socket['port']}/{socket['proto']} is taken by {holder}; {service} needs it"
            hint = f"stop what listens there: ss -lnp 'sport = :{socket['port']}'"
            yield Remark(Problem(message, name, hint))


def _collides(expected: Mapping[str, Any], socket: Mapping[str, Any], facts: Facts) -> bool:
    if (socket["proto"], socket["port"]) != (expected["proto"], expected["port"]):
        return False
    if socket["process"] == expected["process"] and not _foreign_java(socket, facts):
        return False
    address = ipaddress.ip_address(socket["address"])
    return bool(expected["address"] == "*" or address.is_unspecified or str(address) in {"127.0.0.1", "::1"})


def _foreign_java(socket: Mapping[str, Any], facts: Facts) -> bool:
    """Say whether a JVM is another program than Jicofo and the bridge, such as Tomcat."""
    return socket["process"] == "java" and not facts.get("begun") and facts.get("jitsi") == []


def _firewalls(name: str, facts: Facts) -> Iterator[Remark]:
    """What two owners let in is what both let in, and neither says so: there is one, or none of them is believed."""
    for owner in facts.get("firewalls") or ():
        message = f"{owner} keeps a firewall here; together with the role firewall it would let in too little"
        hint = f"note what it lets in (firewall_extra_flows), then on the host: {_SWITCH_OFF[owner]}"
        yield Remark(Problem(message, name, hint))


def _input_drops(name: str, facts: Facts, topology: Topology) -> Iterator[Remark]:
    """A packet passes only where every chain of the hook lets it pass (nft(8), VERDICT STATEMENTS)."""
    if facts.get("firewalls"):
        return
    if "input_drops" in facts and facts["input_drops"] is None:
        message = "whether other rules drop what comes in cannot be looked at"
        yield Remark(Problem(message, name, "on the host: iptables -S INPUT; ip6tables -S INPUT"), blocking=False)
    needed = [f"{flow['port']}/{flow['proto']}" for flow in flows(topology, name) if tuple(flow["sources"]) == ANYWHERE]
    for chain in facts.get("input_drops") or ():
        table = f"{chain['family']} {chain['table']}"
        message = f"the chain {chain['chain']} of the table {table} drops what it does not let in, whatever the role firewall lets in"
        hint = f"remove it, or see that it lets in {', '.join(needed)}; look with: nft list table {table}"
        yield Remark(Problem(message, name, hint), blocking=False)


def _unwanted(name: str, facts: Facts) -> Iterator[Remark]:
    """Tell what hardening will take away; with autofs the keys of who logs in would go, and nobody could put it back."""
    packages, home = facts.get("unwanted") or (), facts.get("automounted_home")
    hint = "to keep what is needed: hardening_skip: {OS-11: {who: A. Meier, why: 'what needs it', until: 2027-03-31}}"
    if "autofs" in packages and home:
        message = f"the home of {home['user']} comes by autofs ({home['place']}), which `ratssaal harden` would remove"
        yield Remark(Problem(message, name, hint))
    if packages:
        message = f"`ratssaal harden` will remove what no conferencing server needs: {', '.join(packages)}"
        yield Remark(Problem(message, name, hint), blocking=False)


def _meetings(name: str, facts: Facts) -> Iterator[Remark]:
    """Tell that people meet: a change of the bridge, of Prosody or of their sandboxes restarts them."""
    people = facts.get("people_in_meetings") or 0
    if people:
        message = f"{people} {'person is' if people == 1 else 'people are'} in meetings: what restarts a service throws them out"
        hint = "look what would change: ratssaal provision SITE --harden --check; or wait until nobody meets"
        yield Remark(Problem(message, name, hint), blocking=False)


def _repository(name: str, facts: Facts, wanted: Wanted) -> Iterator[Remark]:
    if not wanted.repository_url:
        return
    answer = facts.get("repository")
    if answer is None:
        yield Remark(
            Problem("the package repository cannot be looked at", name, "on the host: apt-get update"), blocking=False
        )
        return
    if answer["error"]:
        message = (
            f"the package repository {wanted.repository_url} cannot be read from the host {name}: {answer['error']}"
        )
        hint = f"on the host: apt-get update; a proxy belongs into apt's configuration. Tried {answer['url']}"
        yield Remark(Problem(message, wanted.repository_place or name, hint))
        return
    if answer.get("origin") == "Ratssaal stand-ins" and not facts.get("lab_host"):
        message = f"{wanted.repository_url} holds the lab's stand-ins, and {name} is no lab host"
        yield Remark(
            Problem(message, wanted.repository_place or name, "vendor_repository_url: https://download.jitsi.org")
        )
    yield from _signature(name, answer, wanted)


def _signature(name: str, answer: Mapping[str, Any], wanted: Wanted) -> Iterator[Remark]:
    if not wanted.key_fingerprints:
        return
    try:
        found = openpgp.signers(base64.b64decode(answer["signed"]))
    except (openpgp.NotOpenPGP, binascii.Error):
        found = ()
    if not found:
        message = f"the package repository {wanted.repository_url} is not signed"
        yield Remark(
            Problem(message, wanted.repository_place or name, "use upstream's repository or a signed mirror of it")
        )
    elif not any(openpgp.same_key(signer, key) for signer in found for key in wanted.key_fingerprints):
        message = f"the package repository is signed by another key, as the host {name} sees it: {', '.join(found)}"
        hint = f"vendor_repository_key holds {wanted.key_fingerprints[0]}; compare with upstream before you change it"
        yield Remark(Problem(message, wanted.key_place or name, hint))
