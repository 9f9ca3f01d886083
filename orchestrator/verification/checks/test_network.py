"""Sockets, firewall, internal interfaces."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import SS, loopback, sockets, undeclared
from orchestrator.verification.subject import Subject

# jitsi-videobridge:doc/rest.md, jicofo's REST, Prosody's c2s, s2s, HTTP and component ports, and what HAProxy talks to.
INTERNAL = {
    8080: "the bridge's REST interface",
    8888: "Jicofo's REST interface",
    5222: "Prosody's client port",
    5269: "Prosody's server port",
    5280: "Prosody's HTTP port",
    5281: "Prosody's HTTPS port",
    5347: "Prosody's component port",
    5348: "TURN's port for HAProxy",
    4443: "nginx behind HAProxy",
}
# A host without nft has no firewall, which is a finding; nft that fails is an error.
_NFT = "if command -v nft >/dev/null; then nft -j list ruleset; else echo '{\"nftables\": []}'; fi"


@pytest.mark.control("NET-01")
def test_listening_sockets(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every listening socket must be one that follows from the topology."""
    (result,) = ask(host, SS)
    shown = text(result)
    for socket in undeclared(shown, subject.listeners(), subject.flows()):
        sheet.expect(False, f"{socket.process or 'an unseen process'} listens on {socket}", "not there")
    count = len(list(sockets(shown)))
    sheet.expect(count > 0, f"{count} listening sockets, all expected", "at least sshd's")


