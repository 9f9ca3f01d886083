"""nmap from outside: every TCP port of every public address. What answers and follows from no declared flow is a finding."""

from __future__ import annotations

import shlex

from orchestrator.verification.audit.places import MISSING, Target
from orchestrator.verification.audit.results import NotHere, Reading, Severity
from orchestrator.verification.nmap import read as read_scan
from orchestrator.verification.nmap import shown
from orchestrator.verification.subject import Subject

NAME = "nmap"
SECONDS = 420
VANTAGE = ""
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
        readings.append(read(ran.stdout, address, target.subject))
    return joined(readings), tuple(kept)


def read(printed: str, address: str, subject: Subject) -> Reading:
    """Read nmap's XML of one address against the flows that are declared for the host."""
    scan = read_scan(printed)
    if scan.problem:
        return Reading(problem=f"{address}: {scan.problem}")
    declared = {port for flow in subject.flows() if flow["proto"] == "tcp" for port in _ports(str(flow["port"]))}
    findings = tuple(
        (f"tcp:{port}", Severity.HIGH, f"{address} answers on TCP port {port}, which no declared flow lets in")
        for port in scan.open
        if port not in declared
    )
    return Reading(findings, {f"open at {address}": shown(scan.open) or "none"}, scan.version)


def joined(readings: list[Reading]) -> Reading:
    """Return one reading of several addresses; what could not be judged at one of them makes all of it doubtful."""
    problems = "; ".join(reading.problem for reading in readings if reading.problem)
    if problems or not readings:
        return Reading(problem=problems or "the host has no public address to look at")
    findings = tuple(dict.fromkeys(row for reading in readings for row in reading.findings))
    figures = {name: value for reading in readings for name, value in reading.figures.items()}
    return Reading(findings, figures, readings[0].version)


def _ports(text: str) -> range:
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)
