"""From where the hosts are administered: SSH answers the declared networks and nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.checks.test_network import _NFT, _dropping, _field, _members
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.reach import targets
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import SS, loopback, sockets
from orchestrator.verification.subject import Subject

_KNOCK = "timeout 3 bash -c ': </dev/tcp/{address}/{port}' 2>/dev/null && echo open || echo closed"
_OPEN = "SSH answers every address (firewall_management_sources)"


def _declared(subject: Subject) -> list[str]:
    return [str(source) for flow in subject.flows() if flow["id"] == "ssh" for source in flow["sources"]]


def _everywhere(sources: list[str]) -> bool:
    return any(ipaddress.ip_network(source).prefixlen == 0 for source in sources)


def _within(source: str, sources: list[str]) -> bool:
    """Say whether a network lies in a declared one; what cannot be read, such as a named set, does not."""
    try:
        network = ipaddress.ip_network(source, strict=False)
    except ValueError:
        return False
    wide = (ipaddress.ip_network(each) for each in sources)
    return any(network.version == each.version and network.subnet_of(each) for each in wide)  # type: ignore[arg-type]


def _admitting(
    ruleset: list[dict[str, Any]], chain: Mapping[str, Any], port: int, passed: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield each source from which a rule of the chain lets new connections to a TCP port in; * for anywhere."""
    place = (chain["family"], chain["table"], chain["name"])
    for rule in (row["rule"] for row in ruleset if "rule" in row):
        matches = [part["match"] for part in rule["expr"] if "match" in part]
        if (rule["family"], rule["table"], rule["chain"]) != place or any(_other(match, port) for match in matches):
            continue
        sources = [source for m in matches if _field(m) == "saddr" for source in _members(m["right"])] or ["*"]
        for verdict in _verdicts(rule["expr"], port):
            if "accept" in verdict:
                yield from (source for source in sources if not source.startswith("fe80:"))
            target = str((verdict.get("jump") or verdict.get("goto") or {}).get("target", ""))
            if target and target not in passed:
                inner = _admitting(ruleset, {**chain, "name": target}, port, (*passed, target))
                yield from (source for found in inner for source in (sources if found == "*" else [found]))


def _verdicts(expression: list[dict[str, Any]], port: int) -> Iterator[Mapping[str, Any]]:
    """Yield what becomes of a packet to the port: the rule's own verdict, and those of its map that may be meant."""
    for part in expression:
        if "vmap" not in part:
            yield part
            continue
        named = _field({"left": part["vmap"]["key"]}) == "dport"
        pairs = part["vmap"]["data"]
        for key, verdict in pairs.get("set", ()) if isinstance(pairs, dict) else ():
            if not named or any(_holds(each, port) for each in _members(key)):
                yield verdict


def _other(match: Mapping[str, Any], port: int) -> bool:
    """Say whether a match leaves out new connections to a TCP port: another port or protocol, loopback, known ones."""
    left, right = match["left"], match["right"]
    if match.get("op") == "!=":
        return False
    if isinstance(right, list):
        right = {"set": right}
    if _field(match) == "dport":
        tcp = left["payload"]["protocol"] in ("tcp", "th")
        return not tcp or not any(_holds(part, port) for part in _members(right))
    if "payload" in left:
        return left["payload"]["protocol"] in ("icmp", "icmpv6", "udp") or _field(match) in ("hoplimit", "type")
    name = left.get("meta", {}).get("key") or left.get("ct", {}).get("key")
    if name in ("iifname", "iif"):
        return "lo" in _members(right)
    if name == "l4proto":
        return "tcp" not in _members(right) and "6" not in _members(right)
    return name == "state" and "new" not in _members(right)


def _holds(part: str, port: int) -> bool:
    low, _, high = part.partition("-")
    return low.isdigit() and int(low) <= port <= int(high or low)


@pytest.mark.control("NET-06")
def test_ssh_is_let_in_from_the_management_only(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The loaded firewall, for every port on which sshd listens."""
    declared = _declared(subject)
    listening, loaded = ask(host, SS, _NFT)
    if _everywhere(declared):
        answered_for(subject, "NET-06", sheet, _OPEN)
        return
    ports = {s.port for s in sockets(text(listening)) if s.process == "sshd" and not loopback(s.address)}
    ruleset = json_of(loaded)["nftables"]
    chains = _dropping(ruleset)
    sheet.expect(bool(chains), f"{len(chains)} input chains drop by default", "one: else everybody reaches sshd")
    sheet.expect(bool(ports), f"sshd listens on {', '.join(map(str, sorted(ports))) or 'no port'}", "a port")
    for port in sorted(ports) if chains else ():
        admitted = [set(_admitting(ruleset, chain, port)) for chain in chains]
        # Each chain must let a packet in; what one of them keeps to the declared networks is kept.
        worst = min(([s for s in sorted(found) if not _within(s, declared)] for found in admitted), key=len)
        for source in worst:
            seen = f"{port}/tcp (SSH) is let in from {'anywhere' if source == '*' else source}"
            sheet.expect(False, seen, f"only from {', '.join(declared)}")
        if not worst:
            sheet.expect(True, f"{port}/tcp (SSH) is let in from {', '.join(declared)} only", "")


@pytest.mark.control("NET-06")
def test_ssh_does_not_answer_strangers(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """The vantage point knocks at SSH's port; what it may expect depends on where it stands."""
    del host
    declared = _declared(subject)
    port = int(subject.topology["hosts"][subject.name]["ssh_port"])
    if _everywhere(declared):
        answered_for(subject, "NET-06", sheet, _OPEN)
        return
    reached = targets(outside, subject, sheet, "bash")
    knocks = ask(outside, *(_KNOCK.format(address=target.address, port=port) for target in reached))
    for target, knocked in zip(reached, knocks, strict=True):
        open_ = text(knocked).strip() == "open"
        seen = f"SSH {'answers' if open_ else 'does not answer'} on {target.bracketed}:{port}"
        if target.source and _within(target.source, declared):
            sheet.expect(True, f"{seen}, asked from within the management networks", "")
        elif open_ and not target.source:
            sheet.could_not_look(f"{seen}; how the host sees us is not known")
        else:
            sheet.expect(not open_, seen, f"no answer to us: only to {', '.join(declared)}")
