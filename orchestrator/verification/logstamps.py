"""When the oldest line of a log was written, by its own time stamp: a file's time tells of its last line, and anybody may set it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

_DAY = "[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}"
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_MONTH = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
# nginx's errors, dpkg and apt, Jitsi's own form (JVB 2026-11-26 20:37:57.123), rsyslog's new form.
_NUMBERS = f"{_DAY}[ T]+{_TIME}"
# nginx's requests
_REQUEST = f"[0-9]{{2}}/{_MONTH}/[0-9]{{4}}:{_TIME} [+-][0-9]{{4}}"
# java.util.logging.SimpleFormatter
_JAVA = f"{_MONTH} [0-9]{{1,2}}, [0-9]{{4}} [0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}} [AP]M"
# Prosody, and syslog as HAProxy's lines have it (RFC 3164): without a year
_SHORT = f"{_MONTH} [ 0-9][0-9] {_TIME}"
# Where a line bears its stamp; what it says may hold any other.
_PLACES = f"^([[:alpha:]-]+:? )?{_NUMBERS}|^[^[]{{1,300}}[[]{_REQUEST}|^{_JAVA}|^{_SHORT}"
_BEGINNING = 65536
_READ = (
    'while IFS= read -r file; do printf \'%s|%s\\n\' "$(zcat -f "$file" 2>/dev/null | '
    f"head -c {_BEGINNING} | grep -aEm1 -o '{_PLACES}' | grep -aEo '{_NUMBERS}|{_REQUEST}|{_JAVA}|{_SHORT}' | head -n 1)"
    '" "$file"; done; true'
)
_FILES = "find /var/log -xdev -path /var/log/journal -prune -o -type f -size +0 -print"
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d/%b/%Y:%H:%M:%S %z", "%b %d, %Y %I:%M:%S %p")


def first_stamps(more: Iterable[str]) -> str:
    """Return the command that tells of each log with content below /var/log, and of `more`, its first line's time; no other word."""
    others = "".join(f"; [ ! -s {path} ] || printf '%s\\n' {path}" for path in map(shlex.quote, more))
    return f"date +%z; {{ {_FILES}{others}; }} | {_READ}"


def read(told: str, now: int) -> Iterator[tuple[str, float | None]]:
    """Yield each log with the time of its first line in seconds since 1970, None where no line at its beginning bears one."""
    offset, *rows = told.splitlines()
    for row in rows:
        stamp, _, path = row.partition("|")
        yield path, _seconds(stamp, offset, now)


def _seconds(stamp: str, offset: str, now: int) -> float | None:
    """Return a stamp's time. One without a year is of the last time that this day was: it is as old as that at least."""
    words = re.sub(r"[ T]+", " ", stamp) if stamp[:1].isdigit() else re.sub(" +", " ", stamp)
    for form in _FORMS:
        if found := _parsed(words if "%z" in form else f"{words} {offset}", form if "%z" in form else f"{form} %z"):
            return found.timestamp()
    latest = now + timedelta(days=1).total_seconds()
    # Eight, for the leap day
    for year in range(datetime.fromtimestamp(latest).year, datetime.fromtimestamp(latest).year - 9, -1):
        found = _parsed(f"{year} {words} {offset}", "%Y %b %d %H:%M:%S %z")
        if found and found.timestamp() <= latest:
            return found.timestamp()
    return None


def _parsed(words: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(words, form)
    except ValueError:
        return None
