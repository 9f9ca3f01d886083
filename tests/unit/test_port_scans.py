"""NET-02 and NET-06 from outside, with answers that a test makes up: what silence is worth."""

from __future__ import annotations

import json

import pytest

from orchestrator.errors import Problem, Unreachable
from orchestrator.verification.checks import test_management, test_ports
from orchestrator.verification.nmap import ECHO, Scan
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject
from tests.unit.asked import SETTINGS, FakeHost, Said, faults_of, sheet_of

_HOST = {"address": "192.0.2.10", "address6": "", "groups": ["jitsi_bridges"], "ssh_port": 22}
_XML = (
    '<nmaprun><scaninfo type="syn"/><host><ports><extraports state="{}" count="65535"/>{}</ports></host>'
    '<runstats><finished exit="success"/></runstats></nmaprun>'
)


def _bridge(opened: str, echo: str = 'reason="echo-reply"', addresses: str = "[]") -> Sheet:
    """Return what is found at a bridge that lets in the administration only, seen from elsewhere."""
    settings = {**SETTINGS, "firewall_management_sources": ["198.51.100.0/24"]}
    subject = Subject("h1", "192.0.2.10", "", ("jitsi_bridges",), {"hosts": {"h1": _HOST}, "settings": settings})
    said: Said = {
        "python3 -c 'import socket": "9.9.9.9\n",
        "for tool in nmap": "/usr/bin/nmap\n",
        "nmap -sU": _XML.format("open|filtered", ""),
        # nmap: "Your port specifications are illegal"
        f"{test_ports._DECLARED} ": (1, "QUITTING!"),
        test_ports._SWEEP: _XML.format("filtered", opened),
        ECHO: f'<nmaprun><host><status state="up" {echo}/></host></nmaprun>',
    }
    check = test_ports.test_ports_from_outside
    return sheet_of(check, {"ip -json address": addresses}, outside=FakeHost(said), subject=subject)


def test_where_no_single_port_lets_us_in_an_echo_is_asked_for() -> None:
    good = _bridge("")
    assert (good.faults, good.untested) == ([], [])
    assert "192.0.2.10: of 65535 TCP ports, looked at half-open, are open: none" in good.seen
    bad = _bridge('<port portid="23"><state state="open"/></port>', "")
    assert (faults_of(bad), bad.untested) == ("192.0.2.10: 23/tcp open", [])
    assert "nothing at all answers" in _bridge("", 'reason="no-response"').untested[0]


def _address(local: str, **flags: bool) -> dict[str, object]:
    return {"local": local, "scope": "global", **flags}


@pytest.mark.parametrize(
    ("address6", "rows", "untested"),
    [
        ("", [_address("9.9.9.9"), _address("10.0.0.1"), _address("fd00::1"), {}], []),
        ("2620:fe:0::9", [_address("2620:fe::9"), _address("9.9.9.9")], []),
        (
            "",
            [_address("2620:fe::9", dynamic=True), _address("2620:fe::a", temporary=True, dynamic=True)],
            [
                "2620:fe::9, a public address of the host, was not looked at (name it in the host variable base_address6)"
            ],
        ),
        ("2620:fe::9", [_address("2620:fe::a", dynamic=True, deprecated=True)], []),
        (
            "2620:fe::9",
            [_address("2620:fe::a", deprecated=True), _address("8.8.8.8")],
            [
                f"{address}, a public address of the host, was not looked at (the inventory names one of each family:"
                " take it from the host, or look there yourself)"
                for address in ("2620:fe::a", "8.8.8.8")
            ],
        ),
    ],
)
def test_an_address_that_nobody_declared_is_told(
    address6: str, rows: list[dict[str, object]], untested: list[str]
) -> None:
    """What the host is to give up, or changes by the day, is no address to declare; one that an administrator keeps is."""
    sheet = Sheet()
    subject = Subject("h1", "9.9.9.9", address6, (), {"hosts": {}, "settings": {}})
    test_ports.judge_addresses([{}, {"ifname": "eth0", "addr_info": rows}], subject, sheet)
    assert (sheet.untested, sheet.faults) == (untested, [])


def test_a_scan_counts_whatever_the_host_says_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = '<port portid="23"><state state="open"/></port>'
    told = _bridge(opened, addresses=json.dumps([{"addr_info": [_address("2620:fe::9")]}]))
    assert (faults_of(told), len(told.untested)) == ("192.0.2.10: 23/tcp open", 1)

    def silent(host: FakeHost, command: str) -> tuple[int, bytes, bytes]:
        if command.startswith("ip "):
            raise Unreachable([Problem("it does not answer")])
        return answer(host, command)

    answer = FakeHost._answer
    monkeypatch.setattr(FakeHost, "_answer", silent)
    alone = _bridge(opened)
    assert faults_of(alone) == "192.0.2.10: 23/tcp open"
    assert alone.untested == ["whether the host has other addresses is not known: it does not answer"]


