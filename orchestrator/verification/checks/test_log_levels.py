"""How much the services tell their logs: what is in effect in the running processes where they can be asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_recordings import NGINX
from orchestrator.verification.coturn import COTURN, quiet
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import read_nginx

# Below these, lines name visitors (nginx: each connection that a client gave up; HAProxy: each connection).
NGINX_LEVELS = ("warn", "error", "crit", "alert", "emerg")
HAPROXY_LEVELS = ("notice", "warning", "err", "crit", "alert", "emerg")
# java.util.logging.Level, from the quietest to the loudest.
JAVA_LEVELS = ("OFF", "SEVERE", "WARNING", "INFO", "CONFIG", "FINE", "FINER", "FINEST", "ALL")
PROSODY_LEVELS = ("debug", "info", "warn", "error")
_FACILITY = re.compile(
    r"\b(kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron2?|auth2|ftp|ntp|audit|alert|local\d)\b"
)
# The running process's own settings, by Prosody's administration socket; the files would show what is to come.
_PROSODY = 'prosodyctl shell \'config:get("*", "log")\' </dev/null 2>&1; true'
_HAPROXY = "cat /etc/haproxy/haproxy.cfg"


def java(unit: str) -> str:
    """Return a command for the arguments of a unit's Java process, when it started, and its log settings' time and text."""
    return (
        f"for each in $(cat /sys/fs/cgroup$(systemctl show -P ControlGroup {unit})/cgroup.procs); do "
        "[ \"$(cat /proc/$each/comm)\" = java ] && args=$(tr '\\0' '\\n' </proc/$each/cmdline); done; "
        'option() { echo "$args" | sed -n "s/^-D$1=//p" | tail -n 1; }; '
        f'echo "$args"; echo; systemctl show --timestamp=unix -P ExecMainStartTimestamp {unit}; '
        'logging=$(option java.util.logging.config.file); stat -c %Y "$logging" || echo 0; '
        'grep -shE \'^[^#/]*redact-remote-addresses\' "$(option config.file)"; echo; cat "$logging"; true'
    )


@pytest.mark.control("LOG-01")
def test_prosody_level(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No target takes debugging lines."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    (shown,) = ask(host, _PROSODY)
    told = text(shown).strip()
    if not told.startswith("OK:"):
        sheet.could_not_look(f"Prosody does not tell its log settings: {' '.join(told.split())[:120]}")
        return
    for target, level in _prosody_targets(told.removeprefix("OK:").strip()):
        sheet.expect(level != "debug", f"Prosody logs {level} to {target}", "info or above")


def _prosody_targets(told: str) -> Iterator[tuple[str, str]]:
    """Yield (target, lowest level) of Prosody's `log`; what names no level takes all (prosody:core/loggingmanager.lua)."""
    if not told.startswith("{"):
        yield told, "debug" if told.startswith('"*') else "info"
        return
    for entry in _entries(told):
        quoted = re.findall(r'"([^"]*)"', entry)
        named = re.match(r'(?:\["?(\w+)"?\]|(\w+))\s*=\s*"', entry)
        if named:
            yield quoted[-1], named.group(1) or named.group(2)
            continue
        levels = re.search(r'\blevels\s*=\s*(\{.*?\}|"\w+")', entry, re.S)
        words = re.findall(r'"(\w+)"', levels.group(1)) if levels else ["debug"]
        target = re.search(r'\bfilename\s*=\s*"([^"]*)"', entry) or re.search(r'\bto\s*=\s*"([^"]*)"', entry)
        yield (
            (target.group(1) if target else (quoted or ["?"])[0]),
            min(words, key=PROSODY_LEVELS.index, default="debug"),
        )


def _entries(table: str) -> Iterator[str]:
    """Yield the entries of a Lua table's text, at its first depth."""
    depth, begin = 0, 0
    for at, letter in enumerate(table):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "{" and depth == 1:
            begin = at + 1
        elif letter in ";,}" and depth == (0 if letter == "}" else 1):
            if entry := table[begin:at].strip():
                yield entry
            begin = at + 1


