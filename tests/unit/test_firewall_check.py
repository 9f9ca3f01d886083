"""What NET-01, NET-03 and NET-05 make of sockets and rulesets as ss and nft print them, which is not always how they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.verification.checks import test_network
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import undeclared
from orchestrator.verification.subject import Subject
from tests.unit.test_verification_checks import FakeHost

BRIDGES = ["198.51.100.11", "198.51.100.12", "198.51.100.13", "198.51.100.20"]
CHAIN = {"family": "inet", "table": "ratssaal", "name": "input", "type": "filter", "hook": "input", "policy": "drop"}


class _Server(Subject):
    """A server that lets everybody use SSH, and its bridges Prosody's port."""

    def flows(self) -> list[dict[str, Any]]:
        """See Subject."""
        anywhere = {"proto": "tcp", "port": 22, "sources": ["0.0.0.0/0", "::/0"]}
        return [anywhere, {"proto": "tcp", "port": 5222, "sources": [f"{address}/32" for address in BRIDGES]}]


def _match(protocol: str, field: str, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}


def _rules(*members: Any, table: str = "ratssaal") -> list[dict[str, Any]]:
    """Return an input chain that lets anybody use SSH, and some use port 5222."""
    ssh, prosody = _match("tcp", "dport", 22), _match("tcp", "dport", 5222)
    some = _match("ip", "saddr", {"set": list(members)})
    rules = [[ssh, {"accept": None}], [some, prosody, {"accept": None}]]
    where = {"family": "inet", "table": table, "chain": "input"}
    return [{"chain": {**CHAIN, "table": table}}, *({"rule": {**where, "expr": rule}} for rule in rules)]


def _seen(*rows: dict[str, Any]) -> list[str]:
    host, sheet = FakeHost({"if command -v nft": json.dumps({"nftables": rows}), "systemctl": "enabled\n"}), Sheet()
    test_network.test_firewall(host, _Server("h1", "", "", (), {}), sheet)
    return [seen for seen, _ in sheet.faults]


# As nft 1.0.6 prints 198.51.100.11, .12, .13 and .20 in one set.
JOINED = {"range": ["198.51.100.11", "198.51.100.13"]}


def test_neighbouring_addresses_that_nft_joins_are_those_that_were_declared() -> None:
    assert _seen(*_rules(JOINED, "198.51.100.20")) == []
    assert _seen(*_rules(*BRIDGES)) == []


@pytest.mark.parametrize(
    ("members", "seen"),
    [
        ([JOINED], ["5222/tcp is not let in from 198.51.100.20"]),
        ([{"range": ["198.51.100.11", "198.51.100.14"]}, "198.51.100.20"], ["5222/tcp is let in from 198.51.100.14"]),
        ([*BRIDGES, {"prefix": {"addr": "203.0.113.0", "len": 24}}], ["5222/tcp is let in from 203.0.113.0/24"]),
    ],
)
def test_one_address_more_or_less_is_a_fault(members: list[Any], seen: list[str]) -> None:
    assert [words for words in _seen(*_rules(*members)) if words in seen] == seen


def test_only_what_every_chain_lets_in_is_let_in() -> None:
    both = [*_rules("198.51.100.0"), *_rules(*BRIDGES, table="second")]
    assert "5222/tcp is not let in from 198.51.100.11" in _seen(*both)
    assert not any("198.51.100.0" in seen for seen in _seen(*both))
    assert _seen(*_rules(*BRIDGES), *_rules(JOINED, "198.51.100.20", "203.0.113.9", table="second")) == []


ACCEPT: dict[str, Any] = {"accept": None}
SOME = _match("ip", "saddr", {"prefix": {"addr": "203.0.113.0", "len": 24}})


