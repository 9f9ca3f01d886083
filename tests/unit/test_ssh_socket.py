"""Sockets of Debian's own: where systemd listens in sshd's place (ssh.socket), and of the programs that ask for an address."""

from __future__ import annotations

import json

import pytest

from orchestrator.verification.checks import test_management, test_network
from orchestrator.verification.sshsocket import ports_of
from tests.unit.asked import faults_of, sheet_of, subject_of

# As systemd 252 and 257 print it, on Debian and with Accept=yes.
DEBIAN = "Listen=[::]:22 (Stream)\nTriggers=ssh.service\nActiveState=active\n"
ACCEPTS = "Listen=0.0.0.0:22 (Stream)\nListen=[::]:22 (Stream)\nListen=/run/s (Stream)\nTriggers=\nActiveState=active\n"
OFF = DEBIAN.replace("=active", "=inactive")
ANOTHERS = DEBIAN.replace("ssh.service", "telnetd.service")
HELD = 'tcp LISTEN 0 4096 *:{} *:* users:(("systemd",pid=1,fd=40))\n'
NFT = "if command -v nft"


def _net01(listening: str, told: str) -> str:
    said = {"ss": listening, "systemctl show ssh.socket": told}
    return faults_of(sheet_of(test_network.test_listening_sockets, said, subject=subject_of()))


def _net06(listening: str, told: str, port: int = 22) -> str:
    chain = {"family": "inet", "table": "t", "name": "i", "type": "filter", "hook": "input", "policy": "drop"}
    match = {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": port}
    rule = {"family": "inet", "table": "t", "chain": "i", "expr": [{"match": match}, {"accept": None}]}
    said = {
        "ss": listening,
        "systemctl show ssh.socket": told,
        NFT: json.dumps({"nftables": [{"chain": chain}, {"rule": rule}]}),
    }
    subject = subject_of(firewall_management_sources=["192.0.2.0/24"])
    return faults_of(sheet_of(test_management.test_ssh_is_let_in_from_the_management_only, said, subject=subject))


@pytest.mark.parametrize("told", [DEBIAN, ACCEPTS])
def test_systemd_may_hold_sshds_port(told: str) -> None:
    assert _net01(HELD.format(22), told) == ""
    assert _net06(HELD.format(22), told) == "22/tcp (SSH) is let in from anywhere"
    assert _net06(HELD.format(22), told, port=80) == ""


@pytest.mark.parametrize("told", [OFF, ANOTHERS, ""])
def test_systemd_may_not_listen_there_for_others(told: str) -> None:
    assert _net01(HELD.format(22), told) == "systemd listens on *:22/tcp"
    assert _net06(HELD.format(22), told) == "sshd listens on no port"


def test_a_socket_on_another_port_is_not_the_declared_one() -> None:
    other = DEBIAN.replace(":22 ", ":2222 ")
    assert _net01(HELD.format(2222), other) == "systemd listens on *:2222/tcp"
    assert _net01(HELD.format(23), DEBIAN) == "systemd listens on *:23/tcp"
    # Wherever it listens, it must be let in from the management networks only.
    assert _net06(HELD.format(2222), other, port=2222) == "2222/tcp (SSH) is let in from anywhere"


def test_what_ssh_socket_listens_on() -> None:
    assert ports_of(ACCEPTS) == {22}
    assert ports_of(DEBIAN + "Listen=192.0.2.1:24 (Stream)\nListen=[::]:25 (Datagram)\n") == {22, 24}


@pytest.mark.parametrize("process", ["dhclient", "dhcpcd", "systemd-network"])
def test_who_asks_for_an_address_may_listen_for_it(process: str) -> None:
    row = 'udp UNCONN 0 0 {} 0.0.0.0:* users:(("' + process + '",pid=9,fd=7))\n'
    assert _net01(row.format("0.0.0.0:68") + row.format("[fe80::1]%eth0:546"), OFF) == ""
    assert _net01(row.format("0.0.0.0:67"), OFF) == f"{process} listens on 0.0.0.0:67/udp"
