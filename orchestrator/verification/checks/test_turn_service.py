"""What coturn offers beside relaying, how much of it one client may take, and what it writes down."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_services import stun
from orchestrator.verification.coturn import COTURN, QUOTAS, Settings, quiet, settings
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import SS, fits, sockets
from orchestrator.verification.subject import Subject

# What listens for people who manage it, where it is on: its option for the port, and the port without it
# (coturn:README.turnserver).
ADMINISTRATION = {
    "the command line (telnet)": ("cli-port", 5766),
    "the web administration": ("web-admin-port", 8080),
    "what it counts (Prometheus)": ("prometheus-port", 9641),
}
# RFC 8489 14.14
_SOFTWARE = 0x8022
# Files that the running process writes to, and what earlier ones left where coturn puts logs by itself
# (coturn:README.turnserver, --log-file).
_WRITTEN = (
    "pid=$(systemctl show -P MainPID coturn); find /proc/$pid/fd -lname '/*' -printf 'open %l\\n' 2>/dev/null; "
    "find /var/log /var/tmp /tmp -xdev -maxdepth 3 -type f -name 'turn*.log*' -printf 'old %T@ %p\\n' 2>/dev/null; "
    "systemctl show -p LogNamespace coturn; date '+now %s'"
)
# Names of a log file that are none (coturn:src/apps/common/ns_turn_utils.c); `syslog` is another.
_STDOUT = ("stdout", "-")


@pytest.mark.control("TRN-03")
def test_turn_offers_nothing_else(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No administration, no name in its answers, bounds for each and for all."""
    shown, listening, *told = ask(host, COTURN, SS, *(stun(address) for address in subject.addresses))
    started = settings(text(shown))
    if started is None:
        sheet.could_not_look("coturn does not run")
        return
    _judge_listening(text(listening), started, subject, sheet)
    for name in ("web-admin", "web-admin-listen-on-workers"):
        on = started.on(name)
        sheet.expect(not on, f"{name} is {'on' if on else 'off'}", "off")
    for name in QUOTAS:
        value = started.last(name)
        sheet.expect(started.number(name, 0) > 0, f"{name} {'not set' if value is None else value}", "set")
    for address, result in zip(subject.addresses, told, strict=True):
        name_ = _software(text(result).strip())
        if name_ is None:
            sheet.could_not_look(f"STUN on {address} does not answer")
        else:
            sheet.expect(not name_, f"STUN on {address} names {name_ or 'no software'}", "no software")


def _judge_listening(shown: str, started: Settings, subject: Subject, sheet: Sheet) -> None:
    """Note each TCP socket of coturn's that is none of its relay's: its administration listens where it is told to."""
    off = {
        "cli-port": started.on("no-cli"),
        "web-admin-port": not started.on("web-admin"),
        "prometheus-port": started.last("prometheus") is None,
    }
    managing = {
        started.number(option, port): what for what, (option, port) in ADMINISTRATION.items() if not off[option]
    }
    relaying = _relaying(started)
    declared = subject.listeners()
    for socket in sockets(shown):
        if socket.process != "turnserver" or socket.proto != "tcp":
            continue
        where = f"{socket.address}:{socket.port}"
        if socket.port in managing:
            sheet.expect(False, f"{managing[socket.port]} listens on {where}", "switched off")
        elif socket.port not in relaying and not any(fits(socket, row) for row in declared):
            sheet.expect(False, f"coturn listens on {where}, where it relays nothing", "the ports of its relay only")


def _relaying(started: Settings) -> set[int]:
    """Return the TCP ports by which clients reach the relay (coturn:src/apps/relay/netengine.c, setup_tcp_listener_servers)."""
    further = [value.rpartition(":")[2] for name, value in started.rows if name == "aux-server"]
    found = {int(port) for port in further if port.isdigit()}
    if started.last("tcp-proxy-port") is not None:
        return found | {started.number("tcp-proxy-port", 0)}
    for name, usual in (("listening-port", 3478), ("tls-listening-port", 5349)):
        port = started.number(name, usual)
        found |= {port, started.number(f"alt-{name}", 0) or port + 1}
    return found


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
    started = quiet(text(shown), sheet)
    if started is None:
        return
    told = text(written)
    target = started.last("log-file") or ""
    if not started.on("no-stdout-log") or target in _STDOUT:
        kept = "LogNamespace=conferencing" in told
        sheet.expect(
            kept, f"its lines go to {'the conferencing' if kept else 'the system'} journal", "nowhere, or a short one"
        )
    if started.on("syslog") or target == "syslog":
        sheet.expect(False, "its lines go to the system's log", "nowhere, or into the conferencing journal")
    named = target if target not in ("", "/dev/null", *_STDOUT, "syslog") else ""
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
