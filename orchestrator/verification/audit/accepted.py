"""What auditors may find because our roles mean it so: accepted.yml, each row with a reason that an auditor would accept."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator import content
from orchestrator.verification.audit.results import AuditFinding, Severity
from orchestrator.verification.waivers import Waiver

_FILE = Path(__file__).with_name("accepted.yml")


class Accepted(BaseModel):
    """Findings of one auditor that may stay.

    `profiles` are the crypto profiles whose choice they are, () where it is none's; `only` is the one circumstance under which
    the reason holds, "" where it always does; `says` must stand in the finding's text, so that a value of ours is accepted and
    no other one; `needs` are the controls without which the reason would be false.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    auditor: str
    ids: tuple[str, ...] = Field(min_length=1)
    why: str = Field(min_length=20)
    profiles: tuple[str, ...] = ()
    only: Literal["", "container", "lab"] = ""
    says: str = ""
    needs: tuple[str, ...] = ()

    def covers(self, finding: AuditFinding, profile: str, around: frozenset[str]) -> bool:
        """Say whether it speaks of this finding on a site of this crypto profile under these circumstances."""
        fits = finding.auditor == self.auditor and finding.id in self.ids and self.says in finding.text
        return fits and (not self.profiles or profile in self.profiles) and (not self.only or self.only in around)


@cache
def load_accepted() -> tuple[Accepted, ...]:
    """Return the rows; raises pydantic's ValidationError where the data do not fit."""
    return tuple(Accepted.model_validate(row) for row in content.data(_FILE))


def needed(auditors: Collection[str]) -> tuple[str, ...]:
    """Return the controls on which the reasons for what these auditors find rest."""
    return tuple(sorted({control for row in load_accepted() if row.auditor in auditors for control in row.needs}))


def accept(
    findings: Iterable[AuditFinding],
    profile: str,
    around: frozenset[str] = frozenset(),
    held: Collection[tuple[str, str]] = (),
) -> tuple[AuditFinding, ...]:
    """Return the findings with their reasons where one is written down and true.

    `held` are the controls of `needed` that hold, as (control, host).
    """
    return tuple(_accept(finding, profile, around, held) for finding in findings)


def _accept(
    finding: AuditFinding, profile: str, around: frozenset[str], held: Collection[tuple[str, str]]
) -> AuditFinding:
    rows = [row for row in load_accepted() if row.covers(finding, profile, around)]
    missing = [[control for control in row.needs if (control, finding.host) not in held] for row in rows]
    for row, lacks in zip(rows, missing, strict=True):
        if not lacks:
            return replace(finding, accepted=" ".join(row.why.split()))
    if rows:
        return replace(finding, text=f"{finding.text} (may stay where {' and '.join(missing[0])} holds; here not)")
    return finding


def waive(findings: tuple[AuditFinding, ...], waivers: tuple[Waiver, ...], today: date) -> tuple[AuditFinding, ...]:
    """Return the findings with the site's own waivers applied; an expired one waives nothing and is a finding itself.

    A waiver names a finding as `AUDITOR:ID` where others name a control. Pure.
    """
    kept = tuple(_waive(finding, waivers, today) for finding in findings)
    expired = (
        AuditFinding(found.auditor, found.host, f"{found.id}:waiver", Severity.HIGH, f"a waiver has EXPIRED ({waiver})")
        for waiver in waivers
        if waiver.until < today
        for found in findings
        if _speaks_of(waiver, found)
    )
    return (*kept, *dict.fromkeys(expired))


def _waive(finding: AuditFinding, waivers: tuple[Waiver, ...], today: date) -> AuditFinding:
    valid = next((row for row in waivers if _speaks_of(row, finding) and row.until >= today), None)
    return replace(finding, accepted=f"waived by {valid}") if valid and finding.counts else finding


def _speaks_of(waiver: Waiver, finding: AuditFinding) -> bool:
    return waiver.control == f"{finding.auditor}:{finding.id}" and waiver.host in ("*", finding.host)
