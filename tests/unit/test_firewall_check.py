"""What NET-01, NET-03 and NET-05 make of sockets and rulesets as ss and nft print them, which is not always how they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.verification.checks import test_network
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import undeclared
from orchestrator.verification.subject import Subject
from tests.unit.asked import SETTINGS, FakeHost, faults_of, sheet_of

BRIDGES = ["198.51.100.11", "198.51.100.12", "198.51.100.13", "198.51.100.20"]
CHAIN = {"family": "inet", "table": "ratssaal", "name": "input", "type": "filter", "hook": "input", "policy": "drop"}


class _Server(Subject):
    """A server that lets everybody use SSH, and its bridges Prosody's port."""

    def flows(self) -> list[dict[str, Any]]:
        """See Subject."""
        anywhere = {"proto": "tcp", "port": 22, "sources": ["0.0.0.0/0", "::/0"]}
        return [anywhere, {"proto": "tcp", "port": 5222, "sources": [f"{address}/32" for address in BRIDGES]}]

    def listeners(self) -> list[dict[str, Any]]:
        """See Subject."""
        return [{"proto": "tcp", "address": "127.0.0.1", "port": 8080, "process": "java"}]


def _match(protocol: str, field: str, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}


def _rules(*members: Any, table: str = "ratssaal") -> list[dict[str, Any]]:
    """Return an input chain that lets anybody use SSH, and some use port 5222."""
    ssh, prosody = _match("tcp", "dport", 22), _match("tcp", "dport", 5222)
    some = _match("ip", "saddr", {"set": list(members)})
    rules = [[ssh, {"accept": None}], [some, prosody, {"accept": None}]]
    where = {"family": "inet", "table": table, "chain": "input"}
    return [{"chain": {**CHAIN, "table": table}}, *({"rule": {**where, "expr": rule}} for rule in rules)]


# As systemd 252 and 257 print it; its order is its own.
UNIT = """\
ExecStart={ path=/usr/sbin/nft ; argv[]=/usr/sbin/nft --file /etc/ratssaal/firewall.nft ; ignore_errors=no ; pid=0 }
Wants=network-pre.target
WantedBy=sysinit.target
Before=shutdown.target network-pre.target
After=local-fs.target systemd-modules-load.service nftables.service system.slice
Requires=system.slice
Requisite=
BindsTo=
RootDirectory=
RootImage=
ExtensionDirectories=
ExtensionImages=
MountImages=
CapabilityBoundingSet=cap_chown cap_dac_override cap_net_bind_service cap_net_broadcast cap_net_admin cap_net_raw
User=
DynamicUser=no
InaccessiblePaths=
PrivateNetwork=no
PrivateUsers=no
SystemCallFilter=~
RestrictAddressFamilies=~
BindPaths=
BindReadOnlyPaths=
TemporaryFileSystem=
NetworkNamespacePath=
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
nftables=enabled
"""
# What the file of the next start gives, and what is loaded.
BOOT = [{"table": {"family": "inet", "name": "ratssaal", "handle": 2}}, {"chain": {**CHAIN, "handle": 1}}]


