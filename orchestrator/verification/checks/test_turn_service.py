"""What coturn offers beside relaying, how much of it one client may take, and what it writes down."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_log_levels import COTURN
from orchestrator.verification.checks.test_services import stun
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import SS, sockets
from orchestrator.verification.subject import Subject

# coturn:README.turnserver, --cli-port and --web-admin-port.
ADMINISTRATION = {5766: "the command line (telnet)", 8080: "the web administration"}
QUOTAS = ("user-quota", "total-quota")
# RFC 8489 14.14
_SOFTWARE = 0x8022
# Files that the running process writes to, and what earlier ones left where coturn puts logs by itself
# (coturn:README.turnserver, --log-file).
_WRITTEN = (
    "pid=$(systemctl show -P MainPID coturn); find /proc/$pid/fd -lname '/*' -printf 'open %l\\n' 2>/dev/null; "
    "find /var/log /var/tmp /tmp -xdev -maxdepth 3 -type f -name 'turn*.log*' -printf 'old %T@ %p\\n' 2>/dev/null; "
    "systemctl show -p LogNamespace coturn; date '+now %s'"
)


def _settings(shown: str) -> dict[str, str]:
    """Return coturn's settings by name, those of its file and its arguments alike."""
    found = {}
    for line in shown.splitlines()[1:]:
        name, _, value = line.strip().lstrip("-").partition("=")
        found[name.strip()] = value.strip()
    return found


@pytest.mark.control("TRN-03")
def test_turn_offers_nothing_else(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No administration, no name in its answers, bounds for each and for all."""
    shown, listening, *told = ask(host, COTURN, SS, *(stun(address) for address in subject.addresses))
    if "turnserver" not in text(shown).partition("\n")[0]:
        sheet.could_not_look("coturn does not run")
        return
    for proto, address, port, process in sockets(text(listening)):
        if process == "turnserver" and proto == "tcp" and port in ADMINISTRATION:
            sheet.expect(False, f"{ADMINISTRATION[port]} listens on {address}:{port}", "switched off")
    settings = _settings(text(shown))
    sheet.expect("web-admin" not in settings, f"web-admin is {settings.get('web-admin', 'off') or 'on'}", "off")
    for name in QUOTAS:
        value = settings.get(name, "")
        sheet.expect(value.isdigit() and int(value) > 0, f"{name} {value or 'not set'}", "set")
    for address, result in zip(subject.addresses, told, strict=True):
        name_ = _software(text(result).strip())
        if name_ is None:
            sheet.could_not_look(f"STUN on {address} does not answer")
        else:
            sheet.expect(not name_, f"STUN on {address} names {name_ or 'no software'}", "no software")


def _software(answer: str) -> str | None:
    """Return the name that a STUN message gives its software, "" without one; None for what is no message."""
    if not re.fullmatch(r"(?:[0-9a-f]{2}){20,}", answer):
        return None
    body = bytes.fromhex(answer)[20:]
    while len(body) >= 4:
        kind, length = int.from_bytes(body[:2]), int.from_bytes(body[2:4])
        if kind == _SOFTWARE:
            return body[4 : 4 + length].decode(errors="replace")
        body = body[4 + (length + 3) // 4 * 4 :]
    return ""


@pytest.mark.control("TRN-05")
def test_turn_log(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Off, or short: lines hold the address and the credentials of everybody who meets."""
    days = int(subject.settings["jitsi_conference_log_days"])
    shown, written = ask(host, COTURN, _WRITTEN)
    if "turnserver" not in text(shown).partition("\n")[0]:
        sheet.could_not_look("coturn does not run")
        return
    settings = _settings(text(shown))
    loud = [name for name in ("verbose", "v", "Verbose", "V") if name in settings]
    sheet.expect(not loud, f"coturn runs {'with verbose' if loud else 'without verbose'}", "without verbose")
    told = text(written)
    if "no-stdout-log" not in settings:
        kept = "LogNamespace=conferencing" in told
        sheet.expect(
            kept, f"its lines go to {'the conferencing' if kept else 'the system'} journal", "nowhere, or a short one"
        )
    if "syslog" in settings:
        sheet.expect(False, "its lines go to the system's log", "nowhere, or into the conferencing journal")
    target = settings.get("log-file", "")
    named = target if target not in ("", "/dev/null", "stdout", "syslog") else ""
    files = [path for path in re.findall(r"^open (.*)$", told, re.M) if re.search(r"\.log\b|^/var/log/", path)]
    for path in sorted({named, *files} - {""}):
        short = path.startswith(("/var/log/turn", "/var/log/coturn"))
        sheet.expect(short, f"it writes {path}", "/dev/null, or where logs are rotated after the declared days")
    now = int(re.findall(r"^now (\d+)$", told, re.M)[0])
    for stamp, path in re.findall(r"^old ([\d.]+) (.*)$", told, re.M):
        age = (now - float(stamp)) / 86400
        sheet.expect(age <= days + 1, f"{path} is {age:.0f} days old", f"gone after {days} days")
    if not named and not files:
        sheet.expect(True, "it writes no file", "")