def _judged(tcp: Scan, udp: Scan, *, answers: bool) -> tuple[list[str], list[str]]:
    sheet = Sheet()
    test_ports.judge_way("h", [tcp, udp], answers, sheet)
    assert sheet.faults == []
    return sheet.seen, sheet.untested


def test_silence_everywhere_proves_nothing() -> None:
    silent, udp = Scan(rest="filtered"), Scan(rest="open|filtered")
    lost = ["h: nothing at all answers, no echo either: whether anything gets there is not known"]
    assert _judged(silent, udp, answers=False) == ([], lost)
    assert _judged(Scan("nmap ran out of time"), udp, answers=False) == ([], lost)
    assert _judged(silent, udp, answers=True) == ([], [])
    assert _judged(Scan(rest="closed"), udp, answers=False) == ([], [])
    assert _judged(silent, Scan(states={9: "closed"}, rest="open|filtered"), answers=False) == ([], [])
    assert _judged(silent, Scan(states={3478: "open"}, rest="open|filtered"), answers=False) == ([], [])


def test_where_only_the_web_answers_it_is_said_what_that_is_worth() -> None:
    said = ["h: only 80, 443 answered, as it would through a network that lets out nothing else"]
    web, udp = {80: "open", 443: "open"}, Scan(rest="open|filtered")
    assert _judged(Scan(states=web, rest="filtered"), udp, answers=True) == (said, [])
    for states, rest in (({**web, 22: "open"}, "filtered"), ({**web, 22: "closed"}, "filtered"), (web, "closed")):
        assert _judged(Scan(states=states, rest=rest), udp, answers=True) == ([], [])
    assert _judged(Scan(states=web, rest="filtered"), Scan(states={3478: "open"}), answers=True) == ([], [])


@pytest.mark.parametrize(
    ("groups", "opened", "seen", "fault", "untested"),
    [
        (["jitsi_signalling"], (443,), "SSH does not answer on 192.0.2.10:22", "", ""),
        (["jitsi_signalling"], (22, 443), "", "SSH answers on 192.0.2.10:22", ""),
        (["jitsi_signalling"], (22,), "", "SSH answers on 192.0.2.10:22", ""),
        (
            ["jitsi_signalling"],
            (80,),
            "",
            "",
            "SSH does not answer on 192.0.2.10:22, nor does 443/tcp, which lets us in: whether anything gets there is not known",
        ),
        (["jitsi_bridges"], (), "SSH does not answer on 192.0.2.10:22", "", ""),
    ],
)
def test_sshs_silence_counts_where_another_port_answers(
    groups: list[str], opened: tuple[int, ...], seen: str, fault: str, untested: str
) -> None:
    sheet = _knocked(groups, opened, "9.9.9.9")
    assert ("; ".join(sheet.seen), faults_of(sheet), "; ".join(sheet.untested)) == (seen, fault, untested)


def test_ssh_that_answers_a_container_is_not_taken_for_open_to_strangers() -> None:
    sheet = _knocked(["jitsi_signalling"], (22, 443), "172.17.0.2")
    assert sheet.faults == []
    assert sheet.untested == ["SSH answers on 192.0.2.10:22; how the host sees us is not known"]


def _knocked(groups: list[str], opened: tuple[int, ...], source: str) -> Sheet:
    """Return what is found by knocking from an address at a host that lets in the administration only to SSH."""
    settings = {
        "jitsi_domain": "meet.example.org",
        "firewall_management_sources": ["198.51.100.0/24"],
        # Nobody needs to listen there.
        "firewall_extra_flows": [{"proto": "tcp", "port": 9000}],
    }
    host = {**_HOST, "groups": groups}
    subject = Subject("h1", "192.0.2.10", "", tuple(groups), {"hosts": {"h1": host}, "settings": settings})
    knock = "timeout 3 bash -c ': </dev/tcp/192.0.2.10/{}'"
    said: dict[str, str | tuple[int, str]] = {"python3": f"{source}\n", "for tool in bash": "/usr/bin/bash\n"}
    said |= {knock.format(port): "open\n" if port in opened else "closed\n" for port in (22, 80, 443)}
    check = test_management.test_ssh_does_not_answer_strangers
    return sheet_of(check, {}, outside=FakeHost(said), subject=subject)