def _both(at_boot: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> str:
    return "".join(json.dumps({"nftables": [{"metainfo": {}}, *rows]}) + "\n" for rows in (at_boot, loaded))


def _judged(*rows: dict[str, Any], unit: str = UNIT, boot: str | tuple[int, str] = "") -> Sheet:
    loaded = json.dumps({"nftables": rows})
    host, sheet = FakeHost({"if command": loaded, "systemctl": unit, "unshare": boot or _both(BOOT, BOOT)}), Sheet()
    test_network.test_firewall(host, _Server("h1", "", "", (), {}), sheet)
    return sheet


def _seen(*rows: dict[str, Any]) -> list[str]:
    return [seen for seen, _ in _judged(*rows).faults]


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


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("UnitFileState=enabled", "UnitFileState=disabled", "the firewall's unit is disabled at boot"),
        ("UnitFileState=enabled", "UnitFileState=enabled-runtime", "the firewall's unit is enabled-runtime at boot"),
        ("ActiveState=active", "ActiveState=failed", "the firewall's unit is failed"),
        ("NeedDaemonReload=no", "NeedDaemonReload=yes", "the firewall's unit was changed since systemd read it"),
        ("WantedBy=sysinit", "WantedBy=rescue", "the firewall's unit is started by rescue.target"),
        ("WantedBy=sysinit.target", "WantedBy=", "the firewall's unit is started by nothing"),
        (" network-pre.target\n", "\n", "the firewall is loaded at any time, not before the network"),
        ("Wants=network-pre.target", "Wants=", "the firewall is loaded at any time, not before the network"),
        ("nftables.service system", "system", "nftables.service may empty the firewall after it was loaded"),
        ("PrivateNetwork=no", "PrivateNetwork=yes", "the firewall's unit has PrivateNetwork=yes"),
        ("NetworkNamespacePath=", "NetworkNamespacePath=/run/x", "the firewall's unit has NetworkNamespacePath=/run/x"),
        (
            "Wants=",
            "ExecCondition={ path=/bin/false ; argv[]=/bin/false ; ignore_errors=no ; pid=0 }\nWants=",
            "the firewall's unit has ExecCondition=/bin/false",
        ),
        ("cap_net_admin ", "", "the firewall's unit may not change the network"),
        ("CapabilityBoundingSet=cap", "Other=cap", "the firewall's unit may not change the network"),
        ("User=\n", "User=nobody\n", "the firewall's unit has User=nobody"),
        ("PrivateUsers=no", "PrivateUsers=yes", "the firewall's unit has PrivateUsers=yes"),
        ("RootDirectory=", "RootDirectory=/srv", "the firewall's unit has RootDirectory=/srv"),
        (
            "BindPaths=",
            "BindPaths=/srv:/etc/ratssaal:rbind",
            "the firewall's unit has BindPaths=/srv:/etc/ratssaal:rbind",
        ),
        ("Requisite=", "Requisite=x.service", "the firewall's unit has Requisite=x.service"),
        ("Requires=", "Requires=x.service ", "the firewall's unit has Requires=x.service"),
        ("SystemCallFilter=~", "SystemCallFilter=read write", "the firewall's unit has SystemCallFilter=read write"),
        ("Families=~", "Families=AF_UNIX", "the firewall's unit has RestrictAddressFamilies=AF_UNIX"),
        ("Families=~", "Families=~AF_NETLINK", "the firewall's unit has RestrictAddressFamilies=~AF_NETLINK"),
        (
            "nftables=enabled",
            "AssertPathExists =/srv/x",
            "the firewall's unit starts only with AssertPathExists=/srv/x",
        ),
        (
            "nftables=enabled",
            "ConditionPathExists=/srv/x",
            "the firewall's unit starts only with ConditionPathExists=/srv/x",
        ),
        (
            "path=/usr/sbin/nft ; argv[]=/usr/sbin/nft --file /etc/ratssaal/firewall.nft",
            "path=/bin/true ; argv[]=/bin/true",
            "the firewall's unit runs /bin/true",
        ),
        # ExecStart=@/bin/true /usr/sbin/nft ...
        (
            "path=/usr/sbin/nft",
            "path=/bin/true",
            "the firewall's unit runs /bin/true as /usr/sbin/nft --file /etc/ratssaal/firewall.nft",
        ),
        ("ExecStart={", "ExecStartWas={", "the firewall's unit runs nothing"),
        (
            "Wants=",
            "ExecStartPost={ path=/usr/sbin/nft ; argv[]=/usr/sbin/nft flush ruleset ; pid=0 }\nWants=",
            "the firewall's unit runs /usr/sbin/nft --file /etc/ratssaal/firewall.nft; /usr/sbin/nft flush ruleset",
        ),
    ],
)
def test_a_unit_that_may_not_load_the_firewall_in_time(old: str, new: str, seen: str) -> None:
    assert old in UNIT
    sheet = _judged(*_rules(*BRIDGES), unit=UNIT.replace(old, new))
    assert [words for words, _ in sheet.faults] == [seen]


def test_a_host_without_the_unit_loads_nothing_at_boot() -> None:
    gone = "ActiveState=inactive\nNeedDaemonReload=no\nUnitFileState=\nnftables=disabled\n"
    assert [seen for seen, _ in _judged(*_rules(*BRIDGES), unit=gone).faults] == [
        "the firewall's unit is not there at boot"
    ]


def test_a_unit_that_need_not_wait_for_anothers_rules() -> None:
    alone = UNIT.replace("nftables=enabled", "nftables=disabled").replace("nftables.service system", "system")
    assert _judged(*_rules(*BRIDGES), unit=alone).faults == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("User=\n", "User=root\n"),
        ("Families=~", "Families=AF_UNIX AF_NETLINK"),
        ("Families=~", "Families=~AF_PACKET"),
        ("Requires=", "Requires=-.mount "),
        ("cap_chown cap_dac_override ", ""),
    ],
)
def test_what_does_not_keep_the_unit_from_loading_the_firewall(old: str, new: str) -> None:
    assert old in UNIT
    sheet = _judged(*_rules(*BRIDGES), unit=UNIT.replace(old, new))
    assert (sheet.faults, sheet.untested) == ([], [])


