"""Sockets, firewall, internal interfaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.bootfirewall import UNIT, judge_rules, judge_unit, rules_of
from orchestrator.verification.networks import holds_most, joined, parted, plain
from orchestrator.verification.nftables import RULESET, Ruleset
from orchestrator.verification.openings import (
    ALL_PORTS,
    EVERYTHING,
    Opening,
    Ports,
    admitted,
    opening,
    through_both,
    uncovered,
)
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import SS, loopback, sockets, undeclared
from orchestrator.verification.sshsocket import SSH_SOCKET, ports_of
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
# What else answers whoever reaches it, and comes along with other software on the host.
_NOT_OURS = {2375: "Docker's API", 2376: "Docker's API", 5432: "PostgreSQL", 6379: "Redis"}

_REST = "curl -s -o /dev/null -m 3 -w '%{{time_connect}} ' 'http://{}:{}/about/version'; echo $?"
# curl(1), exit codes
_REFUSED, _TIMED_OUT = "7", "28"


@pytest.mark.control("NET-01")
def test_listening_sockets(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every listening socket must be one that follows from the topology; systemd may hold sshd's for it."""
    shown, held = map(text, ask(host, SS, SSH_SOCKET))
    listeners, ports = subject.listeners(), ports_of(held)
    listeners += [
        {**row, "process": "systemd"} for row in listeners if row["process"] == "sshd" and row["port"] in ports
    ]
    for socket in undeclared(shown, listeners, subject.flows()):
        sheet.expect(False, f"{socket.process or 'an unseen process'} listens on {socket}", "not there")
    count = len(list(sockets(shown)))
    sheet.expect(count > 0, f"{count} listening sockets, all expected", "at least sshd's")


# An answer to the host's own request comes from a neighbour's address, which the kernel does not take for an answer.
_DHCP6 = opening("udp", "546", ["fe80::/10"])


def _beyond(left: Iterable[Opening], right: Iterable[Opening]) -> Iterator[str]:
    """Yield what `left` lets in and `right` does not, in words."""
    rows: dict[Opening, dict[str, list[tuple[str, Ports]]]] = {}
    for row, proto, ports, sources in uncovered(left, right):
        names = rows.setdefault(row, {})
        for name in plain(sources):
            names.setdefault(name, []).append((proto, ports))
    for row, names in rows.items():
        for name, parts in names.items():
            whole = len(parts) == len(EVERYTHING.protocols) and row.ports == EVERYTHING.ports
            yield from (f"{words} is let in from {name}" for words in (["everything"] if whole else map(_words, parts)))


def _barred(ruleset: Ruleset, flows: list[Opening]) -> Iterator[str]:
    """Yield, in words, which other chains may keep some from what was declared; addresses of people are not told."""
    for (family, table, chain), drops in ruleset.narrow_drops():
        hit = [both for flow, drop in product(flows, drops) if (both := through_both(flow, drop))]
        few = {source for row in hit if not holds_most(row.sources) for source in row.sources}
        networks, names = parted(few)
        many = len(joined(networks))
        whom = [f"{many} network{'s' * (many > 1)}"] * bool(many) + sorted(names)
        if any(holds_most(row.sources) for row in hit):
            whom.append("anywhere under conditions that are not read here")
        what = dict.fromkeys(_words(part) for row in hit for part in product(sorted(row.protocols), row.ports))
        if hit:
            yield f"chain {chain} of table {family} {table} may drop {', '.join(what)} from {', '.join(whom)}"


def _words(part: tuple[str, Ports]) -> str:
    proto, (low, high) = part
    if proto == "other":
        return "any other protocol"
    return f"{'every port' if (low, high) == ALL_PORTS else low if low == high else f'{low}-{high}'}/{proto}"


@pytest.mark.control("NET-03")
def test_firewall(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What is loaded must drop by default, let in exactly the declared flows, and be what the next start loads."""
    loaded, unit = ask(host, RULESET, UNIT)
    ruleset = Ruleset(json_of(loaded)["nftables"])
    if file := judge_unit(text(unit), sheet):
        judge_rules(file, ask(host, rules_of(file))[0], sheet)
    dropping = ruleset.dropping()
    sheet.expect(bool(dropping), f"{len(dropping)} input chain drops by default", "one, for IPv4 and IPv6")
    if not dropping:
        return
    accepted = ruleset.openings()
    flows = [opening(str(flow["proto"]), str(flow["port"]), flow["sources"]) for flow in subject.flows()]
    beyond = list(dict.fromkeys(_beyond(accepted, [*flows, _DHCP6])))
    missing = list(dict.fromkeys(_beyond(flows, ruleset.sure())))
    for words in _barred(ruleset, flows):
        sheet.expect(True, words, "")
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
    tried = [(target, port) for target in targets for port in (8080, 8888)]
    shown, loaded, *answers = ask(host, SS, RULESET, *(_REST.format(target, port) for target, port in tried))
    let_in = Ruleset(json_of(loaded)["nftables"]).openings()
    names = INTERNAL | _NOT_OURS
    allowed = {(f["proto"], str(f["port"])) for f in subject.flows() if f["port"] in names}
    ours = 0
    for proto, address, port, _ in sockets(text(shown)):
        if port not in names or proto != "tcp":
            continue
        ours += port in INTERNAL
        if loopback(address) or (proto, str(port)) in allowed:
            continue
        # coturn has one list of addresses for all its ports
        fits = port == 5348 and not admitted(let_in, proto, port)
        sheet.expect(fits, f"{names[port]} is bound to {address}:{port}", "bound to loopback")
    for (target, port), result in zip(tried, answers, strict=True):
        judge_rest(f"http://{target}:{port}", text(result).split(), bool(admitted(let_in, "tcp", port)), sheet)
    wanted = any(row["proto"] == "tcp" and row["port"] in INTERNAL for row in subject.listeners())
    sheet.expect(ours > 0 or not wanted, f"{ours} internal sockets looked at", "the internal services to be there")


def judge_rest(where: str, told: list[str], let_in: bool, sheet: Sheet) -> None:
    """Note whether an interface answered: the time at which it took the connection, if any, and how curl ended.

    Silence is a refusal, or none at all where the firewall lets nobody in. What else ends a try says nothing.
    """
    *times, code = told
    taken = any(time.strip("0.,") for time in times)
    if code == "0" or taken:
        how = "answers" if code == "0" else f"takes connections (curl ended with {code})"
        sheet.expect(False, f"{where} {how}", "no answer")
    elif code == _REFUSED or (code == _TIMED_OUT and not let_in):
        sheet.expect(True, f"{where} does not answer", "no answer")
    else:
        sheet.could_not_look(f"{where}: curl ended with {code}")
