"""What is left behind of a process's memory when it crashes: names, keys and what was said lie in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_log_levels import java
from orchestrator.verification.kernel import QUESTION, read
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

DAYS = 3
# Programs that throw a dump away when the kernel hands it to them.
NOBODY = ("false", "true")
# What logins get (pam_limits), and what systemd-coredump would keep.
_LOGINS = (
    "cat /etc/security/limits.conf /etc/security/limits.d/*.conf 2>/dev/null; echo == next ==; "
    "systemd-analyze cat-config systemd/coredump.conf 2>/dev/null; true"
)
_FOUND = (
    "find /tmp /var/tmp /var/crash /var/lib/systemd/coredump /var/cache /var/log/jitsi /usr/share/jicofo "
    "/usr/share/jitsi-videobridge -xdev -maxdepth 4 -type f \\( -name '*.hprof' -o -name 'java_pid*' -o -name 'hs_err_pid*' "
    f"-o -name core -o -name 'core.[0-9]*' -o -path '*/coredump/*' \\) -mtime +{DAYS - 1} 2>/dev/null; true"
)


def _limits(units: Iterable[str]) -> str:
    """Return the command that tells each unit's limit for core dumps, as its main process has it."""
    names = " ".join(f"{unit}.service" for unit in units)
    return (
        f"for pid in $(systemctl show -P MainPID {names}); do found=; while read -r line; do case $line in "
        '"Max core file size"*) found=$line;; esac; done 2>/dev/null </proc/$pid/limits; echo "${found:-none}"; done'
    )


@pytest.mark.control("OS-12")
def test_core_dumps(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Neither services nor logins may write one, and the kernel hands none to a program that keeps it."""
    units = subject.units()
    shown, limits, logins = ask(host, QUESTION, _limits(units), _LOGINS)
    kernel = read(shown)
    for unit, line in zip(units, text(limits).splitlines(), strict=True):
        if line == "none":
            sheet.could_not_look(f"{unit} does not run")
            continue
        soft, hard = line.split()[4:6]
        sheet.expect((soft, hard) == ("0", "0"), f"{unit}: core dumps up to {soft}, {hard} at most", "0, 0 at most")
    rules, _, keeper = text(logins).partition("== next ==\n")
    for who, limit in {"*": "", "root": "", **_login_limits(rules)}.items():
        whose = "logins" if who == "*" else f"logins of {who}"
        sheet.expect(limit == "0", f"{whose}: core dumps up to {limit or 'no limit'}", f"{who} hard core 0")
    name = "kernel/core_pattern"
    pattern = kernel.values.get(name, "")
    program = pattern.removeprefix("|").split(" ")[0].rpartition("/")[2]
    kept = re.findall(r"^\s*Storage\s*=\s*(\w+)", keeper, re.M)
    if program == "systemd-coredump" and pattern.startswith("|"):
        storage = kept[-1] if kept else "external, its default"
        sheet.expect(storage == "none", f"systemd-coredump keeps dumps: {storage}", "Storage=none")
    elif pattern.startswith("|") or name in kernel.ours:
        kernel.note(name, pattern.startswith("|") and program in NOBODY, "|/bin/false", sheet)
    else:
        # Not ours to set; the limits above decide, since it names a file.
        sheet.expect(True, f"kernel.core_pattern {pattern or 'empty'}", "")


def _login_limits(rules: str) -> dict[str, str]:
    """Return the hard limit of each user or group that the rules name, as pam_limits takes it; "" where they give up all limits.

    The last row of each counts, and the row of everybody (*) never for root (limits.conf(5)).
    """
    found = {}
    for row in (line.partition("#")[0].split() for line in rules.splitlines()):
        if row[1:] == ["-"] and row[0] != "*":
            found[row[0]] = ""
        elif len(row) >= 4 and row[1].lower() in ("hard", "-") and row[2].lower() == "core":
            found[row[0]] = row[3]
    return found


@pytest.mark.control("OS-12")
def test_heap_dumps(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The JVMs write none, or into a closed directory that is emptied; the last option of a kind wins."""
    units = subject.java_units
    if not units:
        raise NotApplicable("neither Jicofo nor a bridge runs here")
    for unit, result in zip(units, ask(host, *(java(unit) for unit in units)), strict=True):
        arguments = text(result).partition("\n\n")[0]
        switches = re.findall(r"^-XX:([+-])HeapDumpOnOutOfMemoryError$", arguments, re.M)
        if "java" not in arguments.partition("\n")[0]:
            sheet.could_not_look(f"{unit} does not run")
        elif switches and switches[-1] == "+":
            _judge_place(host, unit, arguments, sheet)
        else:
            sheet.expect(True, f"{unit} writes no heap dumps", "")


def _judge_place(host: testinfra.host.Host, unit: str, arguments: str, sheet: Sheet) -> None:
    paths = re.findall(r"^-XX:HeapDumpPath=(.*)$", arguments, re.M)
    place = paths[-1] if paths else ""
    mode, rules = ask(host, f"stat -c '%a %F' '{place}' 2>/dev/null; true", "systemd-tmpfiles --cat-config")
    closed = text(mode).strip() == "700 directory"
    sheet.expect(
        closed, f"{unit} writes heap dumps to {place or 'its own directory'}", "none, or a directory of mode 0700"
    )
    ages = [row[5] for line in text(rules).splitlines() if len(row := line.split()) > 5 and row[1] == place]
    found = re.fullmatch(r"[~]?(\d+)d", ages[-1]) if ages else None
    emptied = found is not None and int(found.group(1)) <= DAYS
    sheet.expect(emptied, f"{unit}: heap dumps stay {ages[-1] if ages else 'for ever'}", f"{DAYS} days, by tmpfiles.d")


@pytest.mark.control("OS-12")
def test_old_dumps(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What has been written lies nowhere for longer than that."""
    (shown,) = ask(host, _FOUND)
    for path in sorted(text(shown).splitlines()):
        sheet.expect(False, f"{path} is older than {DAYS} days", "removed")
    sheet.expect(True, "no old dump of memory lies about", "")
