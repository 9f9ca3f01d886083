"""What a verification found: the types that every form of the report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.exitcodes import ExitCode
from orchestrator.inventory.loosened import Loosened


class Result(StrEnum):
    """What became of one control on one host.

    `DECLARED` is what cannot be measured and somebody stated; `NOT_TESTED` is what this run did not look at;
    `ERROR` is a check that could not come to a result, which is never a pass.
    """

    PASS = "pass"
    FAIL = "fail"
    WAIVED = "waived"
    DECLARED = "declared"
    NOT_APPLICABLE = "not_applicable"
    NOT_TESTED = "not_tested"
    ERROR = "error"


_MEASURED = (Result.PASS, Result.FAIL, Result.WAIVED, Result.ERROR)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one control on one host: what was seen, what was wanted, and what repairs it.

    `reason` says why something was not tested or does not apply; `vantage` is where it was looked at from;
    `waiver` is who waived it, why and until when.
    """

    control: str
    host: str
    result: Result
    seen: str
    wanted: str
    remedy: str
    reason: str = ""
    vantage: str = "inside"
    waiver: str = ""


@dataclass(frozen=True, slots=True)
class ControlText:
    """What a control demands, in words; the German risk and remedy fall back to the English ones."""

    id: str
    title_en: str
    title_de: str
    risk: str
    remedy: str
    references: tuple[str, ...]
    risk_de: str = ""
    remedy_de: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One verification of one site.

    `started` and `finished` are UTC in ISO 8601; `round_trips` counts per host how often it was asked;
    `seconds` names what took how long. `controls` are in the order of the catalogue, which is the order in which
    failures are to be repaired. `standins` is true when a host runs lab packages in place of upstream's, None when that
    could not be seen on every host. `undecided` is what the operator has yet to decide, `loosened` where the site grants
    more than the private default. `inside_only` is true when nothing was looked at from outside.
    """

    site: str
    started: str
    finished: str
    version: str
    standins: bool | None
    hosts: tuple[str, ...]
    findings: tuple[Finding, ...]
    controls: tuple[ControlText, ...]
    round_trips: Mapping[str, int]
    seconds: Mapping[str, float]
    undecided: tuple[str, ...]
    loosened: tuple[Loosened, ...] = ()
    inside_only: bool = False

    def count(self, result: Result) -> int:
        """Return how many findings have this result."""
        return sum(1 for finding in self.findings if finding.result is result)

    @property
    def exit_code(self) -> int:
        """Return the exit code of a verification: findings if anything failed, could not be checked, or nothing was tested."""
        return int(ExitCode.FINDINGS if self.failed or self.nothing_tested else ExitCode.OK)

    @property
    def failed(self) -> bool:
        """Return whether anything failed or could not be checked."""
        return self.count(Result.FAIL) + self.count(Result.ERROR) > 0

    @property
    def nothing_tested(self) -> bool:
        """Return whether there was something to test and nothing was; a CI job must not take that for a success."""
        results = {finding.result for finding in self.findings}
        return not results or (Result.NOT_TESTED in results and results.isdisjoint(_MEASURED))
