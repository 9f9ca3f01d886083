"""NET-02 as a whole, with answers of nmap that a test makes up."""

from __future__ import annotations

from orchestrator.verification.checks import test_ports
from orchestrator.verification.subject import Subject
from tests.unit.asked import SETTINGS, FakeHost, Said, faults_of, sheet_of

_HOST = {"address": "192.0.2.10", "address6": "", "groups": ["jitsi_bridges"], "ssh_port": 22}
_XML = (
    '<nmaprun><scaninfo type="syn"/><host><ports><extraports state="{}" count="65535"/>{}</ports></host>'
    '<runstats><finished exit="success"/></runstats></nmaprun>'
)


def _bridge(opened: str) -> str:
    """Return the faults of a bridge that lets in the administration only, seen from elsewhere."""
    settings = {**SETTINGS, "firewall_management_sources": ["198.51.100.0/24"]}
    subject = Subject("h1", "192.0.2.10", "", ("jitsi_bridges",), {"hosts": {"h1": _HOST}, "settings": settings})
    said: Said = {
        "python3 -c 'import socket": "203.0.113.9\n",
        "for tool in nmap": "/usr/bin/nmap\n",
        "nmap -sU": _XML.format("open|filtered", ""),
        # nmap: "Your port specifications are illegal"
        f"{test_ports._DECLARED} ": (1, "QUITTING!"),
        test_ports._SWEEP: _XML.format("filtered", opened),
    }
    sheet = sheet_of(test_ports.test_ports_from_outside, said, outside=FakeHost(said), subject=subject)
    assert sheet.untested == []
    return faults_of(sheet)


def test_where_no_single_port_lets_us_in_none_is_asked_again() -> None:
    assert _bridge("") == ""
    assert _bridge('<port portid="23"><state state="open"/></port>') == "192.0.2.10: 23/tcp open"