def test_what_systemd_does_not_show_is_not_known() -> None:
    sheet = _judged(*_rules(*BRIDGES), unit=UNIT.replace("PrivateUsers=no\n", ""))
    assert (sheet.faults, sheet.untested) == ([], ["systemd does not show the PrivateUsers of the firewall's unit"])


def test_what_is_loaded_must_be_what_the_next_start_loads() -> None:
    rule = {"rule": {"family": "inet", "table": "ratssaal", "chain": "input", "handle": 4, "expr": [ACCEPT]}}
    same = {"rule": {**rule["rule"], "handle": 9}}
    others = {"table": {"family": "ip", "name": "docker", "handle": 7}}
    differs = "the loaded table inet ratssaal is not what /etc/ratssaal/firewall.nft gives at boot"
    file = "/etc/ratssaal/firewall.nft, which is loaded at boot,"
    for answer, seen in (
        (_both([*BOOT, rule], [others, *BOOT, same]), []),
        (_both(BOOT, [*BOOT, rule]), [differs]),
        (_both([*BOOT, rule], BOOT), [differs]),
        (_both(BOOT, [others]), [differs]),
        (_both([], BOOT), [f"{file} has no input chain that drops by default"]),
        (
            (1, "firewall.nft:1:1-3: Error: syntax error\nmore"),
            [f"{file} cannot be loaded: firewall.nft:1:1-3: Error: syntax error"],
        ),
    ):
        sheet = _judged(*_rules(*BRIDGES), boot=answer)
        assert ([words for words, _ in sheet.faults], sheet.untested) == (seen, [])


def test_the_order_of_rules_belongs_to_what_is_compared() -> None:
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}
    one, other = ({"rule": {**where, "expr": expr}} for expr in ([ACCEPT], [{"drop": None}]))
    assert _judged(*_rules(*BRIDGES), boot=_both([*BOOT, one, other], [*BOOT, other, one])).faults


def test_a_host_that_gives_no_namespace_is_not_tested() -> None:
    sheet = _judged(*_rules(*BRIDGES), boot=(77, "unshare failed: Operation not permitted"))
    assert sheet.faults == []
    assert "no network namespace (unshare failed" in sheet.untested[0]


DROP: dict[str, Any] = {"drop": None}
RETURN: dict[str, Any] = {"return": None}
TELEPHONE = _match("tcp", "dport", {"range": [4000, 4999]})


def _first(*expression: dict[str, Any]) -> list[str]:
    """Return what is seen with a rule before those that let in what was declared."""
    chain, *rules = _rules(*BRIDGES)
    rule = {"family": "inet", "table": "ratssaal", "chain": "input", "expr": list(expression)}
    return _seen(chain, {"rule": rule}, *rules, *OBJECTS)


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        ([_match("tcp", "dport", 22), DROP], ["22/tcp is not let in from anywhere"]),
        ([_match("tcp", "dport", {"range": [20, 30]}), {"reject": None}], ["22/tcp is not let in from anywhere"]),
        ([_meta("nfproto", "ipv6"), _match("tcp", "dport", 22), DROP], ["22/tcp is not let in from ::/0"]),
        (
            [
                _match("ip", "saddr", {"prefix": {"addr": "198.51.100.20", "len": 32}}),
                _match("tcp", "dport", 5222),
                DROP,
            ],
            ["5222/tcp is not let in from 198.51.100.20"],
        ),
        ([_mapped(DPORT, {"set": [[22, DROP]]})], ["22/tcp is not let in from anywhere"]),
        ([_match("tcp", "dport", 22), RETURN], ["22/tcp is not let in from anywhere"]),
        (
            [_match("tcp", "dport", 22), {"limit": {"rate": 1, "per": "day"}}, DROP],
            ["22/tcp is not let in from anywhere"],
        ),
        ([_match("tcp", "dport", 23), DROP], []),
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
    rules = [[_match("tcp", "dport", 7000), adds], [_match("ip", "saddr", "@door"), ACCEPT]]
    rows: list[dict[str, Any]] = [door, *({"rule": {**where, "expr": rule}} for rule in rules)]
    assert _seen(*_rules(*BRIDGES), *rows) == ["everything is let in from @door"]
    assert _seen(*_rules(*BRIDGES), rows[0], rows[2]) == []


UNTRACKED = {"match": {"op": "in", "left": STATE, "right": ["invalid", "untracked"]}}


