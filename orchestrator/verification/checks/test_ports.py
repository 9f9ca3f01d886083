"""Which ports answer from outside, over IPv4 and IPv6, against the declared flows."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.errors import RatssaalError
from orchestrator.inventory.derivations import MEDIA_PORT, STUN_PORT
from orchestrator.verification.admission import Policy, bounds, policy
from orchestrator.verification.asking import ask, json_of
from orchestrator.verification.nmap import ECHO, Scan, echoed, read, shown
from orchestrator.verification.reach import targets
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

# Services that listen on UDP on a server by accident or by custom, and whose protocols nmap can speak.
WELL_KNOWN_UDP = (
    *(53, 67, 69, 111, 123, 137, 161, 177, 389, 427, 443, 500, 514, 520, 623, 1194, 1434, 1645, 1701, 1812, 1900, 2049),
    *(3283, 3702, 4500, 5060, 5349, 5351, 5353, 5683, 10001, 11211, 27015, 33848, 47808, 51820),
)
_WEB = {80, 443}
_NAME_IT = "name it in the host variable base_address6"
_OTHER = "the inventory names one of each family: take it from the host, or look there yourself"
# By root half-open: what sshd never accepts it cannot hold against us (OpenSSH 9.8 PerSourcePenalties). Without root by
# whole connections: two to sshd, a second of its penalty each, of fifteen that it forgives.
_HOW = 'if [ "$(id -u)" = 0 ]; then how=-sS; else how=-sT; fi; nmap $how'
_XML = "-n -Pn -oX -"
# All ports dropped, measured: 27 s for each address, side by side. The time limit leaves room for many hosts at once.
_SWEEP = f"{_HOW} {_XML} --min-rate 5000 --max-retries 1 --host-timeout 100s -p-"
# What must be open is asked for again and again, so that a lost packet is no fault.
_DECLARED = f"{_HOW} {_XML} --max-retries 6 --host-timeout 60s -p"
_ADDRESSES = "ip -json address show up scope global"
_UDP = f"nmap -sU {_XML} --max-retries 3 --host-timeout 60s -p"


@pytest.mark.last
@pytest.mark.control("NET-02")
def test_ports_from_outside(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Every TCP port, and the UDP ports that are declared or well known."""
    flows = subject.flows()
    commands, meant = [], []
    for target in targets(outside, subject, sheet, "nmap"):
        tcp, udp = policy(flows, "tcp", target), policy(flows, "udp", target)
        family = "-6 " if ":" in target.address else ""
        declared = ",".join(map(str, tcp.ports(single=True)))
        listed = ",".join(map(str, sorted({*WELL_KNOWN_UDP, *udp_ports(flows)})))
        commands += [
            f"{_SWEEP} {family}{target.address}",
            f"{f'{_DECLARED} {declared}' if declared else ECHO} {family}{target.address}",
            f"{_UDP} {listed} {family}{target.address}",
        ]
        meant.append((target.address, tcp, udp))
    results = ask(outside, *commands)
    for number, (address, tcp, udp) in enumerate(meant):
        swept, asked, datagrams = results[3 * number : 3 * number + 3]
        single = bool(tcp.ports(single=True))
        found = [read(swept.stdout)]
        judge_tcp(address, tcp, found[0], read(asked.stdout) if single else found[0], sheet)
        if "requires root privileges" in datagrams.stderr + datagrams.stdout:
            sheet.could_not_look(f"{address}: UDP cannot be scanned without root at the vantage point")
        else:
            found.append(_usable(address, read(datagrams.stdout), datagrams))
            judge_udp(address, udp, found[1], sheet)
        judge_way(address, found, single or echoed(asked.stdout), sheet)
    try:
        (told,) = ask(host, _ADDRESSES)
    except RatssaalError as error:
        sheet.could_not_look(f"whether the host has other addresses is not known: {error}")
    else:
        judge_addresses(json_of(told), subject, sheet)


def judge_addresses(interfaces: Iterable[Mapping[str, Any]], subject: Subject, sheet: Sheet) -> None:
    """Note the public addresses of the host that the inventory does not name: nobody looked there.

    Not those that the host itself is about to give up, nor those that it changes by the day for its own requests (RFC 8981):
    beside one of these it has a lasting one in the same network.
    """
    named = {ipaddress.ip_address(address) for address in subject.addresses}
    for row in (row for interface in interfaces for row in interface.get("addr_info", ()) if "local" in row):
        address = ipaddress.ip_address(row["local"])
        passing = row.get("temporary") or (row.get("dynamic") and row.get("deprecated"))
        if address.is_global and address not in named and not passing:
            sixth = address.version == 6 and not subject.address6
            sheet.could_not_look(
                f"{address}, a public address of the host, was not looked at ({_NAME_IT if sixth else _OTHER})"
            )


