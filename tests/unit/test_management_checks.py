"""What the check of SSH's openness makes of firewall rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.verification.checks import (
    test_management,
)
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import HELD, faults_of, sheet_of, subject_of

CHAIN = {"family": "inet", "table": "t", "name": "input", "hook": "input", "type": "filter", "policy": "drop"}


def _match(left: Any, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": left, "right": right}}


def _field_of(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _port(right: Any = 22, protocol: str = "tcp") -> dict[str, Any]:
    return _match(_field_of(protocol, "dport"), right)


def _from(source: Any, protocol: str = "ip") -> dict[str, Any]:
    return _match(_field_of(protocol, "saddr"), source)


OFFICE = {"prefix": {"addr": "192.0.2.0", "len": 24}}


HARMLESS = (
    [_match({"meta": {"key": "iifname"}}, "lo")],
    [_match({"ct": {"key": "state"}}, ["established", "related"])],
    [_match(_field_of("icmp", "type"), "echo-request")],
    [_port(443)],
    [_port(22, "udp")],
    [_from("fe80::/10", "ip6"), _match({"meta": {"key": "l4proto"}}, "tcp")],
)


def _management(*rules: list[dict[str, Any]], chains: int = 1, **settings: Any) -> Sheet:
    tables = [{**CHAIN, "table": f"t{number}"} for number in range(chains)]
    place = {"family": "inet", "table": "t0", "chain": "input"}
    rows = [{"rule": {**place, "expr": [*rule, {"accept": None}]}} for rule in rules]
    listening = 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
    said = {
        "ss": listening,
        "systemctl": "",
        "if command -v nft": json.dumps({"nftables": [*({"chain": t} for t in tables), *rows]}),
    }
    subject = subject_of(**{"firewall_management_sources": ["192.0.2.0/24", "2001:db8::/32"], **settings})
    return sheet_of(test_management.test_ssh_is_let_in_from_the_management_only, said, subject=subject)


def test_ssh_is_open_to_the_declared_networks_only() -> None:
    assert _management([_from(OFFICE), _port()], *HARMLESS).faults == []
    assert _management([_from("192.0.2.7"), _port()]).faults == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ([_port()], "anywhere"),
        ([_port({"range": [20, 25]})], "anywhere"),
        ([_port({"set": [22, 80]})], "anywhere"),
        ([_port(22, "th")], "anywhere"),
        ([], "anywhere"),
        ([_match({"meta": {"key": "l4proto"}}, "tcp")], "anywhere"),
        ([_match({"meta": {"key": "iifname"}}, "eth0")], "anywhere"),
        ([_match({"ct": {"key": "state"}}, ["established", "new"])], "anywhere"),
        ([_from("203.0.113.7"), _port()], "203.0.113.7"),
        ([_from({"prefix": {"addr": "192.0.0.0", "len": 16}}), _port()], "192.0.0.0/16"),
        ([_from("@office"), _port()], "@office"),
    ],
)
def test_every_rule_that_opens_ssh_further_is_found(rule: list[dict[str, Any]], source: str) -> None:
    sheet = _management([_from(OFFICE), _port()], rule, *HARMLESS)
    assert faults_of(sheet) == f"22/tcp (SSH) is let in from {source}"


def test_each_rule_is_named_for_itself() -> None:
    sheet = _management([_from("203.0.113.7"), _port()], [_port()], [_from("203.0.113.8"), _port()])
    assert [seen.rpartition(" ")[2] for seen, _ in sheet.faults] == ["anywhere", "203.0.113.7", "203.0.113.8"]


def test_rules_are_followed_into_other_chains_and_maps() -> None:
    def look(*expression: Any, inner: Any = ()) -> str:
        place = {"family": "inet", "table": "t0"}
        rows: list[Any] = [{"chain": {**CHAIN, "table": "t0"}}, {"chain": {**place, "name": "further"}}]
        rows += [{"rule": {**place, "chain": "input", "expr": list(expression)}}]
        rows += [{"rule": {**place, "chain": "further", "expr": list(inner)}}]
        listening = 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
        said = {"ss": listening, "systemctl": "", "if command -v nft": json.dumps({"nftables": rows})}
        subject = subject_of(firewall_management_sources=["192.0.2.0/24"])
        return faults_of(sheet_of(test_management.test_ssh_is_let_in_from_the_management_only, said, subject=subject))

    jump, accept = {"jump": {"target": "further"}}, {"accept": None}
    assert look(jump, inner=[_port(), accept]).endswith("from anywhere")
    assert look(_from("203.0.113.7"), jump, inner=[accept]).endswith("from 203.0.113.7")
    assert look(jump, inner=[_from(OFFICE), _port(), accept]) == ""
    assert look(_port(80), jump, inner=[accept]) == ""
    assert look({"jump": {"target": "input"}}, inner=[]) == ""

    def mapped(*pairs: Any) -> Any:
        return {"vmap": {"key": _field_of("tcp", "dport"), "data": {"set": list(pairs)}}}

    assert look(mapped([22, accept], [80, jump])).endswith("from anywhere")
    assert look(mapped([80, accept])) == ""


def test_one_chain_that_keeps_ssh_in_is_enough_and_none_is_a_fault() -> None:
    assert _management([_port()], chains=2).faults == []
    assert faults_of(_management([_port()], chains=0)) == "0 input chains drop by default"


def test_ssh_open_to_all_is_undecided_until_somebody_answers_for_it() -> None:
    everywhere: Any = {"firewall_management_sources": ["0.0.0.0/0", "::/0"]}
    assert _management([_port()], **everywhere).untested
    declared = _management([_port()], **everywhere, verification_declarations={"NET-06": HELD})
    assert (declared.untested, declared.faults) == ([], [])
    assert "ticket 17" in declared.declared[0]
