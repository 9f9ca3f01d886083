"""systemd-analyze security: how much of the machine each conferencing service could reach, in systemd's own judgement."""

from __future__ import annotations

import json

from orchestrator.verification.audit.places import Target
from orchestrator.verification.audit.results import Reading, Severity

NAME = "systemd"
SECONDS = 90
VANTAGE = "inside"
# systemd's words (systemd:src/analyze/analyze-security.c): OK and better ask for nothing.
_SEVERITIES = {
    "DANGEROUS": Severity.HIGH,
    "UNSAFE": Severity.HIGH,
    "EXPOSED": Severity.MEDIUM,
    "MEDIUM": Severity.LOW,
    "OK": Severity.INFO,
    "SAFE": Severity.INFO,
    "PERFECT": Severity.INFO,
}
_PROGRAM = """
import os, subprocess, sys
argv = ["timeout", "60", "systemd-analyze", "--version"], ["timeout", "60", "systemd-analyze", "security", "--no-pager", "--json=short"]
for command in argv:
    print(subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, LC_ALL="C")).stdout.strip().splitlines()[0])
"""


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Ask systemd on the host; raises OutOfTime or Unreachable."""
    ran = target.as_root(_PROGRAM, seconds=SECONDS)
    version, _, told = ran.stdout.partition("\n")
    kept = target.keep("systemd-analyze.json", told)
    reading = read(told, tuple(f"{unit}.service" for unit in target.subject.units()), version=version.strip())
    return (reading if told else Reading(problem=f"systemd-analyze did not run: {ran.said}")), (kept,)


def read(told: str, wanted: tuple[str, ...], *, version: str = "") -> Reading:
    """Read `systemd-analyze security --json=short`; a service of which it does not speak makes the result doubtful."""
    try:
        rows = {row["unit"]: row for row in json.loads(told)}
        missing = [name for name in wanted if name not in rows]
        if missing:
            return Reading(problem=f"systemd tells no exposure of {', '.join(missing)}")
        judged = [(name, float(rows[name]["exposure"]), str(rows[name]["predicate"])) for name in wanted]
        findings = tuple(
            (name, _SEVERITIES[word], f"exposure {level} of 10, in systemd's word {word}")
            for name, level, word in judged
            if _SEVERITIES[word] is not Severity.INFO
        )
    except (ValueError, KeyError, TypeError) as error:
        return Reading(problem=f"systemd-analyze told no exposures: {' '.join(told.split())[:120]} ({error})")
    return Reading(findings, {name: level for name, level, _ in judged}, version)
