"""Which rules NET-04 takes for a port that is sent on: by nft's words, by those of either iptables, or not to be told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification.checks import test_containers
from orchestrator.verification.sheet import NotApplicable, Sheet
from tests.unit.asked import Said, faults_of, sheet_of, subject_of

_DECLARED = {"proto": "tcp", "port": "9000-9100"}
_NOTHING = {
    **{"for name in docker podman nerdctl": "", "ss": "", "if command -v nft": '{"nftables": []}'},
    **{"for name in iptables": "", "if command -v docker": "", "if command -v podman": ""},
}


def _ports(said: Said) -> Sheet:
    subject = subject_of(firewall_extra_flows=[_DECLARED])
    return sheet_of(test_containers.test_container_ports, {**_NOTHING, **said}, subject=subject)


def _forwarding(*conditions: tuple[str, str, str, Any]) -> str:
    """Return a rule that sends on what fulfils the conditions, as nft tells it: header, field, operator, value."""
    parts: list[dict[str, Any]] = [
        {"match": {"op": op, "left": {"payload": {"protocol": header, "field": field}}, "right": right}}
        for header, field, op, right in conditions
    ]
    where = {"family": "ip", "table": "nat", "chain": "D"}
    return json.dumps({"nftables": [{"rule": {**where, "expr": [*parts, {"dnat": {"addr": "10.0.0.5"}}]}}]})


@pytest.mark.parametrize(
    ("conditions", "place"),
    [
        ([("ip", "daddr", "!=", "127.0.0.1"), ("tcp", "dport", "==", 8080)], "8080/tcp is published on any address"),
        ([("tcp", "dport", "!=", 8080)], "every port/tcp is published on any address"),
        ([("tcp", "dport", ">", 8080)], "every port/tcp is published on any address"),
        ([("ip", "daddr", "==", "192.0.2.10"), ("tcp", "dport", "==", 80)], "80/tcp is published on 192.0.2.10"),
        ([("ip", "daddr", "==", "127.0.0.1"), ("tcp", "dport", "==", 8080)], ""),
        ([("ip", "daddr", "==", {"prefix": {"addr": "127.0.0.0", "len": 8}})], ""),
        (
            [("ip", "daddr", "==", {"prefix": {"addr": "126.0.0.0", "len": 7}})],
            "every port/any is published on 126.0.0.0/7",
        ),
    ],
)
def test_what_a_rule_excepts_is_not_what_it_forwards(conditions: list[tuple[str, str, str, Any]], place: str) -> None:
    found = faults_of(_ports({"if command -v nft": _forwarding(*conditions)}))
    assert found.partition(" by ")[0] == place


@pytest.mark.parametrize(
    ("rule", "places"),
    [
        ("! -d 127.0.0.1/32 -p tcp -m tcp --dport 8080", ["8080/tcp is published on any address"]),
        ("-d 127.0.0.1/32 -p tcp -m tcp ! --dport 8080", []),
        ("-p tcp -m tcp ! --dport 9000", ["every port/tcp is published on any address"]),
        ("-p tcp -m multiport ! --dports 9000,9001", ["every port/tcp is published on any address"]),
        ("! -p tcp", ["every port/any is published on any address"]),
        ('-p tcp -m comment --comment "a \\" -d 127.0.0.1 b" --dport 80', ["80/tcp is published on any address"]),
        ("-d 192.0.2.10/32 -p udp --dport 8000:8010", ["8000-8010/udp is published on 192.0.2.10"]),
        ("-p tcp -m multiport --dports 9000,9090:9100", []),
        ("-p tcp -m multiport --dports 9000,9101", ["9101/tcp is published on any address"]),
        ("-d 127.0.0.0/8 -p tcp --dport 80", []),
        ("-d ::1/128 -p tcp --dport 80", []),
    ],
)
def test_what_iptables_excepts_is_not_what_it_forwards(rule: str, places: list[str]) -> None:
    saved = f"*nat\n-A PREROUTING {rule} -j DNAT --to-destination 10.0.0.5\nCOMMIT\n"
    sheet = _ports({"for name in iptables": saved})
    assert [seen.partition(" by ")[0] for seen, _ in sheet.faults] == places


def test_the_other_iptables_is_asked_or_missed(tmp_path: Path) -> None:
    """The command itself, with programs and a kernel of this test's own."""
    command = test_containers._IPTABLES.replace("/proc/net/", f"{tmp_path}/")
    names, program = tmp_path / "ip_tables_names", tmp_path / "iptables-legacy-save"

    def told() -> str:
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["/bin/sh", "-c", command], env=path, capture_output=True, text=True, check=False)
        return done.stdout

    missed = "\n# not told: iptables-legacy\n"
    assert told() == ""
    names.write_text("filter\n")
    assert told() == ""
    names.write_text("filter\nnat\n")
    assert told() == missed
    for code, said in ((0, "-A X\n"), (3, f"-A X\n{missed}")):
        program.write_text(f"#!/bin/sh\necho -A X\nexit {code}\n")
        program.chmod(0o755)
        assert told() == said
    sheet = _ports({"for name in iptables": missed})
    assert sheet.faults == []
    assert sheet.untested == [
        "what iptables-legacy forwards is not known: `iptables-legacy-save` is not there, or fails"
    ]
    with pytest.raises(NotApplicable):
        _ports({})