def _meta(key: str, right: Any, *, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


def _mapped(key: dict[str, Any], data: Any) -> dict[str, Any]:
    return {"vmap": {"key": key, "data": data}}


DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
STATE = {"ct": {"key": "state"}}
FURTHER = {"jump": {"target": "further"}}
# Beside the two flows: a chain that takes everything, a set, one whose members come and go, and a map of verdicts.
OBJECTS: list[dict[str, Any]] = [
    {"chain": {"family": "inet", "table": "ratssaal", "name": "further"}},
    {"rule": {"family": "inet", "table": "ratssaal", "chain": "further", "expr": [{"counter": None}, ACCEPT]}},
    {"set": {"family": "inet", "table": "ratssaal", "name": "office", "elem": [{"elem": {"val": "203.0.113.7"}}]}},
    {"set": {"family": "inet", "table": "ratssaal", "name": "knock", "flags": ["timeout"], "elem": []}},
    {"map": {"family": "inet", "table": "ratssaal", "name": "doors", "elem": [[99, ACCEPT], [98, {"drop": None}]]}},
]


def _with(*expression: dict[str, Any]) -> list[str]:
    rule = {"family": "inet", "table": "ratssaal", "chain": "input", "expr": list(expression)}
    return _seen(*_rules(*BRIDGES), *OBJECTS, {"rule": rule})


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        ([ACCEPT], "everything is let in from anywhere"),
        ([{"log": {"prefix": "x"}}, ACCEPT], "everything is let in from anywhere"),
        ([{"limit": {"rate": 9, "per": "second"}}, ACCEPT], "everything is let in from anywhere"),
        ([{"queue": {"num": 1}}], "everything is let in from anywhere"),
        ([SOME, ACCEPT], "everything is let in from 203.0.113.0/24"),
        ([SOME, FURTHER], "everything is let in from 203.0.113.0/24"),
        ([_match("ip", "saddr", "@office"), ACCEPT], "everything is let in from 203.0.113.7"),
        ([_match("ip", "saddr", "@knock"), ACCEPT], "everything is let in from @knock"),
        (
            [_match("ip6", "saddr", {"prefix": {"addr": "fe80::", "len": 10}}), ACCEPT],
            "everything is let in from fe80::/10",
        ),
        ([_meta("l4proto", "tcp"), ACCEPT], "every port/tcp is let in from anywhere"),
        ([_meta("nfproto", "ipv6"), ACCEPT], "everything is let in from ::/0"),
        ([_meta("iifname", {"set": ["lo", "eth0"]}), ACCEPT], "everything is let in from anywhere"),
        ([_meta("iifname", "lo", op="!="), ACCEPT], "everything is let in from anywhere"),
        ([{"match": {"op": "!=", "left": DPORT, "right": 22}}, ACCEPT], "every port/tcp is let in from anywhere"),
        ([_match("udp", "sport", 53), ACCEPT], "every port/udp is let in from anywhere"),
        ([_match("ip", "protocol", "gre"), ACCEPT], "any other protocol is let in from 0.0.0.0/0"),
        (
            [_match("tcp", "dport", {"set": [22, {"range": [8000, 8010]}]}), ACCEPT],
            "8000-8010/tcp is let in from anywhere",
        ),
        ([_mapped(DPORT, {"set": [[22, FURTHER], [80, ACCEPT]]})], "80/tcp is let in from anywhere"),
        ([_mapped(DPORT, "@doors")], "99/tcp is let in from anywhere"),
        ([_mapped(STATE, {"set": [["established", ACCEPT], ["new", FURTHER]]})], "everything is let in from anywhere"),
    ],
)
def test_every_rule_that_lets_something_in_is_found(rule: list[dict[str, Any]], seen: str) -> None:
    assert _with(*rule) == [seen]


@pytest.mark.parametrize(
    "rule",
    [
        [_meta("iifname", "lo"), ACCEPT],
        [{"match": {"op": "in", "left": STATE, "right": ["established", "related"]}}, ACCEPT],
        [_mapped(STATE, {"set": [["established", ACCEPT], ["invalid", {"drop": None}]]})],
        [_meta("l4proto", {"set": ["icmp", "ipv6-icmp"]}), ACCEPT],
        [_match("icmp", "type", "echo-request"), ACCEPT],
        [_match("ip6", "saddr", {"prefix": {"addr": "fe80::", "len": 10}}), _match("udp", "dport", 546), ACCEPT],
        [_match("ip", "saddr", "192.0.2.7"), _match("tcp", "dport", 22), ACCEPT],
        [SOME, {"drop": None}],
        [_mapped(DPORT, {"set": [[80, {"jump": {"target": "input"}}]]})],
    ],
)
def test_what_opens_nothing_new_is_no_fault(rule: list[dict[str, Any]]) -> None:
    assert _with(*rule) == []