def udp_ports(flows: Iterable[Mapping[str, Any]]) -> set[int]:
    """Return each declared UDP port; of a range its bounds and its middle."""
    found: set[int] = set()
    for flow in flows:
        if flow["proto"] == "udp":
            low, high = bounds(flow)
            found |= {low, (low + high) // 2, high}
    return found


def judge_way(address: str, found: Iterable[Scan], answers: bool, sheet: Sheet) -> None:
    """Note what silence is worth: nothing where nothing at all answers; less where only what every network lets out does."""
    opened = {port for scan in found for port in scan.open}
    refused = any("closed" in (scan.rest, *scan.states.values()) for scan in found)
    if not opened and not refused and not answers:
        sheet.could_not_look(
            f"{address}: nothing at all answers, no echo either: whether anything gets there is not known"
        )
    elif not refused and opened and opened <= _WEB:
        words = f"{address}: only {shown(opened)} answered, as it would through a network that lets out nothing else"
        sheet.expect(True, words, "")


def _usable(address: str, scan: Scan, result: CommandResult | None = None) -> Scan:
    if scan.problem:
        said = result.stderr.strip()[-200:] if result else ""
        raise RuntimeError(f"{address}: {scan.problem}{f': {said}' if said else ''}")
    return scan


def judge_tcp(address: str, allowed: Policy, swept: Scan, asked: Scan, sheet: Sheet) -> None:
    """Note what is open beyond the flows, and what of them is not open."""
    if swept.problem == asked.problem == "nmap ran out of time":
        sheet.could_not_look(f"{address}: {swept.problem}")
        return
    opened = set(_usable(address, asked).open)
    if swept.problem:
        sheet.could_not_look(f"{address}: not all ports were looked at: {swept.problem}")
    else:
        missed = sorted(opened - set(swept.open))
        if missed:
            # Packets were lost, or somebody on the way drops what comes too fast: silence then tells nothing.
            sheet.could_not_look(f"{address}: the look at all ports did not see {shown(missed)}/tcp, which is open")
        opened |= set(swept.open)
    for port in sorted(set(allowed.ports(single=True)) - opened):
        flow = allowed.flow(port, allowed.admitted)
        purpose = f" for {flow['purpose']}" if flow else ""
        sheet.expect(False, f"{address}: {port}/tcp is {asked.state(port)}", f"open{purpose}, as declared")
    for flow in allowed.admitted:
        low, high = bounds(flow)
        if low < high and not any(low <= port <= high for port in opened):
            sheet.expect(False, f"{address}: nothing of {low}-{high}/tcp is open", "open as declared")
    _judge_open(address, "tcp", allowed, opened, sheet)
    how = "half-open" if swept.way == "syn" else "by whole connections, without root"
    if not swept.problem:
        sheet.expect(True, f"{address}: of 65535 TCP ports, looked at {how}, are open: {shown(opened) or 'none'}", "")


def _judge_open(address: str, proto: str, allowed: Policy, opened: Iterable[int], sheet: Sheet) -> None:
    extra, restricted = [], []
    for port in sorted(opened):
        if allowed.flow(port, allowed.admitted):
            continue
        if allowed.flow(port, allowed.doubtful):
            sheet.could_not_look(
                f"{address}: {port}/{proto} is open, as declared for some sources; how the host sees us is not known"
            )
        elif allowed.flow(port, allowed.others):
            restricted.append(port)
        else:
            extra.append(port)
    if extra:
        sheet.expect(False, f"{address}: {shown(extra)}/{proto} open", "closed: not declared")
    if restricted:
        sheet.expect(False, f"{address}: {shown(restricted)}/{proto} open", "closed to us: declared for other sources")


def judge_udp(address: str, allowed: Policy, scan: Scan, sheet: Sheet) -> None:
    """Note what answers though undeclared, and what is declared but refused. Silence proves neither open nor closed."""
    silent = []
    for port in allowed.ports(single=True):
        state = scan.state(port)
        if state == "open":
            sheet.expect(True, f"{address}: {port}/udp answers", "")
        elif port == STUN_PORT:
            sheet.expect(False, f"{address}: {port}/udp is {state}", "a STUN answer")
        elif state == "open|filtered":
            silent.append(port)
        else:
            sheet.expect(False, f"{address}: {port}/udp is {state}", "open as declared")
    _judge_open(address, "udp", allowed, scan.open, sheet)
    if silent:
        # The bridge answers nobody who has no session (jitsi-videobridge), so its silence is what is wanted.
        why = " as the bridge should be" if silent == [MEDIA_PORT] else ""
        sheet.expect(True, f"{address}: {shown(silent)}/udp silent{why}, which proves neither open nor closed", "")
