"""How long logs are kept: the rules in effect and what really lies there."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

# What speaks of conferences; everything else below /var/log is administrative.
CONFERENCE = (
    "/var/log/prosody",
    "/var/log/nginx",
    "/var/log/jitsi",
    "/var/log/haproxy",
    "/var/log/turn",
    "/var/log/coturn",
)
_PERIOD = {"hourly": 1 / 24, "daily": 1, "weekly": 7, "monthly": 31, "yearly": 366}
_NAMESPACE = "conferencing"


def _retention(line: str) -> float | None:
    """Return the days that one of logrotate's "rotating pattern" lines amounts to, None where it has no limit."""
    rotations = re.search(r"\((\d+) rotations\)", line)
    if "(no old logs will be kept)" in line:
        count = 0
    elif rotations:
        count = int(rotations.group(1))
    else:
        return None
    after = re.match(r" after (\d+) days", line)
    period = next((days for word, days in _PERIOD.items() if f" {word} " in line), None)
    days = float(after.group(1)) if after else period
    if days is None:
        return None
    # The file that is being written spans one period more.
    oldest = re.search(r"old logs are removed after (\d+) days", line)
    return min(days * (count + 1), float(oldest.group(1)) + days) if oldest else days * (count + 1)


def _days(text_: str) -> float:
    """Return days of a systemd time span as it stands in journald.conf (90day, 2week, 604800)."""
    units = {"": 86400, "s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "day": 86400, "d": 86400, "week": 604800}
    units |= {"w": 604800, "month": 2629800, "year": 31557600}
    total = 0.0
    for number, unit in re.findall(r"(\d+)\s*([a-z]*)", text_):
        total += int(number) * (units.get(unit) or units[unit.rstrip("s")]) / (86400 if unit else 86400 * 86400)
    return total


@pytest.mark.control("LOG-03")
def test_retention(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Two classes: conferences and administration, each with its declared period."""
    conference = int(subject.settings["jitsi_conference_log_days"])
    administrative = int(subject.settings["base_admin_log_days"])
    rules, ages, journal, namespace, entries, now = ask(
        host,
        "logrotate --debug /etc/logrotate.conf 2>&1; true",
        "find /var/log -xdev -type f -not -path '/var/log/journal/*' -printf '%T@ %p\\n'",
        "systemd-analyze cat-config systemd/journald.conf",
        f"cat /etc/systemd/journald@{_NAMESPACE}.conf 2>/dev/null || true",
        f"journalctl --namespace={_NAMESPACE} -o short-unix -n 1 --reverse --no-pager -q 2>/dev/null; "
        f"journalctl --namespace={_NAMESPACE} -o short-unix --no-pager -q 2>/dev/null | head -n 1; true",
        "date +%s",
    )
    _judge_rules(text(rules), conference, administrative, sheet)
    _judge_journals(text(journal), text(namespace), conference, administrative, sheet)
    today = int(text(now))
    # The file that is written to counts from its last line; one more day passes until the next rotation.
    for line in text(ages).splitlines():
        stamp, _, path = line.partition(" ")
        limit = conference if path.startswith(CONFERENCE) else administrative
        days = (today - float(stamp)) / 86400
        if days > limit + 1:
            sheet.expect(False, f"{path} is {days:.0f} days old", f"gone after {limit} days")
    oldest = [float(line.split()[0]) for line in text(entries).splitlines() if line[:1].isdigit()]
    if oldest:
        days = (today - min(oldest)) / 86400
        sheet.expect(days <= conference + 1, f"oldest conference entry: {days:.1f} days", f"at most {conference} days")


def _judge_rules(shown: str, conference: int, administrative: int, sheet: Sheet) -> None:
    seen = 0
    rule = r"^rotating pattern: (.*?)((?:after|hourly|daily|weekly|monthly|yearly) .*?)$"
    for pattern, rest in re.findall(rule, shown, re.M | re.S):
        paths = pattern.split()
        limit = conference if any(path.startswith(CONFERENCE) for path in paths) else administrative
        days = _retention(f" {rest} ")
        kept = "for ever" if days is None else f"{days:.0f} days"
        seen += 1
        # A rotation that is due by size or that never saw a file older than its period is bounded by maxage alone.
        sheet.expect(days is not None and days <= limit + 1, f"{' '.join(paths)}: kept {kept}", f"at most {limit} days")
    for line in re.findall(r"^error: (.*)$", shown, re.M):
        sheet.expect(False, f"logrotate: {line}", "every rule works")
    sheet.expect(seen > 0, f"{seen} rotation rules", "logrotate to have rules")


def _judge_journals(system: str, namespace: str, conference: int, administrative: int, sheet: Sheet) -> None:
    for name, shown, limit in (("system", system, administrative), (_NAMESPACE, namespace, conference)):
        values = dict(re.findall(r"^\s*(MaxRetentionSec|MaxFileSec)\s*=\s*(\S+)", shown, re.M))
        kept = _days(values.get("MaxRetentionSec", "0"))
        # A whole file goes at once, so entries outlive the period by one file's span.
        sheet.expect(0 < kept <= limit, f"{name} journal: kept {kept:.0f} days (0: no limit)", f"at most {limit} days")
        span = _days(values.get("MaxFileSec", "1month"))
        sheet.expect(0 < span <= 1, f"{name} journal: a file spans {span:.0f} days", "at most 1 day")
