"""What coturn offers beside relaying, how much of it one client may take, and what it writes down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_services import stun
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
QUOTAS = ("user-quota", "total-quota", "max-bps")
# RFC 8489 14.14
_SOFTWARE = 0x8022
# coturn's arguments, and the lines of its file without its secrets; with -n it reads none.
_COTURN = (
    "args=$(tr '\\0' '\\n' </proc/$(systemctl show -P MainPID coturn)/cmdline); echo \"$args\"; echo '== file =='; "
    'echo "$args" | grep -qx -e -n && exit 0; file=$(echo "$args" | grep -xA 1 -e -c | tail -n 1); '
    "grep -svE '^[[:space:]]*(#|$|static-auth-secret|cli-password|pkey-pwd|user[[:space:]=]|[a-z]+-(userdb|statsdb))' "
    '"${file:-/etc/turnserver.conf}"; true'
)
# Files that the running process writes to, and what earlier ones left where coturn puts logs by itself
# (coturn:README.turnserver, --log-file).
_WRITTEN = (
    "pid=$(systemctl show -P MainPID coturn); find /proc/$pid/fd -lname '/*' -printf 'open %l\\n' 2>/dev/null; "
    "find /var/log /var/tmp /tmp -xdev -maxdepth 3 -type f -name 'turn*.log*' -printf 'old %T@ %p\\n' 2>/dev/null; "
    "systemctl show -p LogNamespace coturn; date '+now %s'"
)
_SHORT = {
    **{"l": "log-file", "p": "listening-port", "v": "verbose", "V": "Verbose"},
    **{"q": "user-quota", "Q": "total-quota", "s": "max-bps"},
}
# Of the short options these take a word (coturn:src/apps/relay/mainrelay.c, OPTIONS).
_SHORT_WITH_WORD = "cdpLEXimlrubBeMJNOqQsCKA"
# The long ones that are looked at; of these some take the next word where no `=` gives one.
_WITH_WORD = (
    *("log-file", "listening-port", "tls-listening-port", "alt-listening-port", "alt-tls-listening-port", *QUOTAS),
    *("tcp-proxy-port", "aux-server", "cli-port", "web-admin-port"),
)
_LONG = (
    *(
        *_WITH_WORD,
        "no-stdout-log",
        "syslog",
        "verbose",
        "Verbose",
        "no-cli",
        "web-admin",
        "web-admin-listen-on-workers",
    ),
    *("prometheus", "prometheus-port"),
)
# The arguments are read first for these, and the file after them; for all others the arguments come last.
_LOGGING = ("log-file", "no-stdout-log", "syslog")
# Names of a log file that are none (coturn:src/apps/common/ns_turn_utils.c); `syslog` is another.
_STDOUT = ("stdout", "-")


@dataclass(frozen=True, slots=True)
class Settings:
    """coturn's settings in the order in which it takes them (4.6.1, coturn:src/apps/relay/mainrelay.c)."""

    rows: Sequence[tuple[str, str]]

    def last(self, name: str) -> str | None:
        """Return what a setting was given last; None for one that was given nothing."""
        return next((value for known, value in reversed(self.rows) if known == name), None)

    def on(self, name: str) -> bool:
        """Say whether something is switched on."""
        value = self.last(name)
        return value is not None and _switched_on(value)

    def number(self, name: str, default: int) -> int:
        """Return a number as C's atoi reads it."""
        value = self.last(name)
        found = re.match(r"\s*(-?\d+)", value or "")
        return default if value is None else int(found.group(1)) if found else 0

    def loud(self) -> bool:
        """Say whether it tells more than it must: `verbose`, or the louder `Verbose`, which nothing takes back."""
        return self.on("verbose") or any(name == "Verbose" and _switched_on(value) for name, value in self.rows)


def _switched_on(value: str) -> bool:
    """Read a truth as coturn does (get_bool_value): alone it means yes, and it stops at a word that it does not know."""
    return not value.startswith(("0", "n", "N", "f", "F")) and value not in ("off", "OFF", "Off")


def settings(shown: str) -> Settings | None:
    """Return what coturn was started with, None where it does not run."""
    arguments, _, file = shown.partition("== file ==\n")
    name, *words = arguments.splitlines() or [""]
    if "turnserver" not in name:
        return None
    given = list(_given(words))
    lines = [_line(line) for line in file.splitlines()]
    early = [row for row in given if row[0] in _LOGGING]
    return Settings((*early, *lines, *(row for row in given if row[0] not in _LOGGING)))


def _line(line: str) -> tuple[str, str]:
    """Read a line of the file: a name and a value, parted by blanks, tabs and `=` in any number (parse_arg_string)."""
    name, _, value = re.sub(r"[ \t=]+", "\0", line.strip(), count=1).partition("\0")
    return name, value[1:].rstrip().removesuffix('"') if value.startswith('"') else value


def _given(words: list[str]) -> Iterator[tuple[str, str]]:
    """Read the arguments as getopt_long(3) does, as far as they are looked at."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        name, given, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            yield from _short(word[1:], rest) if word.startswith("-") else ()
            continue
        # A name may be cut short where no other begins so. `user` is whole.
        longer = [known for known in _LONG if known.startswith(name)]
        name = longer[0] if len(longer) == 1 and name != "user" else name
        yield name, value if given or name not in _WITH_WORD else next(rest, "")


def _short(letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Read short options that stand together; one that takes a word takes what is left of its own, or the next."""
    for at, letter in enumerate(letters):
        if letter in _SHORT_WITH_WORD:
            value = letters[at + 1 :] or next(rest, "")
            yield _SHORT.get(letter, letter), value
            return
        yield _SHORT.get(letter, letter), ""


@pytest.mark.control("TRN-03")
def test_turn_offers_nothing_else(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No administration, no name in its answers, bounds for each and for all."""
    shown, listening, *told = ask(host, _COTURN, SS, *(stun(address) for address in subject.addresses))
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
    shown, written = ask(host, _COTURN, _WRITTEN)
    started = settings(text(shown))
    if started is None:
        sheet.could_not_look("coturn does not run")
        return
    loud = started.loud()
    sheet.expect(not loud, f"coturn runs {'with verbose' if loud else 'without verbose'}", "without verbose")
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
