"""What NET-01 and NET-05 make of sockets as ss prints them, and of internal ones that may answer others."""

from __future__ import annotations

import json

import pytest

from orchestrator.verification import sockets
from orchestrator.verification.checks import test_network
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject
from tests.unit.asked import SETTINGS, faults_of, sheet_of
from tests.unit.firewall_cases import AS_DECLARED, Server, rules_for


@pytest.mark.parametrize(
    ("socket", "fits"),
    [
        (("tcp", "127.0.0.1", 8080, "java"), True),
        (("tcp", "::1", 8080, "java"), True),
        (("tcp", "0.0.0.0", 8080, "java"), False),
        (("tcp", "*", 8080, "java"), False),
        (("tcp", "127.0.0.1", 8080, "nc"), False),
        (("udp", "127.0.0.1", 8080, "java"), False),
    ],
)
def test_socket_must_be_the_declared_one(socket: tuple[str, str, int, str], fits: bool) -> None:
    expected = {"proto": "tcp", "address": "127.0.0.1", "port": 8080, "process": "java"}
    assert sockets.fits(sockets.Socket(*socket), expected) is fits


def test_mapped_addresses_are_shown_plain() -> None:
    shown = 'LISTEN 0 50 [::ffff:127.0.0.1]:8080 *:* users:(("java",pid=1,fd=11))\n'
    assert list(sockets.sockets(f"tcp {shown}")) == [("tcp", "127.0.0.1", 8080, "java")]


def test_a_declared_range_of_ports_covers_each_of_them() -> None:
    flow = {"proto": "tcp", "port": "5000-5010", "service": "extra"}
    shown = 'tcp LISTEN 0 5 0.0.0.0:{}  0.0.0.0:* users:(("game",pid=1,fd=3))\n'
    several = "".join(shown.format(port) for port in (4999, 5000, 5007, 5010, 5011))
    assert [socket.port for socket in sockets.undeclared(several, [], [flow])] == [4999, 5011]
    assert len(list(sockets.undeclared(several, [], [{**flow, "service": "coturn"}]))) == 5


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
    assert [socket.port for socket in sockets.undeclared(shown, [], [])] == ports


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
        "if command -v nft": json.dumps({"nftables": rules_for("198.51.100.11")}),
        "curl -s -o /dev/null -m 3 -w '%{time_connect} ' 'http://192.0.2.10:8080/": "0.000000 7\n",
        "curl": "127\n",
    }
    server = Server("h1", "192.0.2.10", "", (), {})
    sheet = sheet_of(test_network.test_internal_interfaces, said, subject=server)
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
    said = {"ss": "", "if command -v nft": json.dumps({"nftables": AS_DECLARED}), "curl": "0.000000 7\n"}
    sheet = sheet_of(test_network.test_internal_interfaces, said, subject=subject)
    assert (faults_of(sheet), sheet.untested) == (fault, [])
    assert "http://192.0.2.10:8080 does not answer" in sheet.seen


def test_what_other_software_opens_to_everybody_is_an_internal_interface() -> None:
    said = {
        "ss": "".join(
            f'tcp LISTEN 0 50 {address} 0.0.0.0:* users:(("x",pid=1,fd=2))\n'
            for address in ("127.0.0.1:8080", "0.0.0.0:6379", "*:2375", "127.0.0.1:5432")
        ),
        "if command -v nft": json.dumps({"nftables": AS_DECLARED}),
        "curl": "0.000000 7\n",
    }
    server = Server("h1", "192.0.2.10", "", (), {})
    sheet = sheet_of(test_network.test_internal_interfaces, said, subject=server)
    assert [seen for seen, _ in sheet.faults] == [
        "Redis is bound to 0.0.0.0:6379",
        "Docker's API is bound to *:2375",
    ]
