"""What LOG-03 makes of logrotate's rules, of the units' journals and of what lies below /var/log."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification import logstamps
from orchestrator.verification.checks import test_logs
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, printed, sheet_of, subject_of

# As logrotate 3.21 (Debian 12) and 3.22 (Debian 13) print the same file.
OLDER = """
reading config file /etc/logrotate.conf

Handling 6 logs

rotating pattern: /t/log/*.log
"/t/log2/missing.log"
 10485760 bytes (52 rotations)
empty log files are rotated, old logs are removed
considering log /t/log/a.log
  log does not need rotating (log size is below the 'size' threshold)
considering log /t/log2/missing.log
  log /t/log2/missing.log does not exist -- skipping

rotating pattern: /t/log2/c.log  after 1 days (6 rotations)
empty log files are rotated, only log files >= 1048576 bytes are rotated, old logs are removed
considering log /t/log2/c.log

rotating pattern: /t/log2/*.foo  monthly empty log files are rotated, old logs are removed
considering log /t/log2/d.foo
considering log /t/log2/e.foo
  log /t/log2/e.foo is symbolic link. Rotation of symbolic links is not allowed to avoid security issues -- skipping.

rotating pattern: /t/log2/none.log  monthly (no old logs will be kept)
empty log files are rotated, old logs are removed
considering log /t/log2/none.log
error: skipping "/t/log2/none.log" because parent directory has insecure permissions

rotating pattern: /t/log2/f.bar  after 1 days (6 rotations)
empty log files are not rotated, old logs are removed
considering log /t/log2/f.bar
"""
NEWER = """
rotating pattern: /t/log/*.log
"/t/log2/missing.log" 10485760 bytes empty log files are rotated, (52 rotations), old logs are removed after 7 days
considering log /t/log/a.log
  log does not need rotating (log size is below the 'size' threshold)

rotating pattern: /t/log2/c.log after 1 days empty log files are rotated, only log files older than 3 days are rotated, (6 rotations)
considering log /t/log2/c.log

rotating pattern: /t/log2/*.foo monthly empty log files are rotated, old logs are kept forever
considering log /t/log2/d.foo

rotating pattern: /t/log2/none.log monthly empty log files are rotated, no old logs will be kept

rotating pattern: /t/log2/f.bar after 1 days empty log files are not rotated, (6 rotations), old logs are removed after 7 days
considering log /t/log2/f.bar
"""


@pytest.mark.parametrize("shown", [OLDER, NEWER], ids=["3.21", "3.22"])
def test_rules_are_told_apart_and_none_is_left_out(shown: str) -> None:
    found = list(test_logs.rules(shown))
    assert [rule.days for rule in found] == [None, None, None, 31, 7]
    assert found[0].patterns == ("/t/log/*.log", "/t/log2/missing.log")
    assert [rule.files for rule in found] == [
        ("/t/log/a.log",),
        ("/t/log2/c.log",),
        ("/t/log2/d.foo",),
        (),
        ("/t/log2/f.bar",),
    ]


@pytest.mark.parametrize(
    ("told", "days"),
    [
        ("weekly (52 rotations)\nempty log files are rotated, old logs are removed", 371),
        ("after 1 days (no old logs will be kept)\n", 1),
        ("hourly (23 rotations)\n", 1),
        ("after 1 days empty log files are rotated, (unlimited rotations), old logs are removed after 7 days", 8),
        ("after 1 days empty log files are rotated, (400 rotations), old logs are removed after 7 days", 8),
    ],
)
def test_days_of_a_rule(told: str, days: float) -> None:
    (rule,) = test_logs.rules(f"rotating pattern: /x/*.log {told}\n")
    assert rule.days == pytest.approx(days)


def test_a_rule_in_words_that_are_not_known_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="other words"):
        list(test_logs.rules("rotating pattern: /x/*.log at full moon (3 rotations)\n"))


@pytest.mark.parametrize(
    ("span", "days"),
    [("7day", 7), ("2week 1d", 15), ("604800", 7), ("1month", 30.4375), ("12h", 0.5), ("90 days", 90), ("infinity", 0)],
)
def test_journal_time_span_in_days(span: str, days: float) -> None:
    assert test_logs._days(span) == pytest.approx(days)


NOW = 1_795_600_000
DAY = 86400
RULE = "rotating pattern: {} after 1 days ({} rotations)\n{}"
CONSIDERED = "considering log /var/log/prosody/prosody.log\nconsidering log /var/log/nginx/error.log\n"
RULES = RULE.format("/var/log/prosody/*.log", 6, CONSIDERED) + RULE.format(
    "/var/log/dpkg.log", 89, "considering log /var/log/dpkg.log\n"
)
UNITS = "".join(f"unit {unit}.service 1 conferencing 1\n" for unit in ("nginx", "prosody", "jicofo"))
NGINX = "error_log /var/log/nginx/error.log;\nhttp { access_log off; server { listen 443 ssl; } }\n"
JOURNAL = "[Journal]\nMaxRetentionSec={}day\nMaxFileSec=1day\n"


def _look(
    *,
    rules: str = RULES,
    files: str = "",
    units: str = UNITS,
    nginx: str = NGINX,
    namespace: str = JOURNAL.format(7),
    oldest: float = 89,
    conference: float = 7,
    timer: str | tuple[int, str] = "active\nsuccess\n",
    begun: tuple[tuple[str, int, str], ...] = (),
) -> Sheet:
    said: dict[str, Any] = {
        "logrotate": rules,
        "systemctl is-active": timer,
        "now=": f"{NOW}.5 /var/log/prosody/prosody.log\n{NOW}.5 /var/log/dpkg.log\n{files}",
        "{ systemctl": units,
        "nginx": nginx,
        "systemd-analyze cat-config systemd/journald.conf": JOURNAL.format(90),
        "systemd-analyze cat-config systemd/journald@conferencing.conf": namespace,
        "journalctl --namespace": f"{NOW - conference * DAY} h1 x\n",
        "journalctl": f"{NOW - oldest * DAY} h1 x\n",
        "python3": json.dumps(["+0100", begun]),
        "date +%s": str(NOW),
    }
    subject = subject_of(jitsi_conference_log_days=7, base_admin_log_days=90)
    return sheet_of(test_logs.test_retention, said, subject=subject)


def test_a_whole_host_keeps_its_logs_as_declared() -> None:
    sheet = _look()
    assert (sheet.faults, sheet.untested) == ([], [])


def test_a_log_of_conferences_without_a_rule_is_found() -> None:
    other = RULES[RULES.index("rotating pattern: /var/log/dpkg") :]
    assert faults_of(_look(rules=other)) == (
        "no rule rotates /var/log/nginx/error.log; no rule rotates /var/log/prosody/prosody.log"
    )
    # What a rotation left behind is judged by its age.
    assert _look(files=f"{NOW}.5 /var/log/prosody/prosody.log.2.gz\n").faults == []
    old = _look(files=f"{NOW - 20 * DAY}.5 /var/log/prosody/prosody.log.2.gz\n")
    assert faults_of(old) == "/var/log/prosody/prosody.log.2.gz is 20 days old"


def test_a_log_of_a_service_counts_wherever_it_lies() -> None:
    written = f"{UNITS}open /srv/www/access.log\nopen /var/log/gone.log (deleted)\n"
    assert faults_of(_look(units=written)) == "no rule rotates /srv/www/access.log"
    rule = RULE.format("/srv/www/*.log", 30, "considering log /srv/www/access.log\n")
    assert faults_of(_look(units=written, rules=RULES + rule)) == "/srv/www/*.log: kept 31 days"


def test_a_log_of_nginx_counts_wherever_it_lies_and_whatever_its_name() -> None:
    path = "/srv/logs/meet-access"
    named = NGINX.replace("access_log off", f'access_log "{path}" combined')
    assert faults_of(_look(nginx=named)) == f"no rule rotates {path}"
    rules = RULES + RULE.format("/srv/logs/*", 6, f"considering log {path}\n")
    assert _look(nginx=named, rules=rules).faults == []
    long = RULES + RULE.format("/srv/logs/*", 30, f"considering log {path}\n")
    assert faults_of(_look(nginx=named, rules=long)) == "/srv/logs/*: kept 31 days"
    begun = (
        (path, 100, _day("%d/%b/%Y:%H:%M:%S +0100", 60)),
        (f"{path}.1.gz", 100, _day("%d/%b/%Y:%H:%M:%S +0100", 20)),
    )
    old = f"{path} begins 60 days ago; {path}.1.gz begins 20 days ago"
    assert faults_of(_look(nginx=named, rules=rules, begun=begun)) == old
    inside = NGINX.replace("access_log off", "access_log logs/x")
    assert faults_of(_look(nginx=inside)) == "no rule rotates /usr/share/nginx/logs/x"


def test_where_nginx_logs_is_known_or_not_tested() -> None:
    for word in ("stderr", "syslog:server=unix:/dev/log", "memory:32m", "/dev/null", "/var/log/nginx/$host.log"):
        sheet = _look(nginx=f"{NGINX} error_log {word};")
        assert (sheet.faults, sheet.untested) == ([], [])
    assert "/srv/$host.log" in _look(nginx=f"{NGINX} error_log /srv/$host.log;").untested[0]
    assert "where it logs is unknown" in _look(nginx="").untested[0]


@pytest.mark.parametrize("name", ["installer/syslog", "installer/cdebconf/questions.dat", "cloud-init.log", "faillog"])
def test_what_the_installation_wrote_once_is_no_log_that_is_kept(name: str) -> None:
    path, stamp = f"/var/log/{name}", _day("%b %d %H:%M:%S", 300)
    files, begun = f"{NOW - 300 * DAY}.5 {path}\n", ((path, 100, stamp),)
    assert _look(files=files, begun=begun).faults == []
    for other in (f"/var/log/old/{name}", f"{path}.1"):
        if "/installer/" not in other or "/old/" in other:
            assert "days" in faults_of(_look(files=files.replace(path, other)))
            assert "days" in faults_of(_look(begun=((other, 100, stamp),)))


def test_an_old_file_that_is_empty_keeps_nothing(tmp_path: Path) -> None:
    for name, text in (("empty", ""), ("full", "x")):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1000, 1000))
    asked = test_logs._FILES.replace("/var/log", str(tmp_path))
    told = subprocess.run(["sh", "-c", asked], check=True, capture_output=True, text=True).stdout
    stamps = {Path(path).name: float(stamp) for stamp, path in map(str.split, told.splitlines())}
    assert stamps["full"] == 1000
    assert stamps["empty"] > 1_700_000_000


def test_what_is_mounted_below_counts_by_its_first_lines_as_well() -> None:
    assert "-xdev" not in test_logs._FILES
    aged = f"{NOW - 800 * DAY}.5 /var/log/audit/audit.log.4\n"
    assert faults_of(_look(files=aged)) == "/var/log/audit/audit.log.4 is 800 days old"
    # Files that only the second look finds.
    begun = (
        ("/var/log/audit/x", 100, _day("%Y-%m-%d %H:%M:%S", 95)),
        ("/var/log/nginx/x", 100, _day("%b %d %H:%M:%S", 20)),
    )
    assert faults_of(_look(begun=begun)) == "/var/log/audit/x begins 95 days ago; /var/log/nginx/x begins 20 days ago"
    assert _look(begun=((begun[0][0], 100, _day("%Y-%m-%d %H:%M:%S", 60)),)).faults == []


def test_a_rule_by_size_is_no_limit() -> None:
    rule = "rotating pattern: /var/log/nginx/*.log 10485760 bytes (52 rotations)\n"
    assert faults_of(_look(rules=RULES + rule)) == "/var/log/nginx/*.log: kept for ever"


def test_units_log_into_the_short_journal_now_and_later() -> None:
    lost = UNITS.replace("prosody.service 1 conferencing 1", "prosody.service 1  0")
    assert faults_of(_look(units=lost)) == "prosody logs into the system journal"
    old = UNITS.replace("prosody.service 1 conferencing 1", "prosody.service 1 conferencing 0")
    assert faults_of(_look(units=old)) == "prosody was started without the conferencing journal"
    stopped = UNITS.replace("prosody.service 1 conferencing 1", "prosody.service 0 conferencing ")
    assert _look(units=stopped).untested == ["prosody does not run"]
    assert _look(units=UNITS + "unit coturn.service 1  0\n").faults == []


def test_what_the_journals_hold_counts() -> None:
    assert faults_of(_look(oldest=95)) == "oldest entry of the system journal: 95.0 days"
    assert faults_of(_look(conference=9)) == "oldest entry of the conferencing journal: 9.0 days"
    left = f"{NOW - 20 * DAY}.5 /var/log/journal/00ff.conferencing/system@1.journal\n"
    assert "is 20 days old" in faults_of(_look(files=left))
    assert _look(files=left.replace(".conferencing", "")).faults == []


def test_settings_of_a_journal_in_all_their_files_count() -> None:
    assert faults_of(_look(namespace=JOURNAL.format(7) + JOURNAL.format(70))) == (
        "conferencing journal: kept 70 days (0: no limit)"
    )
    emptied = f"{JOURNAL.format(7)}# /etc/systemd/journald@conferencing.conf.d/x.conf\n[Journal]\nMaxRetentionSec=\nMaxFileSec=1day\n"
    assert "kept 0 days" in faults_of(_look(namespace=emptied))
    spaced = JOURNAL.format(7).replace("7day", " 2 months")
    assert "kept 61 days" in faults_of(_look(namespace=spaced))


def test_rules_that_nobody_runs_are_a_fault() -> None:
    assert faults_of(_look(timer="inactive\nsuccess\n")) == "logrotate.timer is inactive"


def test_a_rotation_that_fails_is_a_fault_though_every_file_is_young() -> None:
    assert faults_of(_look(timer="active\nexit-code\n")) == "the last run of logrotate failed (exit-code)"
    assert "the last run of logrotate has not failed" in _look().seen
    with pytest.raises(RuntimeError, match="show: no such unit"):
        _look(timer=(1, "show: no such unit"))


def _day(form: str, days: float) -> str:
    return datetime.fromtimestamp(NOW - days * DAY, timezone(timedelta(hours=1))).strftime(form)


FORMS = [
    "%b %d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d  %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S +0100",
    "%b %d, %Y %I:%M:%S %p",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("days", [0, 7.5, 8.5, 60, 300])
def test_the_first_line_of_a_log_counts_though_the_file_was_touched_today(form: str, days: float) -> None:
    path = "/var/log/prosody/prosody.log"
    seen = [f"{path} begins {days:.0f} days ago"] if days > 8 else []
    assert [words for words, _ in _look(begun=((path, 100, _day(form, days)),)).faults] == seen


def test_logs_of_administration_have_their_own_period_and_one_that_is_too_old_is_told_once() -> None:
    begun = _day("%Y-%m-%d %H:%M:%S", 60)
    assert _look(begun=(("/var/log/dpkg.log", 100, begun),)).faults == []
    begun = _day("%Y-%m-%d %H:%M:%S", 95)
    assert faults_of(_look(begun=(("/var/log/dpkg.log", 100, begun),))) == "/var/log/dpkg.log begins 95 days ago"
    old = "/var/log/prosody/prosody.log.2.gz"
    assert faults_of(_look(files=f"{NOW - 95 * DAY}.5 {old}\n", begun=((old, 100, begun),))) == f"{old} is 95 days old"


@pytest.mark.parametrize(("size", "stamp"), [(65536, ""), (-1, "Not a gzipped file"), (100, "Feb 31 10:00:00")])
def test_a_log_of_conferences_that_tells_no_time_is_not_tested(size: int, stamp: str) -> None:
    sheet = _look(begun=(("/var/log/prosody/prosody.log", size, stamp), ("/var/log/dpkg.log", size, stamp)))
    assert sheet.faults == []
    assert sheet.untested == [
        "/var/log/prosody/prosody.log does not tell in a known form when its first line was written"
    ]


@pytest.mark.parametrize("days", [1, 20])
def test_a_small_log_without_any_time_is_as_old_as_its_file(days: int) -> None:
    """A day without a line leaves an empty file, which is rotated and packed; a service's start leaves some words of Java's."""
    path = "/var/log/jitsi/jvb.log.1.gz"
    sheet = _look(files=f"{NOW - days * DAY}.5 {path}\n", begun=((path, 0, ""), ("/var/log/jitsi/jvb.log", 90, "")))
    assert sheet.untested == []
    assert [words for words, _ in sheet.faults] == ([f"{path} is 20 days old"] if days > 8 else [])


@pytest.mark.parametrize(
    ("content", "stamp"),
    [
        ("Nov  6 20:37:57 startup\twarn\tReceived SIGTERM\n", "Nov  6 20:37:57"),
        ('192.0.2.9 - - [06/Nov/2026:20:37:57 +0100] "GET /?2020-01-01 00:00:00"\n', "06/Nov/2026:20:37:57 +0100"),
        ("2026/11/06 20:37:57 [error] 7#7: x\n", "2026/11/06 20:37:57"),
        ("JVB 2026-11-06 20:37:57.123 INFO: [1] x\n", "2026-11-06 20:37:57"),
        ("Nov 06, 2026 8:37:57 PM standin.Log warn\n", "Nov 06, 2026 8:37:57 PM"),
        ("Nov  6 20:37:57 h1 haproxy[7]: x\n", "Nov  6 20:37:57"),
        ("2026-11-06T20:37:57.123456+01:00 h1 haproxy[7]: x\n", "2026-11-06T20:37:57"),
        ("\nStart-Date: 2026-11-06  20:37:57\n", "2026-11-06  20:37:57"),
        # coturn counts from its start; what a line says is not when it was written.
        ("123: : INFO: session 2026-11-06 20:37:57\n", ""),
        ("a line without any\nNov  6 20:37:57 h1 x: and one with it\n", "Nov  6 20:37:57"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_the_command_tells_of_a_file(content: str, stamp: str, packed: bool, tmp_path: Path) -> None:
    file = tmp_path / "it's a.log"
    file.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    told = printed(logstamps.first_stamps([str(file)]))
    assert json.loads(told)[1][-1] == [str(file), len(content.encode()), stamp]
    seconds = [seconds for path, seconds in logstamps.read(told, NOW) if path == str(file)]
    assert len([number for number in seconds if number]) == bool(stamp)


def test_what_a_rotation_left_beside_a_log_is_told_with_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("access", "access.1", "access-20261106.gz", "access-notes", "accessory"):
        (tmp_path / "there" / name).write_text("2026/11/06 20:37:57 [error] 7#7: x\n")
    (tmp_path / "linked").symlink_to("there/access")
    told = printed(logstamps.first_stamps([str(tmp_path / "linked"), str(tmp_path / "there/access")]))
    paths = [path.removeprefix(f"{tmp_path}/") for path, *_ in json.loads(told)[1] if path.startswith(str(tmp_path))]
    assert sorted(paths) == ["linked", "there/access", "there/access-20261106.gz", "there/access.1"]


def test_a_log_that_cannot_be_unpacked_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "a.log.1.gz"
    file.write_bytes(gzip.compress(b"Nov  6 20:37:57 x")[:-9])
    told = printed(logstamps.first_stamps([str(file), str(tmp_path / "gone.log")]))
    assert list(logstamps.read(told, NOW))[-1] == (str(file), None)


def _told(stamp: str) -> str:
    return json.dumps(["+0000", [["/x", 100, stamp]]])


def test_a_day_without_a_year_is_the_last_one_of_its_name() -> None:
    (((_, today)),) = logstamps.read(_told(_day("%b %d %H:%M:%S", 0)), NOW)
    assert today is not None
    assert abs(today - NOW) <= 3600
    (((_, leap)),) = logstamps.read(_told("Feb 29 10:00:00"), NOW)
    assert leap == datetime(2024, 2, 29, 10, tzinfo=UTC).timestamp()
    assert list(logstamps.read(_told("Feb 31 10:00:00"), NOW)) == [("/x", None)]
