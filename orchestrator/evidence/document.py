"""The report as canonical JSON: the same report gives the same bytes, and what is read back is validated."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from typing import Any, Literal

import pydantic

from orchestrator.errors import Problem, ProblemsError
from orchestrator.evidence.order import findings_in_order
from orchestrator.evidence.results import ControlText, Finding, Report, Result
from orchestrator.evidence.visible import well_formed
from orchestrator.exitcodes import ExitCode
from orchestrator.inventory.loosened import Loosened

# Raised when a field goes or changes its meaning. One that is added has a default, so that older reports can still be read.
SCHEMA = 1


class InvalidReport(ProblemsError):
    """A document is no report, or one that was altered or cut off."""

    exit_code = ExitCode.USAGE


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class _FindingDocument(_Strict):
    control: str
    host: str
    result: Result
    seen: str
    wanted: str
    remedy: str
    reason: str
    vantage: str
    waiver: str


class _ControlDocument(_Strict):
    id: str
    title_en: str
    title_de: str
    risk: str
    remedy: str
    references: tuple[str, ...]
    risk_de: str
    remedy_de: str


class _LoosenedDocument(_Strict):
    setting: str
    value: str
    default: str
    meaning_en: str
    meaning_de: str


class _ReportDocument(_Strict):
    schema_version: Literal[1]
    site: str
    started: str
    finished: str
    version: str
    standins: bool
    hosts: tuple[str, ...]
    findings: tuple[_FindingDocument, ...]
    controls: tuple[_ControlDocument, ...]
    counts: dict[Result, pydantic.NonNegativeInt]
    round_trips: dict[str, pydantic.NonNegativeInt]
    seconds: dict[str, pydantic.FiniteFloat]
    undecided: tuple[str, ...]
    loosened: tuple[_LoosenedDocument, ...] = ()
    inside_only: bool = False

    @pydantic.field_validator("started", "finished")
    @classmethod
    def _is_utc(cls, value: str) -> str:
        if datetime.fromisoformat(value).utcoffset() != timedelta(0):
            raise ValueError("not a time in UTC")
        return value

    @pydantic.model_validator(mode="after")
    def _counts_fit(self) -> _ReportDocument:
        found = dict.fromkeys(Result, 0)
        for finding in self.findings:
            found[finding.result] += 1
        if self.counts != found:
            raise ValueError("the counts do not fit the findings")
        return self


def canonical_json(report: Report) -> str:
    """Return the report as JSON with sorted keys, findings in one order, and a line feed at the end.

    The order in which hosts answered does not show; broken UTF-8 from a host becomes U+FFFD.
    Raises ValueError for a duration that is not a number.
    """
    ordered = dataclasses.replace(report, findings=findings_in_order(report))
    document = {
        "schema_version": SCHEMA,
        "counts": {result.value: report.count(result) for result in Result},
        **_plain(ordered),
        "round_trips": dict(report.round_trips),
        "seconds": {name: float(value) for name, value in report.seconds.items()},
    }
    return well_formed(json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _plain(value: Any) -> Any:
    """Return dataclasses as dictionaries; unlike `dataclasses.asdict`, any Mapping may be inside."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def read_report(text: str) -> Report:
    """Return the report that `canonical_json` wrote; raises InvalidReport with every mistake at once."""
    try:
        document = _ReportDocument.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise InvalidReport([_problem(mistake["loc"], mistake["msg"]) for mistake in error.errors()]) from error
    values = document.model_dump(exclude={"schema_version", "counts", "findings", "controls", "loosened"})
    return Report(
        findings=tuple(Finding(**item.model_dump()) for item in document.findings),
        controls=tuple(ControlText(**item.model_dump()) for item in document.controls),
        loosened=tuple(Loosened(**item.model_dump()) for item in document.loosened),
        **values,
    )


def _problem(location: tuple[int | str, ...], message: str) -> Problem:
    where = ".".join(str(part) for part in location)
    return Problem(message, where, "write the report anew with `ratssaal verify --json`")
