"""The words of the HTML report, in German and in English."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.evidence.results import Result

LANGUAGES = ("de", "en")
LANGUAGE_NAMES = {"de": "Deutsch", "en": "English"}

RESULTS: Mapping[Result, Mapping[str, str]] = {
    Result.PASS: {"de": "erfüllt", "en": "pass"},
    Result.FAIL: {"de": "nicht erfüllt", "en": "fail"},
    Result.ERROR: {"de": "ohne Ergebnis", "en": "no result"},
    Result.WAIVED: {"de": "Ausnahme", "en": "waived"},
    Result.DECLARED: {"de": "erklärt", "en": "declared"},
    Result.NOT_TESTED: {"de": "nicht geprüft", "en": "not tested"},
    Result.NOT_APPLICABLE: {"de": "nicht zutreffend", "en": "not applicable"},
}
MEANINGS: Mapping[Result, Mapping[str, str]] = {
    Result.PASS: {"de": "gemessen und wie verlangt", "en": "measured and as wanted"},
    Result.FAIL: {"de": "gemessen und anders als verlangt", "en": "measured and not as wanted"},
    Result.ERROR: {"de": "Prüfung abgebrochen, gilt nicht als erfüllt", "en": "the check broke off, which is no pass"},
    Result.WAIVED: {"de": "weicht ab, begründet und befristet zugelassen", "en": "deviates, allowed with a reason"},
    Result.DECLARED: {"de": "vom Betreiber erklärt, nicht gemessen", "en": "stated by the operator, not measured"},
    Result.NOT_TESTED: {"de": "in diesem Lauf nicht angesehen", "en": "not looked at in this run"},
    Result.NOT_APPLICABLE: {"de": "betrifft diesen Server nicht", "en": "does not concern this server"},
}
SIGNS: Mapping[Result, str] = {
    Result.PASS: "✓",
    Result.FAIL: "✕",
    Result.ERROR: "!",
    Result.WAIVED: "§",
    Result.DECLARED: "✎",
    Result.NOT_TESTED: "?",
    Result.NOT_APPLICABLE: "–",
}
VANTAGES: Mapping[str, Mapping[str, str]] = {
    "inside": {"de": "auf dem Server", "en": "on the server"},
    "outside": {"de": "von außen", "en": "from outside"},
}

_TEXTS: Mapping[str, tuple[str, str]] = {
    "title": ("Prüfbericht", "Verification report"),
    "subject": ("Videokonferenzen", "Video conferences"),
    "standins": (
        "Probelauf mit Ersatzpaketen: Auf den geprüften Servern läuft nicht das echte Jitsi. "
        "Dieser Bericht belegt nichts über einen Server im Betrieb.",
        "Rehearsal with stand-in packages: the servers do not run the real Jitsi. "
        "This report is no evidence about a server in service.",
    ),
    "skip": ("Zum Ergebnis springen", "Skip to the result"),
    "language": ("Sprache", "Language"),
    "verdict": ("Ergebnis", "Result"),
    "counts": ("Anzahl je Ergebnis", "Number of each result"),
    "first": ("Was zuerst zu tun ist", "What to do first"),
    "first_none": (
        "Nichts: Keine Anforderung ist verletzt, und keine Prüfung brach ab.",
        "Nothing: no requirement is violated, and no check broke off.",
    ),
    "first_nothing": (
        "Die Prüfung ausführen: Dieser Bericht enthält keine Messung.",
        "Run the verification: this report holds no measurement.",
    ),
    "first_note": (
        "In dieser Reihenfolge beheben, danach erneut prüfen:",
        "Repair in this order, then verify again:",
    ),
    "why": ("Warum das zählt", "Why it matters"),
    "repair": ("So beheben", "How to repair"),
    "findings": ("Alle Befunde", "All findings"),
    "findings_none": ("Es gibt keine Befunde.", "There are no findings."),
    "filter": ("Befunde filtern", "Filter the findings"),
    "search": ("Suche", "Search"),
    "all_results": ("alle Ergebnisse", "all results"),
    "all_hosts": ("alle Server", "all servers"),
    "shown": ("Befunde gezeigt", "findings shown"),
    "of": ("von", "of"),
    "reset": ("Filter aufheben", "Clear the filter"),
    "result": ("Ergebnis", "Result"),
    "requirement": ("Anforderung", "Requirement"),
    "host": ("Server", "Server"),
    "seen": ("Gefunden", "Found"),
    "wanted": ("Verlangt", "Wanted"),
    "reason": ("Grund", "Reason"),
    "waiver": ("Ausnahme", "Waiver"),
    "vantage": ("Geprüft", "Looked at"),
    "waivers": ("Zugelassene Ausnahmen", "Waivers"),
    "waivers_none": ("Es gilt keine Ausnahme.", "No waiver applies."),
    "undecided": ("Noch zu entscheiden", "Still to be decided"),
    "undecided_none": ("Alle Einstellungen sind entschieden.", "Every setting is decided."),
    "undecided_note": (
        "Diese Einstellungen hat noch niemand entschieden; bis dahin gilt die Voreinstellung.",
        "Nobody has decided these settings yet; until then the default applies.",
    ),
    "controls": ("Was die Anforderungen bedeuten", "What the requirements mean"),
    "references": ("Grundlagen", "References"),
    "measured": ("Wie gemessen wurde", "How it was measured"),
    "measured_note": (
        "Jeder Befund beruht auf dem, was auf dem Server wirklich lief und antwortete, nicht auf dem, was eingestellt "
        "werden sollte. Nur „erfüllt“ heißt gemessen und in Ordnung.",
        "Every finding rests on what really ran and answered on the server, not on what was meant to be set. "
        "Only “pass” means measured and in order.",
    ),
    "site": ("Standort", "Site"),
    "servers": ("Server", "Servers"),
    "started": ("Beginn", "Started"),
    "finished": ("Ende", "Finished"),
    "version": ("Version", "Version"),
    "vantages": ("Standpunkte", "Vantage points"),
    "packages": ("Pakete", "Packages"),
    "packages_real": ("keine Ersatzpakete gefunden", "no stand-in packages found"),
    "packages_standins": ("Ersatzpakete", "stand-in packages"),
    "round_trips": ("Anfragen je Server", "Round trips per server"),
    "round_trips_one": ("Anfragen", "Round trips"),
    "seconds": ("Dauer", "Time taken"),
    "phase": ("Abschnitt", "Phase"),
    "seconds_one": ("Sekunden", "Seconds"),
    "contents": ("Inhalt", "Contents"),
    "footer": (
        "Erzeugt von Ratssaal. Die Datei enthält alles, was sie zeigt, und fragt nirgends etwas an.",
        "Made by Ratssaal. This file holds all that it shows and requests nothing from anywhere.",
    ),
}


def texts(language: str) -> Mapping[str, str]:
    """Return every text of the page in one of LANGUAGES; raises ValueError for any other language."""
    position = LANGUAGES.index(language) if language in LANGUAGES else -1
    if position < 0:
        raise ValueError(f"no texts in {language!r}, only in {', '.join(LANGUAGES)}")
    return {name: pair[position] for name, pair in _TEXTS.items()}


def decimal(value: float, language: str) -> str:
    """Return a number with one decimal, with the language's decimal sign."""
    text = f"{value:.1f}"
    return text.replace(".", ",") if language == "de" else text
