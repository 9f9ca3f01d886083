"""Rules of others and lists of thousands of addresses: judged address by address, and soon."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.verification.nftables import Ruleset
from orchestrator.verification.openings import admitted
from tests.unit.firewall_cases import (
    ACCEPT,
    AS_DECLARED,
    BRIDGES,
    CHAIN,
    DROP,
    RETURN,
    TELEPHONE,
    in_further,
    judged,
    mapped,
    match,
    meta,
    rules_for,
    seen_in,
)

# Half of them as far apart as they may be, half of them neighbours but one, as fail2ban gathers them over the years.
BANNED = [str(ipaddress.ip_address(number * 0x19_0001 + 1)) for number in range(2500)]
BANNED += [str(ipaddress.ip_address(0xCB00_0001 + 2 * number)) for number in range(2500)]
BANS = {"set": {"family": "inet", "table": "others", "name": "bans", "elem": BANNED}}
BY_BAN = match("ip", "saddr", "@bans")
OTHERS: dict[str, Any] = {"family": "inet", "table": "others"}
SSH = match("tcp", "dport", 22)
PROSODY = match("tcp", "dport", 5222)


@pytest.fixture
def soon() -> Iterator[None]:
    """Fail where the test takes more than five seconds of this processor: what grows with the square takes minutes."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 5


def _beside(*rules: list[dict[str, Any]], policy: str = "accept", **where: str) -> list[str]:
    """Return what is seen where another table has a chain of these rules."""
    place = {**OTHERS, **where}
    rows = [{"rule": {**place, "chain": "input", "expr": rule}} for rule in rules]
    bans = {"set": {**BANS["set"], **place}}
    return seen_in(*AS_DECLARED, bans, {"chain": {**CHAIN, **place, "policy": policy}}, *rows)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        ([[BY_BAN, DROP]], []),
        ([[match("ip", "saddr", address), DROP] for address in BANNED[:1000]], []),
        # What is banned first hides nothing of what is dropped for all others.
        ([[BY_BAN, DROP], [SSH, DROP]], ["22/tcp is not let in from anywhere"]),
        ([[BY_BAN, ACCEPT], [SSH, DROP]], ["22/tcp is not let in from anywhere"]),
        ([[match("ip", "saddr", {"set": BANNED[:150]}), RETURN], [SSH, DROP]], ["22/tcp is not let in from anywhere"]),
        # Two halves are everybody, too.
        (
            [[match("ip", "saddr", {"set": ["0.0.0.0/1", "128.0.0.0/1", *BANNED[:1]]}), SSH, DROP]],
            ["22/tcp is not let in from 0.0.0.0/0"],
        ),
    ],
)
def test_many_banned_addresses_in_a_chain_of_others(rules: list[list[dict[str, Any]]], seen: list[str]) -> None:
    assert _beside(*rules) == seen


OWN_BANS = [{"set": {**BANS["set"], "table": "ratssaal"}}]
ALSO_A_BRIDGE = [{"set": {**BANS["set"], "table": "ratssaal", "elem": [*BANNED, "198.51.100.20"]}}]
NOT_FOR_ALL = "22/tcp is not let in from 0.0.0.0/0"
NOT_FOR_THE_BRIDGE = "5222/tcp is not let in from 198.51.100.20"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("rule", "objects", "seen"),
    [
        ([BY_BAN, DROP], OWN_BANS, [NOT_FOR_ALL]),
        ([BY_BAN, DROP], ALSO_A_BRIDGE, [NOT_FOR_ALL, NOT_FOR_THE_BRIDGE]),
        ([BY_BAN, PROSODY, DROP], ALSO_A_BRIDGE, [NOT_FOR_THE_BRIDGE]),
        ([BY_BAN, meta("iifname", "eth0"), DROP], ALSO_A_BRIDGE, [NOT_FOR_ALL, NOT_FOR_THE_BRIDGE]),
        ([BY_BAN, match("tcp", "dport", 23), DROP], ALSO_A_BRIDGE, []),
        (
            [
                mapped(
                    {"payload": {"protocol": "ip", "field": "saddr"}},
                    {"set": [[address, DROP] for address in [*BANNED[:300], "198.51.100.20"]]},
                )
            ],
            [],
            [NOT_FOR_ALL, NOT_FOR_THE_BRIDGE],
        ),
    ],
)
def test_many_banned_addresses_in_our_own_chain(
    rule: list[dict[str, Any]], objects: list[dict[str, Any]], seen: list[str]
) -> None:
    chain, *rules = rules_for(*BRIDGES)
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}
    assert seen_in(chain, *objects, {"rule": {**where, "expr": rule}}, *rules) == seen


