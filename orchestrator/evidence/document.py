"""The report as canonical JSON: the same report gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from orchestrator.evidence.order import findings_in_order
from orchestrator.evidence.results import Report, Result
from orchestrator.evidence.visible import well_formed

# Raised when a field goes or changes its meaning.
SCHEMA = 1


def canonical_json(report: Report) -> str:
    """Return the report as JSON with sorted keys, findings in one order, and a line feed at the end.

    The order in which hosts answered does not show; broken UTF-8 from a host becomes U+FFFD.
    Raises ValueError for a duration that is not a number.
    """
    plain = replace(
        report,
        findings=findings_in_order(report),
        round_trips=dict(report.round_trips),
        seconds={name: float(value) for name, value in report.seconds.items()},
    )
    counts = {result.value: report.count(result) for result in Result}
    document = {"schema_version": SCHEMA, "counts": counts, **asdict(plain)}
    return well_formed(json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
