"""nmap from outside: every TCP port of every public address. What answers though no declared flow lets us in is a finding.

Silence counts for something only where the packets arrive: what is declared and open to us must answer.
"""

from __future__ import annotations

import shlex

from orchestrator.verification.admission import Policy, policy
from orchestrator.verification.audit.places import MISSING, Target
from orchestrator.verification.audit.results import NotHere, Reading, Severity
from orchestrator.verification.nmap import ECHO, Scan, echoed, shown
from orchestrator.verification.nmap import read as read_scan
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
_ECHO_SECONDS = 70


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Scan the host's addresses, one after another; raises NotHere, OutOfTime or Unreachable."""
    addresses = target.subject.addresses
    readings, kept = [], []
    for address in addresses:
        family = "-6" if ":" in address else ""
        script = _SCRIPT.format(
            missing=MISSING,
            family=family,
            seconds=SECONDS // len(addresses) - 20,
            address=shlex.quote(address),
        )
        ran = target.outside.run(script, seconds=SECONDS // len(addresses))
        if ran.code == MISSING:
            raise NotHere(f"nmap is not at the vantage point ({target.outside.point})", _HINT)
        kept.append(target.keep(f"nmap.{'v6' if ':' in address else 'v4'}.xml", ran.stdout))
        asked = target.outside.run(SOURCE.format(shlex.quote(address)), seconds=_SOURCE_SECONDS).stdout.strip()
        source = "" if asked in ("", "none") else seen_as(asked, address)
        answers = echoed(target.outside.run(f"{ECHO} {family} {shlex.quote(address)}", seconds=_ECHO_SECONDS).stdout)
        readings.append(read(ran.stdout, address, source, target.subject, answers=answers))
    return joined(readings), tuple(kept)


def read(printed: str, address: str, source: str, subject: Subject, *, answers: bool = False) -> Reading:
    """Read nmap's XML of one address against the flows that are declared for the host and let in the source.

    Where it is not known as what the host sees us, "", a flow for certain sources counts as one that lets us in, and need not.
    `answers` says whether an echo came back.
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
    figures = {f"open at {address}": shown(scan.open) or "none"}
    return Reading(tuple(findings), figures, scan.version, _doubt(address, scan, flows, answers))


def _doubt(address: str, scan: Scan, flows: Policy, answers: bool) -> str:
    """Return why it is not known whether the packets arrived, "" where they did."""
    declared = flows.ports(single=True)
    silent = [port for port in declared if port not in scan.open]
    if silent:
        states = ", ".join(dict.fromkeys(scan.state(port) for port in silent))
        return (
            f"{address}: {shown(silent)}/tcp, declared and open to us, is {states}: what else is silent proves nothing"
        )
    if declared or answers or scan.open or "closed" in (scan.rest, *scan.states.values()):
        return ""
    return f"{address}: nothing at all answers, no echo either: whether anything gets there is not known"


def joined(readings: list[Reading]) -> Reading:
    """Return one reading of several addresses; what could not be judged at one of them makes all of it doubtful."""
    if not readings:
        return Reading(problem="the host has no public address to look at")
    problems = "; ".join(reading.problem for reading in readings if reading.problem)
    findings = tuple(dict.fromkeys(row for reading in readings for row in reading.findings))
    figures = {name: value for reading in readings for name, value in reading.figures.items()}
    return Reading(findings, figures, readings[0].version, problems)
