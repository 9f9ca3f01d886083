"""What may lie in directories that everybody writes to."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.checks.test_log_levels import java
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

PLACES = {"/tmp": ("nosuid", "nodev"), "/dev/shm": ("nosuid", "nodev"), "/dev": ("nosuid", "noexec")}


@pytest.mark.control("OS-09")
def test_shared_directories(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No program from there runs as another user, no device is opened there; the JVMs do not need to run anything there.

    And /dev holds devices, no programs.

    A bridge unpacks its native library into its temporary directory and loads it; where that is noexec, nobody can join
    (docker-jitsi-meet issue 2323).
    """
    units = subject.java_units
    shown, *processes = ask(host, "cat /proc/mounts", *(java(unit) for unit in units))
    mounts = {row[1]: row[3].split(",") for line in text(shown).splitlines() if len(row := line.split()) > 3}
    for place, flags in PLACES.items():
        options = mounts.get(place)
        if options is None:
            sheet.expect(False, f"{place} is no mount of its own", " and ".join(flags))
            continue
        missing = [flag for flag in flags if flag not in options]
        sheet.expect(not missing, f"{place} is mounted {','.join(options)}", " and ".join(flags))
    closed = [place for place in ("/tmp", "/var/tmp") if "noexec" in mounts.get(place, ())]
    for unit, result in zip(units, processes, strict=True):
        arguments = text(result).partition("\n\n")[0]
        found = re.findall(r"^-Djava\.io\.tmpdir=(.*)$", arguments, re.M)
        place = found[-1] if found else "/tmp"
        if closed and "java" in arguments.partition("\n")[0]:
            fits = not any(f"{place}/".startswith(f"{each}/") for each in closed)
            sheet.expect(
                fits,
                f"{unit} unpacks libraries into {place}, {', '.join(closed)} being noexec",
                "a directory of its own",
            )