@pytest.mark.parametrize(
    "drop",
    [[UNTRACKED, DROP], [_mapped(STATE, {"set": [["invalid", DROP], ["untracked", DROP]]})]],
    ids=["rule", "map"],
)
def test_a_drop_of_untracked_packets_hides_nothing_that_lets_in_new_connections(drop: list[dict[str, Any]]) -> None:
    where = {"family": "inet", "table": "ratssaal", "chain": "input"}

    def with_last(*expression: dict[str, Any]) -> list[str]:
        rules = [{"rule": {**where, "expr": rule}} for rule in (drop, list(expression))]
        return _seen(*_rules(*BRIDGES), *rules)

    assert with_last(ACCEPT) == ["everything is let in from anywhere"]
    assert with_last(TELEPHONE, ACCEPT) == ["4000-4999/tcp is let in from anywhere"]
    assert with_last(_match("tcp", "dport", 22), ACCEPT) == []


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
    assert _seen(*rows, *_rules(*BRIDGES)) == ([] if asked else ["0 input chain drops by default"])
    found = _seen(rows[0], others, shut, *_rules(*BRIDGES))
    assert found[:1] == (["22/tcp is not let in from 0.0.0.0/0"] if asked else [])


def test_a_file_whose_table_sleeps_gives_no_firewall_at_boot() -> None:
    asleep = {"table": {**BOOT[0]["table"], "flags": "dormant"}}
    sheet = _judged(*_rules(*BRIDGES), boot=_both([asleep, BOOT[1]], [asleep, BOOT[1]]))
    assert [seen for seen, _ in sheet.faults] == [
        "/etc/ratssaal/firewall.nft, which is loaded at boot, has no input chain that drops by default"
    ]


def _in_further(*rules: list[dict[str, Any]]) -> list[str]:
    """Return what is seen where a chain of these rules is asked before everything is let in."""
    where = {"family": "inet", "table": "ratssaal"}
    asked = [{"rule": {**where, "chain": "asked", "expr": rule}} for rule in rules]
    last = [{"rule": {**where, "chain": "input", "expr": rule}} for rule in ([{"jump": {"target": "asked"}}], [ACCEPT])]
    return _seen(*_rules(*BRIDGES), {"chain": {**where, "name": "asked"}}, *asked, *last)


def test_a_drop_counts_for_what_reaches_it_only() -> None:
    assert _in_further([DROP]) == []
    assert _in_further([TELEPHONE, RETURN], [DROP]) == ["4000-4999/tcp is let in from anywhere"]
    assert _in_further([SOME, RETURN], [DROP]) == ["everything is let in from 203.0.113.0/24"]
    assert _in_further([TELEPHONE, ACCEPT], [DROP]) == ["4000-4999/tcp is let in from anywhere"]
    # What a rule drops under further conditions may come in all the same.
    assert _in_further([_meta("iifname", "eth0"), DROP]) == ["everything is let in from anywhere"]


@pytest.mark.parametrize(
    ("family", "rules", "seen"),
    [
        ("inet", [[_match("tcp", "dport", 22), DROP]], ["22/tcp is not let in from anywhere"]),
        ("ip", [[_match("tcp", "dport", 22), DROP]], ["22/tcp is not let in from 0.0.0.0/0"]),
        ("inet", [[_match("tcp", "dport", 22), ACCEPT], [DROP]], ["5222/tcp is not let in from 198.51.100.11"]),
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
    found = _seen(*_rules(*BRIDGES), chain, *({"rule": {**where, "chain": "input", "expr": rule}} for rule in rules))
    assert found[:1] == seen


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
        ("127.0.0.1", "containerd", []),
        ("*", "containerd", [8085]),
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


@pytest.mark.parametrize(
    ("groups", "fault"),
    [
        (["turn_servers"], ""),
        (["jitsi_bridges"], "0 internal sockets looked at"),
        (["jitsi_signalling"], "0 internal sockets looked at"),
    ],
)
def test_internal_services_are_missed_where_they_belong_only(groups: list[str], fault: str) -> None:
    host = {"address": "192.0.2.10", "address6": "", "groups": groups, "ssh_port": 22}
    subject = Subject("h1", "192.0.2.10", "", tuple(groups), {"hosts": {"h1": host}, "settings": SETTINGS})
    said = {"ss": "", "if command -v nft": json.dumps({"nftables": _rules(*BRIDGES)}), "curl": "0.000000 7\n"}
    sheet = sheet_of(test_network.test_internal_interfaces, said, subject=subject)
    assert (faults_of(sheet), sheet.untested) == (fault, [])
    assert "http://192.0.2.10:8080 does not answer" in sheet.seen
