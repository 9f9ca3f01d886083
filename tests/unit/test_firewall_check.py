"""What NET-03 makes of rulesets as nft prints them, which is not always how they were written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.firewall_cases import (
    ACCEPT,
    AS_DECLARED,
    BRIDGES,
    CHAIN,
    DROP,
    RETURN,
    TELEPHONE,
    in_further,
    mapped,
    match,
    meta,
    rules_for,
    seen_in,
)

# As nft 1.0.6 prints 198.51.100.11, .12, .13 and .20 in one set.
JOINED = {"range": ["198.51.100.11", "198.51.100.13"]}


def test_neighbouring_addresses_that_nft_joins_are_those_that_were_declared() -> None:
    assert seen_in(*rules_for(JOINED, "198.51.100.20")) == []
    assert seen_in(*AS_DECLARED) == []


@pytest.mark.parametrize(
    ("members", "seen"),
    [
        ([JOINED], ["5222/tcp is not let in from 198.51.100.20"]),
        ([{"range": ["198.51.100.11", "198.51.100.14"]}, "198.51.100.20"], ["5222/tcp is let in from 198.51.100.14"]),
        ([*BRIDGES, {"prefix": {"addr": "203.0.113.0", "len": 24}}], ["5222/tcp is let in from 203.0.113.0/24"]),
    ],
)
def test_one_address_more_or_less_is_a_fault(members: list[Any], seen: list[str]) -> None:
    assert [words for words in seen_in(*rules_for(*members)) if words in seen] == seen


def test_only_what_every_chain_lets_in_is_let_in() -> None:
    both = [*rules_for("198.51.100.0"), *rules_for(*BRIDGES, table="second")]
    assert "5222/tcp is not let in from 198.51.100.11" in seen_in(*both)
    assert not any("198.51.100.0" in seen for seen in seen_in(*both))
    assert seen_in(*AS_DECLARED, *rules_for(JOINED, "198.51.100.20", "203.0.113.9", table="second")) == []


SOME = match("ip", "saddr", {"prefix": {"addr": "203.0.113.0", "len": 24}})
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
    return seen_in(*AS_DECLARED, *OBJECTS, {"rule": rule})


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        ([ACCEPT], "everything is let in from anywhere"),
        ([{"log": {"prefix": "x"}}, ACCEPT], "everything is let in from anywhere"),
        ([{"limit": {"rate": 9, "per": "second"}}, ACCEPT], "everything is let in from anywhere"),
        ([{"queue": {"num": 1}}], "everything is let in from anywhere"),
        ([SOME, ACCEPT], "everything is let in from 203.0.113.0/24"),
        ([SOME, FURTHER], "everything is let in from 203.0.113.0/24"),
        ([match("ip", "saddr", "@office"), ACCEPT], "everything is let in from 203.0.113.7"),
        ([match("ip", "saddr", "@knock"), ACCEPT], "everything is let in from @knock"),
        (
            [match("ip6", "saddr", {"prefix": {"addr": "fe80::", "len": 10}}), ACCEPT],
            "everything is let in from fe80::/10",
        ),
        ([meta("l4proto", "tcp"), ACCEPT], "every port/tcp is let in from anywhere"),
        ([meta("nfproto", "ipv6"), ACCEPT], "everything is let in from ::/0"),
        ([meta("iifname", {"set": ["lo", "eth0"]}), ACCEPT], "everything is let in from anywhere"),
        ([meta("iifname", "lo", op="!="), ACCEPT], "everything is let in from anywhere"),
        ([{"match": {"op": "!=", "left": DPORT, "right": 22}}, ACCEPT], "every port/tcp is let in from anywhere"),
        ([match("udp", "sport", 53), ACCEPT], "every port/udp is let in from anywhere"),
        ([match("ip", "protocol", "gre"), ACCEPT], "any other protocol is let in from 0.0.0.0/0"),
        (
            [match("tcp", "dport", {"set": [22, {"range": [8000, 8010]}]}), ACCEPT],
            "8000-8010/tcp is let in from anywhere",
        ),
        ([mapped(DPORT, {"set": [[22, FURTHER], [80, ACCEPT]]})], "80/tcp is let in from anywhere"),
        ([mapped(DPORT, "@doors")], "99/tcp is let in from anywhere"),
        ([mapped(STATE, {"set": [["established", ACCEPT], ["new", FURTHER]]})], "everything is let in from anywhere"),
    ],
)
def test_every_rule_that_lets_something_in_is_found(rule: list[dict[str, Any]], seen: str) -> None:
    assert _with(*rule) == [seen]


@pytest.mark.parametrize(
    "rule",
    [
        [meta("iifname", "lo"), ACCEPT],
        [{"match": {"op": "in", "left": STATE, "right": ["established", "related"]}}, ACCEPT],
        [mapped(STATE, {"set": [["established", ACCEPT], ["invalid", {"drop": None}]]})],
        [meta("l4proto", {"set": ["icmp", "ipv6-icmp"]}), ACCEPT],
        [match("icmp", "type", "echo-request"), ACCEPT],
        [match("ip6", "saddr", {"prefix": {"addr": "fe80::", "len": 10}}), match("udp", "dport", 546), ACCEPT],
        [match("ip", "saddr", "192.0.2.7"), match("tcp", "dport", 22), ACCEPT],
        [SOME, {"drop": None}],
        [mapped(DPORT, {"set": [[80, {"jump": {"target": "input"}}]]})],
    ],
)
def test_what_opens_nothing_new_is_no_fault(rule: list[dict[str, Any]]) -> None:
    assert _with(*rule) == []


def _first(*expression: dict[str, Any]) -> list[str]:
    """Return what is seen with a rule before those that let in what was declared."""
    chain, *rules = rules_for(*BRIDGES)
    rule = {"family": "inet", "table": "ratssaal", "chain": "input", "expr": list(expression)}
    return seen_in(chain, {"rule": rule}, *rules, *OBJECTS)


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        ([match("tcp", "dport", 22), DROP], ["22/tcp is not let in from anywhere"]),
        ([match("tcp", "dport", {"range": [20, 30]}), {"reject": None}], ["22/tcp is not let in from anywhere"]),
        ([meta("nfproto", "ipv6"), match("tcp", "dport", 22), DROP], ["22/tcp is not let in from ::/0"]),
        (
            [
                match("ip", "saddr", {"prefix": {"addr": "198.51.100.20", "len": 32}}),
                match("tcp", "dport", 5222),
                DROP,
            ],
            ["5222/tcp is not let in from 198.51.100.20"],
        ),
        ([mapped(DPORT, {"set": [[22, DROP]]})], ["22/tcp is not let in from anywhere"]),
        ([match("tcp", "dport", 22), RETURN], ["22/tcp is not let in from anywhere"]),
        (
            [match("tcp", "dport", 22), {"limit": {"rate": 1, "per": "day"}}, DROP],
            ["22/tcp is not let in from anywhere"],
        ),
        ([match("tcp", "dport", 23), DROP], []),
        ([{"match": {"op": "in", "left": STATE, "right": ["invalid"]}}, DROP], []),
        ([ACCEPT], ["everything is let in from anywhere"]),
    ],
)
def test_rules_are_judged_in_their_order(rule: list[dict[str, Any]], seen: list[str]) -> None:
    assert _first(*rule) == seen


def test_a_set_that_rules_fill_may_hold_anybody_later() -> None:
    """As nft 1.0.6 tells a set with `flags dynamic`: without them."""
    door = {"set": {"family": "inet", "table": "ratssaal", "name": "door", "type": "ipv4_addr"}}
    adds = {"set": {"op": "add", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "set": "@door"}}
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}
    rules = [[match("tcp", "dport", 7000), adds], [match("ip", "saddr", "@door"), ACCEPT]]
    rows: list[dict[str, Any]] = [door, *({"rule": {**where, "expr": rule}} for rule in rules)]
    assert seen_in(*AS_DECLARED, *rows) == ["everything is let in from @door"]
    assert seen_in(*AS_DECLARED, rows[0], rows[2]) == []


UNTRACKED = {"match": {"op": "in", "left": STATE, "right": ["invalid", "untracked"]}}


@pytest.mark.parametrize(
    "drop",
    [[UNTRACKED, DROP], [mapped(STATE, {"set": [["invalid", DROP], ["untracked", DROP]]})]],
    ids=["rule", "map"],
)
def test_a_drop_of_untracked_packets_hides_nothing_that_lets_in_new_connections(drop: list[dict[str, Any]]) -> None:
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}

    def with_last(*expression: dict[str, Any]) -> list[str]:
        rules = [{"rule": {**where, "expr": rule}} for rule in (drop, list(expression))]
        return seen_in(*AS_DECLARED, *rules)

    assert with_last(ACCEPT) == ["everything is let in from anywhere"]
    assert with_last(TELEPHONE, ACCEPT) == ["4000-4999/tcp is let in from anywhere"]
    assert with_last(match("tcp", "dport", 22), ACCEPT) == []


def test_only_a_state_without_new_connections_lets_in_nobody() -> None:
    for state, seen in (("untracked", True), ("new", True), ("established", False), ("invalid", False)):
        rule = [{"match": {"op": "in", "left": STATE, "right": [state]}}, ACCEPT]
        assert bool(_with(*rule)) == seen


@pytest.mark.parametrize(
    ("version", "flags", "asked"),
    [
        # nft 1.0.6 tells the name of a table in place of a flag.
        ("1.0.6", "ratssaal", False),
        ("1.0.6", "persist", False),
        ("1.1.3", "dormant", False),
        ("1.1.3", ["dormant", "owner"], False),
        ("1.1.3", ["owner", "persist"], True),
        ("1.1.3", "persist", True),
        ("1.1.3", None, True),
    ],
)
def test_a_table_that_the_kernel_does_not_ask_is_no_firewall(version: str, flags: Any, asked: bool) -> None:
    table = {"family": "inet", "name": "ratssaal", **({} if flags is None else {"flags": flags})}
    rows: list[dict[str, Any]] = [{"metainfo": {"version": version}}, {"table": table}]
    # What sleeps in another table drops nothing either.
    others = {"table": {**table, "family": "ip"}}
    shut = {"chain": {**CHAIN, "family": "ip", "hook": "prerouting"}}
    assert seen_in(*rows, *AS_DECLARED) == ([] if asked else ["0 input chain drops by default"])
    found = seen_in(rows[0], others, shut, *AS_DECLARED)
    assert found[:1] == (["22/tcp is not let in from 0.0.0.0/0"] if asked else [])


def test_a_drop_counts_for_what_reaches_it_only() -> None:
    assert in_further([DROP]) == []
    assert in_further([TELEPHONE, RETURN], [DROP]) == ["4000-4999/tcp is let in from anywhere"]
    assert in_further([SOME, RETURN], [DROP]) == ["everything is let in from 203.0.113.0/24"]
    assert in_further([TELEPHONE, ACCEPT], [DROP]) == ["4000-4999/tcp is let in from anywhere"]
    # What a rule drops under further conditions may come in all the same.
    assert in_further([meta("iifname", "eth0"), DROP]) == ["everything is let in from anywhere"]


@pytest.mark.parametrize(
    ("family", "rules", "seen"),
    [
        ("inet", [[match("tcp", "dport", 22), DROP]], ["22/tcp is not let in from anywhere"]),
        ("ip", [[match("tcp", "dport", 22), DROP]], ["22/tcp is not let in from 0.0.0.0/0"]),
        ("inet", [[match("tcp", "dport", 22), ACCEPT], [DROP]], ["5222/tcp is not let in from 198.51.100.11"]),
        # An address that somebody banned is no fault, and ARP is none of this.
        ("inet", [[SOME, DROP]], []),
        ("arp", [[DROP]], []),
    ],
)
def test_a_chain_of_others_that_drops_for_everybody_counts(
    family: str, rules: list[list[dict[str, Any]]], seen: list[str]
) -> None:
    where = {"family": family, "table": "others"}
    chain = {"chain": {**CHAIN, **where, "policy": "accept"}}
    found = seen_in(*AS_DECLARED, chain, *({"rule": {**where, "chain": "input", "expr": rule}} for rule in rules))
    assert found[:1] == seen


def test_a_rule_with_further_conditions_is_not_the_declared_one() -> None:
    chain, *rules = rules_for(*BRIDGES)
    rules[0]["rule"]["expr"].insert(0, meta("iifname", "eth0"))
    assert seen_in(chain, *rules) == ["22/tcp is not let in from anywhere"]
