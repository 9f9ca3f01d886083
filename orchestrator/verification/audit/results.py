"""What auditors found: findings in one form, whoever made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.evidence.results import Result
from orchestrator.exitcodes import ExitCode

# Every auditor by the name that findings and waivers carry, in the order in which they are shown.
AUDITORS = ("lynis", "ssh-audit", "sslyze", "nmap", "systemd", "openscap")


class Severity(StrEnum):
    """How grave the auditor holds a finding; `INFO` asks for nothing."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"


class NotApplicable(Exception):
    """The auditor has nothing to say of this host; the message says why."""


class NotHere(Exception):
    """The auditor cannot be had where it has to run; `hint` says how to install it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing that an auditor says of a host, by the auditor's own id; `accepted` is why it may stay, "" where nobody said so."""

    auditor: str
    host: str
    id: str
    severity: Severity
    text: str
    accepted: str = ""

    @property
    def counts(self) -> bool:
        """Say whether somebody has to do something about it."""
        return self.severity is not Severity.INFO and not self.accepted


@dataclass(frozen=True, slots=True)
class Reading:
    """What a raw output says: findings as (id, severity, text), figures by name.

    `problem` says why the output cannot be judged: it is no such output, an unfinished one, or one that does not show all; what
    it shows counts nevertheless. `around` are circumstances under which some things are as they are: `container` where the host
    has no kernel of its own.
    """

    findings: tuple[tuple[str, Severity, str], ...] = ()
    figures: Mapping[str, str | float] = field(default_factory=dict)
    version: str = ""
    problem: str = ""
    around: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Audited:
    """What became of one auditor on one host.

    The result is `pass` where it found nothing, `waived` where all that it found is accepted for a reason, `fail` where
    something is not. `reason` and `hint` speak of what was not tested, does not apply or broke off. `raw` are the names of
    the files that hold the auditor's own words.
    """

    auditor: str
    host: str
    result: Result
    reason: str = ""
    hint: str = ""
    version: str = ""
    vantage: str = "inside"
    seconds: float = 0.0
    figures: Mapping[str, str | float] = field(default_factory=dict)
    findings: tuple[AuditFinding, ...] = ()
    raw: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditReport:
    """One audit of one site; times are UTC in ISO 8601, `folder` holds the raw outputs."""

    site: str
    started: str
    finished: str
    version: str
    profile: str
    folder: str
    audits: tuple[Audited, ...]

    @property
    def exit_code(self) -> int:
        """Return the exit code of an audit: findings if anything is not accepted or could not be judged, else 0."""
        bad = any(audited.result in (Result.FAIL, Result.ERROR) for audited in self.audits)
        return int(ExitCode.FINDINGS if bad else ExitCode.OK)


def result_of(findings: tuple[AuditFinding, ...]) -> Result:
    """Return what an auditor's findings amount to."""
    if any(finding.counts for finding in findings):
        return Result.FAIL
    return Result.WAIVED if any(finding.accepted for finding in findings) else Result.PASS