def _input_chains(ruleset: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chains = [row["chain"] for row in ruleset if "chain" in row]
    return [chain for chain in chains if chain.get("hook") == "input" and chain.get("type") == "filter"]


def _dropping(ruleset: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the input chains that drop by default, for IPv4 and IPv6 alike."""
    return [chain for chain in _input_chains(ruleset) if chain.get("policy") == "drop" and chain["family"] == "inet"]


def _accepted(ruleset: list[dict[str, Any]], chain: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return (proto, port, source) of each rule of the chain that lets a port in; source is * for anywhere."""
    found: set[tuple[str, str, str]] = set()
    for row in ruleset:
        rule = row.get("rule")
        if not rule or (rule["family"], rule["table"], rule["chain"]) != (
            chain["family"],
            chain["table"],
            chain["name"],
        ):
            continue
        matches = [part["match"] for part in rule["expr"] if "match" in part]
        if not any("accept" in part for part in rule["expr"]):
            continue
        ports = [(m["left"]["payload"]["protocol"], m["right"]) for m in matches if _field(m) == "dport"]
        sources = [source for m in matches if _field(m) == "saddr" for source in _members(m["right"])]
        for proto, right in ports:
            if sources and all(s.startswith("fe80:") for s in sources):
                continue  # link-local: neighbours only, for the address itself
            found |= {(proto, port, source) for port in _members(right) for source in sources or ["*"]}
    return found


def _field(match: Mapping[str, Any]) -> str:
    left = match["left"]
    return str(left["payload"]["field"]) if isinstance(left, dict) and "payload" in left else ""


def _members(right: Any) -> list[str]:
    """Return a right side's members as texts: a port, a range, an address, a prefix, or a set of these."""
    if isinstance(right, dict):
        if "set" in right:
            return [text for member in right["set"] for text in _members(member)]
        if "range" in right:
            return [f"{right['range'][0]}-{right['range'][1]}"]
        if "prefix" in right:
            return [f"{right['prefix']['addr']}/{right['prefix']['len']}"]
    return [str(right)]


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# (proto, port or range) -> from where
LetIn = dict[tuple[str, str], list[Network]]


def _let_in(rows: Iterable[tuple[str, str, str]]) -> LetIn:
    """Return who may reach which port. nft joins neighbouring addresses and prints them otherwise than they were written."""
    found: dict[tuple[str, str], list[Network]] = {}
    for proto, port, source in rows:
        found.setdefault((proto, port), []).extend(_networks(source))
    return {key: _joined(networks) for key, networks in found.items()}


def _networks(source: str) -> list[Network]:
    if source == "*":
        return [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    first, dash, last = source.partition("-")
    if dash:
        return list(ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last)))
    return [ipaddress.ip_network(source, strict=False)]


def _joined(networks: Iterable[Network]) -> list[Network]:
    many = list(networks)
    four = ipaddress.collapse_addresses(n for n in many if isinstance(n, ipaddress.IPv4Network))
    return [*four, *ipaddress.collapse_addresses(n for n in many if isinstance(n, ipaddress.IPv6Network))]


def _within(network: Network, others: Iterable[Network]) -> bool:
    return any(network.version == other.version and network.subnet_of(other) for other in others)  # type: ignore[arg-type]


def _through_both(one: LetIn, other: LetIn) -> LetIn:
    """Return what passes two chains."""
    return {
        key: _joined(
            [
                *(n for n in one[key] if _within(n, other[key])),
                *(n for n in other[key] if _within(n, one[key])),
            ]
        )
        for key in one.keys() & other.keys()
    }


def _more(left: LetIn, right: LetIn) -> Iterator[str]:
    """Yield what `left` lets in and `right` does not, in words."""
    for (proto, port), networks in sorted(left.items()):
        beyond = [n for n in networks if not _within(n, right.get((proto, port), ()))]
        names = [_plain(network) for network in beyond]
        if {"0.0.0.0/0", "::/0"} <= set(names):
            names = ["anywhere"]
        yield from (f"{port}/{proto} is let in from {name}" for name in names)


def _plain(network: Network) -> str:
    """Return a network as people write it: a single address without its length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


@pytest.mark.control("NET-03")
def test_firewall(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What is loaded must drop by default and let in exactly the declared flows."""
    loaded, at_boot = ask(host, _NFT, "systemctl is-enabled ratssaal-firewall.service 2>/dev/null; true")
    ruleset = json_of(loaded)["nftables"]
    dropping = _dropping(ruleset)
    sheet.expect(bool(dropping), f"{len(dropping)} input chain drops by default", "one, for IPv4 and IPv6")
    state = text(at_boot).strip() or "not there"
    sheet.expect(state == "enabled", f"the firewall's unit is {state} at boot", "enabled")
    if not dropping:
        return
    accepted = functools.reduce(_through_both, (_let_in(_accepted(ruleset, chain)) for chain in dropping))
    flows = [(str(flow["proto"]), str(flow["port"]), source) for flow in subject.flows() for source in flow["sources"]]
    wanted = _let_in(flows)
    beyond, missing = list(_more(accepted, wanted)), list(_more(wanted, accepted))
    for words in beyond:
        sheet.expect(False, words, "not declared, dropped")
    for words in missing:
        sheet.expect(False, words.replace(" is let in", " is not let in"), "let in as declared")
    if not beyond and not missing:
        sheet.expect(True, f"{len(flows)} flows are let in, as declared", "")


@pytest.mark.control("NET-05")
def test_internal_interfaces(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Internal ports: bound to loopback, or dropped by the firewall; REST never answers on a public address."""
    targets = [f"[{address}]" if ":" in address else address for address in subject.addresses]
    probes = [
        f"curl -s -o /dev/null -m 3 'http://{t}:{port}/about/version'; echo $?"
        for t in targets
        for port in (8080, 8888)
    ]
    shown, loaded, *answers = ask(host, SS, _NFT, *probes)
    ruleset = json_of(loaded)["nftables"]
    chains = _dropping(ruleset)
    allowed = {(f["proto"], str(f["port"])) for f in subject.flows() if f["port"] in INTERNAL}
    opened = (
        set.intersection(*({(p, port) for p, port, _ in _accepted(ruleset, c)} for c in chains)) if chains else None
    )
    seen = 0
    for proto, address, port, _ in sockets(text(shown)):
        if port not in INTERNAL or proto != "tcp":
            continue
        seen += 1
        if loopback(address) or (proto, str(port)) in allowed:
            continue
        dropped = opened is not None and (proto, str(port)) not in opened
        fits = dropped and port == 5348  # coturn has one list of addresses for all its ports
        sheet.expect(fits, f"{INTERNAL[port]} is bound to {address}:{port}", "bound to loopback")
    for probe, result in zip((f"{t}:{port}" for t in targets for port in (8080, 8888)), answers, strict=True):
        code = text(result).strip()
        sheet.expect(code != "0", f"http://{probe} {'answers' if code == '0' else 'does not answer'}", "no answer")
    sheet.expect(seen > 0, f"{seen} internal sockets looked at", "the internal services to be there")
