"""What may lie in directories that everybody writes to."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_log_levels import java
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

_NOTHING_RUNS = ("nosuid", "nodev", "noexec")
# Devices lie in /dev, and people keep programs of their own at home.
PLACES = {
    "/dev": ("nosuid", "noexec"),
    "/dev/shm": _NOTHING_RUNS,
    "/tmp": _NOTHING_RUNS,
    "/var/tmp": _NOTHING_RUNS,
    "/var/log": _NOTHING_RUNS,
    "/home": ("nosuid", "nodev"),
}
# In a container: whether it may mount anything there, tried in a mount namespace that ends with it.
_TRIAL = "set -- remount,bind,nosuid,noexec $0; mount -o $1 $0 || { mount --bind $0 $0 && mount -o $1 $0; }"
# Which places are directories, and where. Nobody looks into one where something is mounted: a file server may be gone, and what is
# mounted when somebody comes would be.
_QUESTION = f"""set -- {" ".join(PLACES)}; cat /proc/mounts; echo == next ==
for place; do grep -q " $place " /proc/mounts || ! test -d $place || echo $place $(readlink -f $place); done; echo == next ==
read -r kind 2>/dev/null </run/systemd/container && echo $kind && for place; do
    grep -q " $place autofs " /proc/mounts || ! test -d $place || timeout 20 unshare --mount sh -c '{_TRIAL}' $place || echo $place
done 2>/dev/null; true"""


@pytest.mark.control("OS-09")
def test_shared_directories(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No program from there runs as another user, no device is opened there, and but for people's own no program runs at all.

    And /dev holds devices, no programs.

    A bridge unpacks its native library into its temporary directory and loads it; where that is noexec, nobody can join
    (docker-jitsi-meet issue 2323).
    """
    units = subject.java_units
    answered, *processes = ask(host, _QUESTION, *(java(unit) for unit in units))
    rows, found, container = text(answered).split("== next ==\n", 2)
    # What is mounted last at a place lies uppermost.
    mounts = {row[1]: (row[2], row[3].split(",")) for line in rows.splitlines() if len(row := line.split()) > 3}
    places = dict(line.split() for line in found.splitlines()) | {place: place for place in PLACES if place in mounts}
    kind, *refused = container.split() or [""]
    closed = []
    for place, flags in PLACES.items():
        if place not in places:
            sheet.expect(True, f"{place} is not there", "")
            continue
        where = _holding(mounts, places[place])
        fs, options = mounts[where]
        closed += [place] if "noexec" in options else []
        missing = [flag for flag in flags if flag not in options]
        shown = ",".join(option for option in options if option in ("rw", "ro", *_NOTHING_RUNS))
        seen = (
            f"{place} is {'mounted' if where == places[place] else f'no mount of its own: {where} is mounted'} {shown}"
        )
        if fs == "autofs":
            sheet.could_not_look(f"{place} is mounted when somebody comes there, and is not now")
        elif missing and place in refused:
            sheet.could_not_look(f"{seen}; that belongs to the machine below this container ({kind})")
        else:
            sheet.expect(not missing, seen, " and ".join(flags))
    for unit, result in zip(units, processes, strict=True):
        arguments = text(result).partition("\n\n")[0]
        named = re.findall(r"^-Djava\.io\.tmpdir=(.*)$", arguments, re.M)
        unpacks = named[-1] if named else "/tmp"
        if closed and "java" in arguments.partition("\n")[0]:
            holding = [place for place in closed if f"{unpacks}/".startswith(f"{place}/")]
            sheet.expect(
                not holding,
                f"{unit} unpacks libraries into {unpacks}, {', '.join(holding or closed)} being noexec",
                "a directory of its own",
            )


def _holding(mounts: dict[str, tuple[str, list[str]]], place: str) -> str:
    """Return the mount in which a place lies."""
    return max((where for where in mounts if f"{place}/".startswith(f"{where.rstrip('/')}/")), key=len)