@pytest.mark.usefixtures("soon")
def test_what_many_addresses_are_spared_of_is_found_for_each_of_them() -> None:
    few = match("ip", "saddr", {"set": BANNED[:150]})
    assert len(in_further([few, RETURN], [DROP])) == 150
    assert in_further([few, DROP]) == ["everything is let in from ::/0", "everything is let in from 0.0.0.0/0"]


CONNTRACK: dict[str, Any] = {"xt": {"type": "match", "name": "conntrack"}}
BRIDGES_ONLY = match("ip", "saddr", {"set": BRIDGES})


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("family", "rules", "seen"),
    [
        ("ip", [], [NOT_FOR_ALL, "5222/tcp is not let in from 198.51.100.11"]),
        ("ip6", [], ["22/tcp is not let in from ::/0"]),
        ("ip", [[SSH, ACCEPT], [PROSODY, ACCEPT]], []),
        ("ip", [[SSH, ACCEPT], [BRIDGES_ONLY, ACCEPT]], []),
        ("ip", [[SSH, ACCEPT], [BRIDGES_ONLY, DROP], [PROSODY, ACCEPT]], []),
        ("ip", [[BRIDGES_ONLY, ACCEPT]], [NOT_FOR_ALL]),
        ("ip", [[SSH, RETURN], [ACCEPT]], [NOT_FOR_ALL]),
        ("ip", [[PROSODY, ACCEPT]], [NOT_FOR_ALL]),
        # Whether it lets in new connections is not known, as little as whom it drops.
        ("ip", [[CONNTRACK, ACCEPT], [PROSODY, ACCEPT]], [NOT_FOR_ALL]),
        ("ip", [[CONNTRACK, DROP], [SSH, ACCEPT], [PROSODY, ACCEPT]], []),
        ("ip", [[BY_BAN, DROP], [SSH, ACCEPT], [PROSODY, ACCEPT]], []),
        ("ip", [[BY_BAN, ACCEPT]], [NOT_FOR_ALL, "5222/tcp is not let in from 198.51.100.11"]),
        ("arp", [], []),
    ],
)
def test_a_chain_of_others_drops_by_its_policy_what_it_does_not_let_in(
    family: str, rules: list[list[dict[str, Any]]], seen: list[str]
) -> None:
    assert _beside(*rules, policy="drop", family=family)[:2] == seen


def test_a_last_rule_that_drops_is_as_good_as_the_policy() -> None:
    assert _beside([CONNTRACK, ACCEPT], [PROSODY, ACCEPT], [DROP]) == ["22/tcp is not let in from anywhere"]
    assert _beside([BRIDGES_ONLY, ACCEPT], [DROP], family="ip") == [NOT_FOR_ALL]


def test_what_another_policy_drops_is_not_said_to_be_let_in() -> None:
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}
    closed = {"chain": {**CHAIN, "family": "ip", "table": "filter", "name": "INPUT"}}
    seen = seen_in(*AS_DECLARED, {"rule": {**where, "expr": [TELEPHONE, ACCEPT]}}, closed)
    assert [words for words in seen if words.startswith("4000")] == ["4000-4999/tcp is let in from ::/0"]


