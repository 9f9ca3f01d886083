"""nmap from outside: every TCP port of every public address. What answers though no declared flow lets us in is a finding."""

from __future__ import annotations

import shlex

from orchestrator.verification.admission import policy
from orchestrator.verification.audit.places import MISSING, Target
from orchestrator.verification.audit.results import NotHere, Reading, Severity
from orchestrator.verification.nmap import read as read_scan
from orchestrator.verification.nmap import shown
from orchestrator.verification.reach import SOURCE, seen_as
from orchestrator.verification.reach import Target as Seen
from orchestrator.verification.subject import Subject

NAME = "nmap"
SECONDS = 420
VANTAGE = ""
_SOURCE_SECONDS = 10
_HINT = "there: apt-get install nmap"
# By root half-open: what sshd never accepts it cannot hold against us (OpenSSH 9.8 PerSourcePenalties).
_SCRIPT = """
command -v nmap >/dev/null || exit {missing}
if [ "$(id -u)" = 0 ]; then how=-sS; else how=-sT; fi
nmap $how -n -Pn -oX - {family} --min-rate 5000 --max-retries 2 --host-timeout {seconds}s -p- {address}
"""


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Scan the host's addresses, one after another; raises NotHere, OutOfTime or Unreachable."""
    addresses = target.subject.addresses
    readings, kept = [], []
    for address in addresses:
        script = _SCRIPT.format(
            missing=MISSING,
            family="-6" if ":" in address else "",
            seconds=SECONDS // len(addresses) - 20,
            address=shlex.quote(address),
        )
        ran = target.outside.run(script, seconds=SECONDS // len(addresses))
        if ran.code == MISSING:
            raise NotHere(f"nmap is not at the vantage point ({target.outside.point})", _HINT)
        kept.append(target.keep(f"nmap.{'v6' if ':' in address else 'v4'}.xml", ran.stdout))
        asked = target.outside.run(SOURCE.format(shlex.quote(address)), seconds=_SOURCE_SECONDS).stdout.strip()
        source = "" if asked in ("", "none") else seen_as(asked, address)
        readings.append(read(ran.stdout, address, source, target.subject))
    return joined(readings), tuple(kept)


def read(printed: str, address: str, source: str, subject: Subject) -> Reading:
    """Read nmap's XML of one address against the flows that are declared for the host and let in the source.

    Where the host sees us as is not known, "", a flow for certain sources counts as one that lets us in.
    """
    scan = read_scan(printed)
    if scan.problem:
        return Reading(problem=f"{address}: {scan.problem}")
    flows = policy(subject.flows(), "tcp", Seen(address, source))
    findings = []
    for port in scan.open:
        if flows.flow(port, (*flows.admitted, *flows.doubtful)):
            continue
        why = "is declared for other sources only" if flows.flow(port, flows.others) else "no declared flow lets in"
        text = f"{address} answers us on TCP port {port}, which {why}"
        findings.append((f"tcp:{port}", Severity.HIGH, text))
    return Reading(tuple(findings), {f"open at {address}": shown(scan.open) or "none"}, scan.version)


def joined(readings: list[Reading]) -> Reading:
    """Return one reading of several addresses; what could not be judged at one of them makes all of it doubtful."""
    problems = "; ".join(reading.problem for reading in readings if reading.problem)
    if problems or not readings:
        return Reading(problem=problems or "the host has no public address to look at")
    findings = tuple(dict.fromkeys(row for reading in readings for row in reading.findings))
    figures = {name: value for reading in readings for name, value in reading.figures.items()}
    return Reading(findings, figures, readings[0].version)
