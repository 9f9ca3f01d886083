"""What the operator answers for where nothing can be measured: who decided it, why, and until when it holds."""

from __future__ import annotations

from datetime import UTC, date, datetime

from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

VARIABLE = "verification_declarations"


def answered_for(
    subject: Subject, control: str, sheet: Sheet, matter: str, *, wanted: str = "", today: date | None = None
) -> None:
    """Note an open matter as declared, or as a fault where the declaration's day is over.

    What nobody has declared is a fault where something was seen (`wanted` says what in its place), else not tested.
    """
    row = (subject.settings.get(VARIABLE) or {}).get(control)
    if row and over(row["until"], today):
        sheet.expect(False, f"{matter}; what was declared of it ran out on {row['until']}", "decided again")
    elif row:
        sheet.declare(f"{matter}; {row['who']} answers for it until {row['until']}: {row['why']}")
    elif wanted:
        sheet.expect(False, matter, f"{wanted}, or declared ({VARIABLE}: {control})")
    else:
        sheet.could_not_look(f"{matter}; nobody has declared it ({VARIABLE}: {control})")


def over(day: str, today: date | None = None) -> bool:
    """Say whether a declared day has passed; it counts up to its end."""
    return date.fromisoformat(str(day)) < (today or datetime.now(UTC).date())