def _hooked(*rules: list[dict[str, Any]], **where: Any) -> list[dict[str, Any]]:
    """Return a chain of another table, at a hook of its own."""
    place = {"family": where.get("family", "inet"), "table": "others"}
    chain = {**CHAIN, **place, "policy": "accept", **where}
    return [{"chain": chain}, *({"rule": {**place, "chain": "input", "expr": rule}} for rule in rules)]


@pytest.mark.parametrize(
    "where",
    [
        {"hook": "prerouting"},
        {"hook": "prerouting", "type": "nat"},
        {"hook": "input", "type": "nat"},
        {"hook": "ingress"},
        {"hook": "ingress", "family": "netdev"},
        {"hook": "ingress", "family": "netdev", "dev": ["lo", "eth0"]},
    ],
)
def test_what_is_dropped_for_everybody_at_another_hook_is_not_let_in(where: dict[str, Any]) -> None:
    seen = ["22/tcp is not let in from anywhere", "5222/tcp is not let in from 198.51.100.11"]
    assert seen_in(*AS_DECLARED, *_hooked([SSH, DROP], **where)) == seen[:1]
    assert seen_in(*AS_DECLARED, *_hooked(policy="drop", **where))[:2] == seen
    assert seen_in(*AS_DECLARED, *_hooked([SSH, ACCEPT], [PROSODY, ACCEPT], policy="drop", **where)) == []


@pytest.mark.parametrize("where", [{"hook": "output"}, {"hook": "forward"}, {"hook": "ingress", "dev": "lo"}])
def test_what_is_dropped_elsewhere_may_come_in(where: dict[str, Any]) -> None:
    assert seen_in(*AS_DECLARED, *_hooked(policy="drop", **where)) == []


def test_a_drop_at_one_device_closes_no_port_that_others_may_reach() -> None:
    for where, let_in in (({"hook": "ingress"}, True), ({"hook": "prerouting"}, False)):
        ruleset = Ruleset([*AS_DECLARED, *_hooked(policy="drop", **where)])
        assert bool(admitted(ruleset.openings(), "tcp", 22)) == let_in
        assert not admitted(ruleset.sure(), "tcp", 22)


def _told(*rules: list[dict[str, Any]], **where: Any) -> list[str]:
    """Return what is told of a chain of others, where that is no fault."""
    sheet = judged(*AS_DECLARED, BANS, *_hooked(*rules, **where))
    assert sheet.faults == []
    return [words for words in sheet.seen if words.startswith("chain")]


def test_whom_others_may_keep_out_is_told_without_addresses_of_people() -> None:
    place = "chain input of table inet others may drop"
    some = match("ip", "saddr", {"set": ["203.0.113.7", {"prefix": {"addr": "198.51.100.0", "len": 24}}]})
    for hook in ("prerouting", "ingress", "input"):
        assert _told([some, DROP], hook=hook) == [f"{place} 22/tcp, 5222/tcp from 2 networks"]
    assert _told([BY_BAN, SSH, DROP]) == [f"{place} 22/tcp from 5000 networks"]
    assert _told([match("ip", "saddr", "@knock"), SSH, DROP]) == [f"{place} 22/tcp from @knock"]
    unread = f"{place} 22/tcp from anywhere under conditions that are not read here"
    assert _told([meta("iifname", "eth0"), SSH, DROP], [SSH, ACCEPT]) == [unread]
    assert _told([mapped({"payload": {"protocol": "tcp", "field": "dport"}}, {"set": [[23, DROP]]})]) == []
    assert _told([TELEPHONE, DROP]) == _told() == []


@pytest.mark.usefixtures("soon")
def test_thousands_of_rules_that_spare_an_address_each_are_read_soon() -> None:
    spared = [[match("ip", "saddr", address), RETURN] for address in BANNED[:300]]
    assert _beside(*spared, [SSH, DROP]) == ["22/tcp is not let in from anywhere"]
    found = in_further(*spared[:100], [TELEPHONE, RETURN], [DROP])
    assert "4000-4999/tcp is let in from anywhere" in found
    assert {words.rpartition(" ")[2] for words in found} == {"anywhere", *BANNED[:100]}