def test_a_rule_with_further_conditions_is_not_the_declared_one() -> None:
    chain, *rules = _rules(*BRIDGES)
    rules[0]["rule"]["expr"].insert(0, _meta("iifname", "eth0"))
    assert _seen(chain, *rules) == ["22/tcp is not let in from anywhere"]


def test_a_declared_range_of_ports_covers_each_of_them() -> None:
    flow = {"proto": "tcp", "port": "5000-5010", "service": "extra"}
    shown = 'tcp LISTEN 0 5 0.0.0.0:{}  0.0.0.0:* users:(("game",pid=1,fd=3))\n'
    several = "".join(shown.format(port) for port in (4999, 5000, 5007, 5010, 5011))
    assert [socket.port for socket in undeclared(several, [], [flow])] == [4999, 5011]
    assert len(list(undeclared(several, [], [{**flow, "service": "coturn"}]))) == 5


@pytest.mark.parametrize(
    ("address", "process", "ports"),
    [
        ("127.0.0.1", "docker-proxy", []),
        ("[::1]", "docker-proxy", []),
        ("0.0.0.0", "docker-proxy", [8085]),
        ("127.0.0.1", "python3", [8085]),
    ],
)
def test_a_containers_port_for_the_host_alone_is_expected(address: str, process: str, ports: list[int]) -> None:
    shown = f'tcp LISTEN 0 4096 {address}:8085 0.0.0.0:* users:(("{process}",pid=1,fd=7))\n'
    assert [socket.port for socket in undeclared(shown, [], [])] == ports


@pytest.mark.parametrize(
    ("told", "let_in", "fault", "untested"),
    [
        ("0.000000 7", True, "", ""),
        ("0.000000 28", False, "", ""),
        ("0.000000 28", True, "", "http://h:8080: curl ended with 28"),
        ("127", False, "", "http://h:8080: curl ended with 127"),
        ("0.000000 6", False, "", "http://h:8080: curl ended with 6"),
        ("0.000213 0", False, "http://h:8080 answers", ""),
        ("0.000213 52", False, "http://h:8080 takes connections (curl ended with 52)", ""),
        ("0,000213 56", False, "http://h:8080 takes connections (curl ended with 56)", ""),
        # It takes the connection and then says nothing.
        ("0.000213 28", False, "http://h:8080 takes connections (curl ended with 28)", ""),
    ],
)
def test_only_a_refusal_or_a_dropping_rule_is_silence(told: str, let_in: bool, fault: str, untested: str) -> None:
    sheet = Sheet()
    test_network.judge_rest("http://h:8080", told.split(), let_in, sheet)
    assert [seen for seen, _ in sheet.faults] == [fault] * bool(fault)
    assert sheet.untested == [untested] * bool(untested)
    assert len(sheet.seen) == (not fault and not untested)


def test_an_internal_interface_is_asked_on_every_address() -> None:
    said = {
        "ss": 'tcp LISTEN 0 50 127.0.0.1:8080 0.0.0.0:* users:(("java",pid=1,fd=2))\n',
        "if command -v nft": json.dumps({"nftables": _rules("198.51.100.11")}),
        "curl -s -o /dev/null -m 3 -w '%{time_connect} ' 'http://192.0.2.10:8080/": "0.000000 7\n",
        "curl": "127\n",
    }
    host, sheet = FakeHost(said), Sheet()
    test_network.test_internal_interfaces(host, _Server("h1", "192.0.2.10", "", (), {}), sheet)
    assert sheet.faults == []
    assert "http://192.0.2.10:8080 does not answer" in sheet.seen
    assert sheet.untested == ["http://192.0.2.10:8888: curl ended with 127"]
