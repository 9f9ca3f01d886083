"""What NET-03 makes of rulesets as nft prints them, which is not always how they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.verification.checks import test_network
from orchestrator.verification.sheet import Sheet
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