@pytest.mark.control("LOG-01")
def test_web_levels(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """nginx, and HAProxy where it stands before it."""
    if not subject.signalling:
        raise NotApplicable("the web server does not run here")
    front = "haproxy" in subject.units()
    shown, *proxy = ask(host, NGINX, *([_HAPROXY] if front else []))
    if "server" not in text(shown):
        sheet.could_not_look("nginx does not tell its configuration (nginx -t says why)")
        return
    found = [directive.words[1:] for directive in read_nginx(text(shown)).all("error_log")]
    for target, *named in found or [["its default"]]:
        seen = named[0] if named else "error"
        sheet.expect(seen in NGINX_LEVELS, f"nginx logs {seen} to {target}", f"{NGINX_LEVELS[0]} or above")
    if any(result.rc for result in proxy):
        sheet.could_not_look(
            f"HAProxy, which is to stand before nginx, has no settings: {proxy[0].stderr.strip()[:120]}"
        )
    for line in (line.strip() for result in proxy for line in result.stdout.splitlines()):
        if not line.startswith("log ") or line == "log global":
            continue
        after = _FACILITY.split(line.partition(" ")[2].partition(" ")[2])[2:]
        words = " ".join(after).split()
        level = words[0] if words else "everything"
        sheet.expect(level in HAPROXY_LEVELS, f"HAProxy logs {level} ({line})", f"{HAPROXY_LEVELS[0]} or above")


@pytest.mark.control("LOG-01")
def test_java_levels(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Jicofo and the bridge: the file that the process was started with; the bridge keeps addresses out of its lines."""
    units = subject.java_units
    if not units:
        raise NotApplicable("neither Jicofo nor a bridge runs here")
    for unit, result in zip(units, ask(host, *(java(unit) for unit in units)), strict=True):
        arguments, _, rest = text(result).partition("\n\n")
        times, _, properties = rest.partition("\n\n")
        if "java" not in arguments.partition("\n")[0]:
            sheet.could_not_look(f"{unit} does not run")
            continue
        started, changed, *redact = times.splitlines()
        began = started.lstrip("@")
        if not began:
            # By a script of System V's, as upstream's packages may have it, systemd knows no main process.
            sheet.could_not_look(
                f"{unit}: systemd does not tell when it started, and so not which log settings it read"
            )
        elif int(changed) > int(began):
            sheet.could_not_look(
                f"{unit}: its log settings were changed after it started; what is in effect is unknown"
            )
        for name, level in _loggers(properties):
            loud = JAVA_LEVELS.index(level) > JAVA_LEVELS.index("INFO")
            sheet.expect(not loud, f"{unit}: {name or 'everything'} at {level}", "INFO or above")
        if unit == "jitsi-videobridge2":
            _judge_redaction(arguments, redact, sheet)


def _loggers(properties: str) -> list[tuple[str, str]]:
    """Return (logger, level that reaches a handler): a logger is as loud as its loudest handler lets it be."""
    rows = dict(re.findall(r"^[ \t]*([\w.$-]+)[ \t]*[=:][ \t]*(.*?)[ \t]*$", properties, re.M))
    handlers = [name for key, value in rows.items() if key.endswith("handlers") for name in re.split(r"[,\s]+", value)]
    outlets = [rows.get(f"{name}.level", "ALL" if "File" in name else "INFO") for name in handlers if name]
    most = max((_rank(level) for level in outlets), default=_rank("INFO"))
    levels = {
        key.removesuffix("level").removesuffix("."): value for key, value in rows.items() if key.endswith("level")
    }
    wanted = {name: level for name, level in {"": "INFO", **levels}.items() if name not in handlers}
    return [(name, JAVA_LEVELS[min(_rank(level), most)]) for name, level in sorted(wanted.items())]


def _rank(level: str) -> int:
    """Return a level's place; an unknown word or number counts as the loudest."""
    return JAVA_LEVELS.index(level.upper()) if level.upper() in JAVA_LEVELS else len(JAVA_LEVELS) - 1


def _judge_redaction(arguments: str, lines: list[str], sheet: Sheet) -> None:
    """True is upstream's default (jitsi-videobridge:jvb/src/main/resources/reference.conf); an argument wins over the file."""
    values = [value for line in lines for value in re.findall(r'redact-remote-addresses"?\s*[=:]\s*"?(\w+)', line)]
    values += re.findall(r"-Dvideobridge\.redact-remote-addresses=(\w+)", arguments)
    value = values[-1].lower() if values else "true"
    sheet.expect(value in ("true", "yes", "on"), f"jitsi-videobridge2: redact-remote-addresses {value}", "true")


@pytest.mark.control("LOG-01")
def test_turn_level(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """coturn's arguments and the file that it was started with; verbose lines hold every client's address."""
    if not subject.turn:
        raise NotApplicable("coturn does not run here")
    (shown,) = ask(host, COTURN)
    quiet(text(shown), sheet)
