"""When the oldest line of a log was written, by its own time stamp: a file's time tells of its last line, and anybody may set it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

_DAY = "[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}"
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
# nginx's errors, dpkg and apt, Jitsi's own form (JVB 2026-11-26 20:37:57.123), rsyslog's new form.
_NUMBERS = f"{_DAY}[ T]+{_TIME}"
# nginx's requests
_REQUEST = f"[0-9]{{2}}/{_MONTH}/[0-9]{{4}}:{_TIME} [+-][0-9]{{4}}"
# java.util.logging.SimpleFormatter
_JAVA = f"{_MONTH} [0-9]{{1,2}}, [0-9]{{4}} [0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}} [AP]M"
# Prosody, and syslog as HAProxy's lines have it (RFC 3164): without a year
_SHORT = f"{_MONTH} [ 0-9][0-9] {_TIME}"
# Where a line bears its stamp; what it says may hold any other.
_PLACES = f"^(?:[A-Za-z-]+:? )?({_NUMBERS})|^[^[\\n]{{1,300}}\\[({_REQUEST})|^({_JAVA})|^({_SHORT})"
_BEGINNING = 65536
# One program for all: a host may have hundreds of old logs.
_READ = """python3 - <<'END'
import glob, gzip, json, os, re, time
PLACES = re.compile(b{places!r}, re.M)
def beginning(path):
    with open(path, "rb") as plain:
        packed = plain.read(2) == b"\\x1f\\x8b"
    with (gzip.open if packed else open)(path, "rb") as file:
        return file.read({beginning})
def row(path):
    try:
        text = beginning(path)
    except FileNotFoundError:
        return [path, 0, ""]
    except Exception as error:
        return [path, -1, str(error)]
    found = PLACES.search(text)
    return [path, len(text), next(filter(None, found.groups())).decode() if found else ""]
paths = [os.path.join(folder, name) for folder, inner, names in os.walk("/var/log") for name in names
    if not (folder + "/").startswith("/var/log/journal/")]
files = [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
for path in {more!r}:
    files += filter(os.path.isfile, [path, *glob.glob(glob.escape(path) + "[.-][0-9]*")])
print(json.dumps([time.strftime("%z"), [row(path) for path in files]]))
END"""
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d/%b/%Y:%H:%M:%S %z", "%b %d, %Y %I:%M:%S %p")


def first_stamps(more: Iterable[str]) -> str:
    """Return the command that tells of each log below /var/log its first line's time, and no other word of it.

    So it does of `more`, where these may be links, and of what a rotation left beside them.
    """
    return _READ.format(places=_PLACES, beginning=_BEGINNING, more=sorted(more))


def read(told: str, now: int) -> Iterator[tuple[str, float | None]]:
    """Yield each log with the time of its first line in seconds since 1970; None where that cannot be said.

    Left out are files that bear no time and are so small that all of it was read: an empty one, or some words that a program
    says at its start. They speak of one moment, which the file's own time tells.
    """
    offset, rows = json.loads(told)
    for path, size, stamp in rows:
        if stamp or not 0 <= size < _BEGINNING:
            yield path, _seconds(stamp, offset, now) if size >= 0 else None


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
