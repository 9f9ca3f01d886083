"""A report with every kind of result, for the tests of what is made from it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from orchestrator.evidence.results import ControlText, Finding, Report, Result
from orchestrator.inventory.loosened import Loosened

HOSTILE = '<script>alert(1)</script> <img src="http://evil.example/x"> \'"&{{ 7*7 }}\x1b[31m\u202egpj.exe \udcff\x00'


def control(number: int) -> ControlText:
    """Return the control number `number`, with a text of its own in every place."""
    return ControlText(
        id=f"TST-{number:02}",
        title_en=f"English title {number}",
        title_de=f"Deutscher Titel {number}",
        risk=f"English risk {number}",
        remedy=f"Run `ratssaal repair {number}`",
        references=(f"APP.5.4.A{number}", "https://standards.example/norm"),
        risk_de=f"Deutsches Risiko {number}",
    )


def finding(number: int, result: Result, host: str = "meet", **changes: Any) -> Finding:
    """Return a finding of control `number`, with a text of its own in every place."""
    fields: dict[str, Any] = {
        "control": f"TST-{number:02}",
        "host": host,
        "result": result,
        "seen": "" if result is Result.ERROR else f"seen-{number}",
        "wanted": "" if result is Result.ERROR else f"wanted-{number}",
        "remedy": "" if result is Result.ERROR else f"ratssaal repair {number} --host {host}",
        "reason": f"reason-{number}" if result in (Result.NOT_TESTED, Result.NOT_APPLICABLE, Result.ERROR) else "",
        "waiver": f"A. Person: waiver-{number}, until 2027-01-31" if result is Result.WAIVED else "",
    }
    return Finding(**{**fields, **changes})


def report(**changes: Any) -> Report:
    """Return a report of one host: 3 pass, 2 fail, 1 of each other kind, in an order that is not the catalogue's."""
    results = [Result.FAIL, Result.PASS, Result.PASS, Result.FAIL, Result.PASS]
    results += [Result.WAIVED, Result.DECLARED, Result.NOT_APPLICABLE, Result.NOT_TESTED, Result.ERROR]
    found = [finding(number, result) for number, result in enumerate(results, 1)]
    base = Report(
        site="rathaus",
        started="2026-01-05T08:00:00+00:00",
        finished="2026-01-05T08:00:42+00:00",
        version="0.1.0",
        standins=False,
        hosts=("meet",),
        findings=tuple(reversed(found)),
        controls=tuple(control(number) for number in range(1, 11)),
        round_trips=MappingProxyType({"meet": 3}),
        seconds=MappingProxyType({"outside": 12.25, "inside": 1.5}),
        undecided=("web_pages: no imprint",),
        loosened=(Loosened("town_door", "open", "shut", "English meaning", "Deutsche Bedeutung"),),
    )
    return replace(base, **changes)
