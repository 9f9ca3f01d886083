"""What was recorded of nmap, openssl and the TURN probe from outside, and the host that was looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.verification.crypto import load_profiles
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

RECORDED = Path(__file__).with_name("recorded")
BSI, MOZILLA = (load_profiles()[name] for name in ("bsi-2026", "mozilla-intermediate"))


def recorded(name: str) -> str:
    """Return what a program printed then."""
    return (RECORDED / name).read_text()


def subject(**settings: Any) -> Subject:
    """Return a host of all groups with these settings; its site has an inner one, too."""
    groups = ("jitsi_signalling", "jitsi_bridges", "turn_servers")
    host = {"address": "192.0.2.10", "address6": "2001:db8::10", "groups": groups, "ssh_port": 22}
    inner = {"address": "10.9.8.7", "address6": "", "groups": ["jitsi_signalling"], "ssh_port": 22}
    topology = {"hosts": {"h1": host, "s2": inner}, "settings": {"jitsi_domain": "meet.example.org", **settings}}
    return Subject("h1", "192.0.2.10", "2001:db8::10", groups, topology)


def noted(judge: Callable[..., None], *given: Any) -> Sheet:
    """Return what a judgement of this notes."""
    sheet = Sheet()
    judge(*given, sheet)
    return sheet


def faults(sheet: Sheet) -> list[str]:
    """Return what was found wrong."""
    return [seen for seen, _ in sheet.faults]
