"""How long logs are kept: the rules in effect and what really lies there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pytest
import testinfra.host

from orchestrator.verification import logstamps
from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_recordings import NGINX
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import read_nginx

# What speaks of conferences; everything else below /var/log is administrative.
CONFERENCE = (
    "/var/log/prosody",
    "/var/log/nginx",
    "/var/log/jitsi",
    "/var/log/haproxy",
    "/var/log/turn",
    "/var/log/coturn",
)
_NAMESPACE = "conferencing"
_NAMESPACED = re.compile(rf"/var/log/journal/[0-9a-f]+\.{_NAMESPACE}/")
_PERIOD = {"hourly": 1 / 24, "weekly": 7, "monthly": 31, "yearly": 366}
# What a rotation leaves behind: prosody.log.1, prosody.log.2.gz, prosody.log-20261126.gz.
_ROTATED = re.compile(r"[.-](?:\d{1,3}|\d{8}(?:-?\d+)?)(?:\.(?:gz|xz|bz2|zst))?$")
# Whether logrotate runs at all, and how it ended last: a file that is written every day looks young though it was never rotated. One
# that has not run yet, as on a host of today, counts as a success (systemd.service(5)).
_ROTATES = "systemctl is-active logrotate.timer; systemctl show -P Result logrotate.service"
# On whatever is mounted there as well: logs outgrow the disk on which they begin. An empty file keeps nothing, however old it is.
_FILES = r"""now=$(date +%s); find /var/log -type f \( -empty -printf "$now %p\n" -o -printf '%T@ %p\n' \)"""
# What the installation of the system wrote once, and of each account the last log-in: nobody writes these anew, and no rule takes
# them away. Of conferences they say nothing.
_ONCE = re.compile(r"/var/log/(?:installer/.*|(?:bootstrap|fontconfig|cloud-init(?:-output)?)\.log|faillog|lastlog)$")
_SETTINGS = "systemd-analyze cat-config systemd/journald{}.conf"
_OLDEST = "journalctl {} -o short-unix --no-pager -q 2>/dev/null | head -n 1"
# Of each unit: its main process, its namespace by its files, whether that process has the namespace's sockets in place of the
# system's, and which files its processes write as logs.
_UNITS = (
    "{{ systemctl show -p Id -p MainPID -p ControlGroup -p LogNamespace {units}; echo; }} | while IFS== read -r name value; do "
    'case "$name" in Id) id=$value;; MainPID) pid=$value;; ControlGroup) group=$value;; LogNamespace) namespace=$value;; '
    '"") echo "unit $id $pid $namespace $(grep -c "/systemd/journal\\.{namespace} " /proc/$pid/mountinfo)"; '
    "[ $pid = 0 ] || find $(sed 's#.*#/proc/&/fd#' /sys/fs/cgroup$group/cgroup.procs) "
    "\\( -lname '/*.log' -o -lname '/var/log/*' \\) -printf 'open %l\\n'; namespace=; esac; done 2>/dev/null; true"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One of logrotate's rules: its patterns, the days that it keeps a line at most (None: no limit), what it rotates."""

    patterns: tuple[str, ...]
    days: float | None
    files: tuple[str, ...]


def rules(shown: str) -> Iterator[Rule]:
    """Read what `logrotate --debug` says of each rule (logrotate:logrotate.c, rotateLogSet and findNeedRotating)."""
    for block in re.split(r"^rotating pattern: ", shown, flags=re.M)[1:]:
        first, *files = re.split(r"^considering log ", block, flags=re.M)
        head = _HEAD.match(first)
        if head is None:
            raise RuntimeError(f"logrotate tells of a rule in other words: {first[:120]!r}")
        rotated = [each.partition("\n")[0] for each in files if not re.search(r"-- skipping|^error: ", each, re.M)]
        patterns = tuple(word.strip("\"'") for word in head["patterns"].split())
        yield Rule(patterns, _days_kept(head, first[head.end() :]), tuple(rotated))


_HEAD = re.compile(
    r"(?P<patterns>.*?)\s+(?:(?P<word>hourly|weekly|monthly|yearly)|after (?P<days>\d+) days|\d+ bytes) ", re.S
)


def _days_kept(head: re.Match[str], told: str) -> float | None:
    """Return the days of a rule. Only newer versions tell of maxage, which takes rotated files away."""
    period = float(head["days"]) if head["days"] else _PERIOD.get(head["word"] or "")
    # A file that must be large, or untouched for a while, may wait for its rotation for ever.
    if period is None or re.search(r"only log files (?:>=|older than) ", told):
        return None
    count = re.search(r"\((\d+) rotations\)|no old logs will be kept", told)
    oldest = re.search(r"old logs are removed after (\d+) days", told)
    kept = [period * int(count[1] or 0)] if count else []
    kept += [float(oldest[1])] if oldest else []
    # The file that is being written spans one period more.
    return min(kept) + period if kept else None


