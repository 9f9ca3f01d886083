"""The verdict: one sentence that says how many of the checked requirements are met, and what was not looked at."""

from __future__ import annotations

from orchestrator.evidence.results import Report, Result


def verdict(report: Report, language: str) -> str:
    """Return the verdict in one sentence; `language` is "de" or "en".

    Checked is what was measured: pass, fail and waived. Nothing else counts as met or as checked.
    """
    checked = report.count(Result.PASS) + report.count(Result.FAIL) + report.count(Result.WAIVED)
    passed = report.count(Result.PASS)
    if not checked:
        main = _NOTHING[language]
    elif language == "de":
        main = _german(report, passed, checked)
    else:
        main = _english(report, passed, checked)
    if checked and report.inside_only:
        main += _INSIDE_ONLY[language]
    clauses = _clauses(report, language)
    return main + ("; " + ", ".join(clauses) if clauses else "") + "."


def mood(report: Report) -> str:
    """Return "bad" if anything failed or broke off, "good" if anything passed, else "open"."""
    if report.failed:
        return "bad"
    return "good" if report.count(Result.PASS) else "open"


_NOTHING = {
    "de": "Es wurde nichts gemessen, dieser Bericht belegt also nichts",
    "en": "Nothing was measured, so this report is evidence of nothing",
}
_INSIDE_ONLY = {"de": ", nur von innen betrachtet", "en": ", seen from inside only"}
# Result, then German for one and for several, then English for one and for several.
_CLAUSES = (
    (
        Result.FAIL,
        "bei einer fand sich ein Verstoß",
        "bei {n} fand sich ein Verstoß",
        "a violation was found in one",
        "a violation was found in {n}",
    ),
    (Result.WAIVED, "für eine gilt eine Ausnahme", "für {n} gelten Ausnahmen", "one is waived", "{n} are waived"),
    (
        Result.ERROR,
        "eine Prüfung blieb ohne Ergebnis",
        "{n} Prüfungen blieben ohne Ergebnis",
        "one check came to no result",
        "{n} checks came to no result",
    ),
    (
        Result.DECLARED,
        "eine weitere ist nur erklärt",
        "{n} weitere sind nur erklärt",
        "one more is only declared",
        "{n} more are only declared",
    ),
    (
        Result.NOT_TESTED,
        "eine weitere wurde nicht geprüft",
        "{n} weitere wurden nicht geprüft",
        "one more was not tested",
        "{n} more were not tested",
    ),
)


def _clauses(report: Report, language: str) -> list[str]:
    said = []
    for result, one_de, many_de, one_en, many_en in _CLAUSES:
        count = report.count(result)
        one, many = (one_de, many_de) if language == "de" else (one_en, many_en)
        if count:
            said.append(one if count == 1 else many.format(n=count))
    return said


def _each_once(report: Report) -> bool:
    """Return whether every finding is a requirement of its own: one host, and no control looked at twice."""
    return len(report.hosts) == 1 and len({finding.control for finding in report.findings}) == len(report.findings)


def _german(report: Report, passed: int, checked: int) -> str:
    several = len(report.hosts) != 1
    subject = f"Diese {len(report.hosts)} Server" if several else "Dieser Server"
    if _each_once(report):
        if checked == 1:
            return f"Dieser Server hält die eine geprüfte Anforderung {'ein' if passed else 'nicht ein'}"
        share = f"alle {checked}" if passed == checked else f"{passed} von {checked}"
        return f"Dieser Server hält {share} geprüften Anforderungen ein"
    share = f"alle {checked}" if passed == checked else f"{passed} von {checked}"
    return f"{subject} {'bestehen' if several else 'besteht'} {share} Prüfungen"


def _english(report: Report, passed: int, checked: int) -> str:
    several = len(report.hosts) != 1
    subject = f"These {len(report.hosts)} servers" if several else "This server"
    if _each_once(report):
        if checked == 1:
            return f"This server {'meets' if passed else 'does not meet'} the one requirement that was checked"
        share = f"all {checked}" if passed == checked else f"{passed} of the {checked}"
        return f"This server meets {share} requirements that were checked"
    share = f"all {checked}" if passed == checked else f"{passed} of {checked}"
    return f"{subject} {'pass' if several else 'passes'} {share} checks"
