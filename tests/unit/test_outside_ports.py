"""Which ports are open from outside: judged by recorded scans of nmap, for whoever asks, and silence proves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.verification import nmap
from orchestrator.verification.admission import Policy, policy
from orchestrator.verification.batch import Answers, BatchBackend
from orchestrator.verification.checks import test_ports
from orchestrator.verification.nmap import Scan
from orchestrator.verification.reach import Target, seen_as, targets
from orchestrator.verification.sheet import NotTested, Sheet
from tests.unit.outside_cases import faults, noted, recorded, subject

ANYWHERE = ["0.0.0.0/0", "::/0"]


def test_ports_of_a_good_host() -> None:
    scan = nmap.read(recorded("tcp-good.xml"))
    assert (scan.problem, scan.way, scan.open) == ("", "syn", [22, 80, 443])
    assert scan.state(4711) == "filtered"
    assert nmap.read(recorded("udp-good.xml")).state(3478) == "open"


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ("tcp-timeout.xml", "nmap ran out of time"),
        ("tcp-nohost.xml", "nmap saw no host there"),
        ("groups-good.txt", "nmap printed no XML"),
    ],
)
def test_a_scan_that_saw_nothing_says_why(printed: str, problem: str) -> None:
    scan = nmap.read(recorded(printed))
    assert scan.problem.startswith(problem)
    assert scan.open == []


def test_several_groups_of_ports_that_are_not_listed() -> None:
    text = recorded("tcp-good.xml").replace(
        '<ports><extraports state="filtered"',
        '<ports><extraports state="closed" count="2"><extrareasons reason="reset" count="2" ports="7,9-10"/></extraports>'
        '<extraports state="filtered"',
    )
    scan = nmap.read(text.replace('ports="1-21,', 'ports="1-6,8,11-21,'))
    assert [scan.state(port) for port in (7, 10, 21, 22)] == ["closed", "closed", "filtered", "open"]


def test_ports_are_shown_as_ranges() -> None:
    assert nmap.shown([443, 80, 22, 81, 82]) == "22, 80-82, 443"
    assert nmap.shown([]) == ""


FLOWS: list[dict[str, Any]] = [
    {"proto": "tcp", "port": 22, "sources": ["198.51.100.0/24"], "purpose": "administration"},
    {"proto": "tcp", "port": 443, "sources": ANYWHERE, "purpose": "web page"},
    {"proto": "tcp", "port": "8000-8010", "sources": ANYWHERE, "purpose": "declared"},
    {"proto": "udp", "port": 3478, "sources": ANYWHERE, "purpose": "STUN"},
    {"proto": "udp", "port": 10000, "sources": ANYWHERE, "purpose": "media"},
    {"proto": "udp", "port": "49152-65535", "sources": ["192.0.2.2/32"], "purpose": "relay"},
]


def _policy(proto: str, source: str, address: str = "192.0.2.10") -> Policy:
    return policy(FLOWS, proto, Target(address, source))


def _tcp(allowed: Policy, *opened: int, state: str = "filtered") -> Sheet:
    scan = Scan(way="syn", states=dict.fromkeys(opened, "open"), rest=state)
    return noted(test_ports.judge_tcp, "192.0.2.10", allowed, scan, scan)


def test_flows_let_in_whom_their_sources_hold() -> None:
    assert _policy("tcp", "198.51.100.7").ports(single=True) == [22, 443]
    assert _policy("tcp", "9.9.9.9").ports(single=True) == [443]
    assert _policy("tcp", "2620:fe::9", "2001:db8::10").ports(single=True) == [443]
    assert [flow["port"] for flow in _policy("tcp", "").doubtful] == [22]
    assert _policy("tcp", "9.9.9.9").ports(single=False) == [8000, 8005, 8010]


def test_open_beyond_the_flows_is_a_fault() -> None:
    allowed = _policy("tcp", "9.9.9.9")
    assert faults(_tcp(allowed, 443, 8005)) == []
    assert faults(_tcp(allowed, 443, 8005, 4712)) == ["192.0.2.10: 4712/tcp open"]
    assert _tcp(allowed, 443, 8005, 22).faults == [
        ("192.0.2.10: 22/tcp open", "closed to us: declared for other sources")
    ]
    doubtful = _tcp(_policy("tcp", ""), 443, 8005, 22)
    assert faults(doubtful) == []
    assert doubtful.untested == [
        "192.0.2.10: 22/tcp is open, as declared for some sources; how the host sees us is not known"
    ]


def test_declared_but_closed_is_a_fault() -> None:
    allowed = _policy("tcp", "198.51.100.7")
    assert faults(_tcp(allowed, 22)) == [
        "192.0.2.10: 443/tcp is filtered",
        "192.0.2.10: nothing of 8000-8010/tcp is open",
    ]


def test_scan_that_ran_out_of_time_is_no_pass() -> None:
    slow, nohost = (nmap.read(recorded(f"tcp-{name}.xml")) for name in ("timeout", "nohost"))
    good, blind = Scan(states={443: "open", 8000: "open"}, rest="filtered"), Scan(way="syn", rest="filtered")
    for sweep, declared, words in (
        (slow, slow, "ran out of time"),
        (slow, good, "not all ports were looked at"),
        (blind, good, "did not see 443, 8000/tcp, which is open"),
    ):
        sheet = noted(test_ports.judge_tcp, "192.0.2.10", _policy("tcp", "9.9.9.9"), sweep, declared)
        with pytest.raises(NotTested, match=words):
            sheet.finish()
    with pytest.raises(RuntimeError, match="saw no host"):
        noted(test_ports.judge_tcp, "192.0.2.10", _policy("tcp", "9.9.9.9"), nohost, nohost)


@pytest.mark.parametrize(
    ("states", "seen"),
    [
        ({3478: "open", 10000: "open|filtered", 49152: "closed"}, []),
        ({3478: "open|filtered"}, ["192.0.2.10: 3478/udp is open|filtered"]),
        ({3478: "open", 10000: "closed"}, ["192.0.2.10: 10000/udp is closed"]),
        ({3478: "open", 123: "open"}, ["192.0.2.10: 123/udp open"]),
        ({3478: "open", 50000: "open"}, ["192.0.2.10: 50000/udp open"]),
    ],
)
def test_udp_is_judged_by_answers_and_not_by_silence(states: dict[int, str], seen: list[str]) -> None:
    scan = Scan(states=states, rest="open|filtered")
    sheet = noted(test_ports.judge_udp, "192.0.2.10", _policy("udp", "9.9.9.9"), scan)
    assert faults(sheet) == seen
    silent = "192.0.2.10: 10000/udp silent as the bridge should be, which proves neither open nor closed"
    assert (silent in sheet.seen) is (10000 not in states or states[10000] == "open|filtered")


class _Outside:
    """What a check sees of the vantage point."""

    def __init__(self, printed: str) -> None:
        self.backend = BatchBackend("vantage", self._ship)
        self.run = self.backend.run
        self._printed = printed

    def _ship(self, commands: list[str]) -> Answers:
        source = {"192.0.2.10": b"203.0.113.9\n", "2001:db8::10": b"none\n"}
        return {
            command: next(
                (0, said, b"")
                for address, said in (*source.items(), ("", self._printed.encode()))
                if address in command
            )
            for command in commands
        }


def test_vantage_point_without_a_tool_or_a_way_is_said() -> None:
    sheet = Sheet()
    assert targets(_Outside("/usr/bin/nmap\n"), subject(), sheet, "nmap") == [Target("192.0.2.10", "203.0.113.9")]
    assert sheet.untested == ["the vantage point has no way to 2001:db8::10"]
    with pytest.raises(NotTested, match="has no nmap; install it there"):
        targets(_Outside(""), subject(), Sheet(), "nmap")


def test_source_behind_a_translation_is_not_known() -> None:
    assert seen_as("192.168.1.2", "9.9.9.9") == ""
    assert seen_as("100.64.1.2", "9.9.9.9") == ""
    assert seen_as("fd00::2", "2620:fe::9") == ""
    assert seen_as("192.168.1.2", "192.168.1.3") == "192.168.1.2"
    assert seen_as("8.8.8.8", "9.9.9.9") == "8.8.8.8"


@pytest.mark.parametrize(
    ("source", "address", "sure"),
    [
        ("172.17.0.2", "10.1.2.3", False),
        ("100.64.1.2", "10.1.2.3", False),
        ("10.2.2.3", "10.1.2.3", False),
        ("fd00:1::2", "fd00:2::3", False),
        ("", "10.1.2.3", False),
        ("10.1.2.9", "10.1.2.3", True),
        ("fd00:2::9", "fd00:2::3", True),
        ("8.8.8.8", "10.1.2.3", True),
        ("2620:fe::9", "2001:db8::10", True),
    ],
)
def test_between_private_networks_a_translation_may_lie(source: str, address: str, sure: bool) -> None:
    """A control node in a container, or on an intranet: an open port for others is nobody's fault until it is known who asks."""
    assert Target(address, source).sure is sure
    flow = {"proto": "tcp", "port": 22, "sources": ["198.51.100.0/24", "2001:db8:9::/48"], "purpose": "administration"}
    found = policy([flow], "tcp", Target(address, source))
    assert (found.doubtful, found.others) == (((), (flow,)) if sure else ((flow,), ()))
    if source:
        own = {**flow, "sources": [f"{source}/{128 if ':' in source else 32}"]}
        assert policy([own], "tcp", Target(address, source)).admitted == (own,)