_SPANS = {
    **dict.fromkeys(("us", "usec", "\N{MICRO SIGN}s"), 1e-6 / 86400),
    **dict.fromkeys(("ms", "msec"), 1e-3 / 86400),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1 / 86400),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 1 / 1440),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("d", "day", "days"), 1),
    **dict.fromkeys(("w", "week", "weeks"), 7),
    **dict.fromkeys(("M", "month", "months"), 30.4375),
    **dict.fromkeys(("y", "year", "years"), 365.25),
}


def _days(span: str) -> float:
    """Return the days of a time span of systemd's (90day, 2week 3d, 604800); 0 for infinity (systemd.time(7))."""
    return sum(float(number) * _SPANS[unit] for number, unit in re.findall(r"([\d.]+)\s*([^\W\d]*)", span))


@pytest.mark.control("LOG-03")
def test_retention(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Two classes: conferences and administration, each with its declared period."""
    conference = int(subject.settings["jitsi_conference_log_days"])
    administrative = int(subject.settings["base_admin_log_days"])
    rotation, timer, ages, units, nginx, system, namespace, *oldest, now = ask(
        host,
        "logrotate --debug /etc/logrotate.conf 2>&1; true",
        _ROTATES,
        _FILES,
        _UNITS.format(units=" ".join(f"{unit}.service" for unit in subject.units()), namespace=_NAMESPACE),
        NGINX,
        _SETTINGS.format(""),
        _SETTINGS.format(f"@{_NAMESPACE}"),
        _OLDEST.format(""),
        _OLDEST.format(f"--namespace={_NAMESPACE}"),
        "date +%s",
    )
    _judge_runs(*text(timer).split(), sheet=sheet)
    _judge_units(text(units), sheet)
    written = {path for path in re.findall(r"^open (.*)$", text(units), re.M) if not path.endswith(" (deleted)")}
    written |= _logs_of_nginx(text(nginx), subject, sheet)
    aged = dict(line.split(" ", 1)[::-1] for line in text(ages).splitlines())
    aged = {path: stamp for path, stamp in aged.items() if path in written or not _ONCE.match(path)}
    known = list(rules(text(rotation)))
    _judge_rules(known, written, conference, administrative, sheet)
    for line in re.findall(r"^error: (.*)$", text(rotation), re.M):
        sheet.expect(False, f"logrotate: {line}", "every rule works")
    _judge_cover(known, written, sorted({*aged, *written}), sheet)
    _judge_journals(text(system), text(namespace), conference, administrative, sheet)
    today = int(text(now))

    def limit(path: str) -> int:
        return conference if _of_conferences(path, written) else administrative

    old = _judge_ages(aged, today, limit, sheet)
    (begun,) = ask(host, logstamps.first_stamps(sorted(path for path in written if path not in aged)))
    rows = [row for row in logstamps.read(text(begun), today) if row[0] not in old]
    rows = [row for row in rows if row[0] in written or not _ONCE.match(row[0])]
    _judge_first_lines(rows, today, limit, written, sheet)
    for name, most, answer in zip(("system", _NAMESPACE), (administrative, conference), oldest, strict=True):
        _judge_oldest(name, text(answer), most, today, sheet)


def _judge_ages(aged: Mapping[str, str], today: int, limit: Callable[[str], int], sheet: Sheet) -> set[str]:
    """Note the files that are older than they may be, and return them.

    The file that is written to counts from its last line; one more day passes until the next rotation.
    """
    ages = {path: (today - float(stamp)) / 86400 for path, stamp in aged.items()}
    old = {path for path, days in ages.items() if days > limit(path) + 1}
    for path in ages:
        if path in old:
            sheet.expect(False, f"{path} is {ages[path]:.0f} days old", f"gone after {limit(path)} days")
    return old


def _logs_of_nginx(shown: str, subject: Subject, sheet: Sheet) -> set[str]:
    """Return the files that nginx writes logs into, by its own account: they may lie anywhere and bear any name."""
    if subject.signalling and "server" not in shown:
        sheet.could_not_look("nginx does not tell its configuration (nginx -t says why), so where it logs is unknown")
    root = read_nginx(shown)
    words = {line.words[1] for name in ("access_log", "error_log") for line in root.all(name) if len(line.words) > 1}
    words = {word for word in words if not re.match(r"(?:off|stderr)$|syslog:|memory:|/dev/", word)}
    for word in sorted(word for word in words if "$" in word and not word.startswith("/var/log/")):
        sheet.could_not_look(f"nginx logs into {word}: which files these are it decides by each request")
    # nginx -V: --prefix
    return {posixpath.join("/usr/share/nginx", word) for word in words if "$" not in word}


def _of_conferences(path: str, written: set[str]) -> bool:
    """Say whether a file speaks of conferences: by where it lies, or because a conferencing service writes it."""
    return path.startswith(CONFERENCE) or _ROTATED.sub("", path) in written or bool(_NAMESPACED.match(path))


def _judge_first_lines(
    rows: Iterable[tuple[str, float | None]], today: int, limit: Callable[[str], int], written: set[str], sheet: Sheet
) -> None:
    """The oldest line of a file counts, not when the file was touched last."""
    for path, stamp in rows:
        if stamp is None:
            if _of_conferences(path, written):
                sheet.could_not_look(f"{path} does not tell in a known form when its first line was written")
            continue
        days = (today - stamp) / 86400
        if days > limit(path) + 1:
            sheet.expect(False, f"{path} begins {days:.0f} days ago", f"gone after {limit(path)} days")


def _judge_runs(running: str, ended: str, *, sheet: Sheet) -> None:
    sheet.expect(running == "active", f"logrotate.timer is {running}", "active")
    failed = "has not failed" if ended == "success" else f"failed ({ended})"
    sheet.expect(ended == "success", f"the last run of logrotate {failed}", "success")


def _judge_units(told: str, sheet: Sheet) -> None:
    """Lines of conferences belong into the short journal, now and after the next start; coturn's are TRN-05's."""
    for unit, pid, namespace, sockets in re.findall(r"^unit (\S+)\.service (\d+) (\S*) (\d*)$", told, re.M):
        if unit == "coturn":
            continue
        kept = namespace == _NAMESPACE
        sheet.expect(kept, f"{unit} logs into the {namespace or 'system'} journal", f"the {_NAMESPACE} journal")
        if pid == "0":
            sheet.could_not_look(f"{unit} does not run")
        elif kept:
            inside = sockets not in ("", "0")
            started = f"{unit} was started {'with' if inside else 'without'} the {_NAMESPACE} journal"
            sheet.expect(inside, started, "restarted since it has one")


def _judge_rules(known: list[Rule], written: set[str], conference: int, administrative: int, sheet: Sheet) -> None:
    for rule in known:
        speaks = any(_of_conferences(path, written) for path in (*rule.patterns, *rule.files))
        limit = conference if speaks else administrative
        kept = "for ever" if rule.days is None else f"{rule.days:.0f} days"
        fits = rule.days is not None and rule.days <= limit + 1
        sheet.expect(fits, f"{' '.join(rule.patterns)}: kept {kept}", f"at most {limit} days")
    sheet.expect(bool(known), f"{len(known)} rotation rules", "logrotate to have rules")


def _judge_cover(known: list[Rule], written: set[str], paths: list[str], sheet: Sheet) -> None:
    """Every log of conferences that is written to has a rule that rotates it."""
    rotated = {path for rule in known for path in rule.files}
    logs = [
        path
        for path in paths
        if _of_conferences(path, written) and not _ROTATED.search(path) and not path.startswith("/var/log/journal/")
    ]
    for path in logs:
        if path not in rotated:
            sheet.expect(False, f"no rule rotates {path}", "a rule below /etc/logrotate.d")
    sheet.expect(True, f"{len(logs)} log files of conferencing services", "")


def _judge_oldest(name: str, line: str, limit: int, today: int, sheet: Sheet) -> None:
    if line[:1].isdigit():
        days = (today - float(line.split()[0])) / 86400
        sheet.expect(days <= limit + 1, f"oldest entry of the {name} journal: {days:.1f} days", f"at most {limit} days")
    elif name == "system":
        sheet.could_not_look("the system journal holds no entry")


def _judge_journals(system: str, namespace: str, conference: int, administrative: int, sheet: Sheet) -> None:
    for name, shown, limit in (("system", system, administrative), (_NAMESPACE, namespace, conference)):
        values = dict(re.findall(r"^[ \t]*(MaxRetentionSec|MaxFileSec)[ \t]*=[ \t]*(.*?)[ \t]*$", shown, re.M))
        kept = _days(values.get("MaxRetentionSec", "0"))
        # A whole file goes at once, so entries outlive the period by one file's span.
        sheet.expect(0 < kept <= limit, f"{name} journal: kept {kept:.0f} days (0: no limit)", f"at most {limit} days")
        span = _days(values.get("MaxFileSec") or "1month")
        sheet.expect(0 < span <= 1, f"{name} journal: a file spans {span:.0f} days", "at most 1 day")
