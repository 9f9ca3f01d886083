"""The words of the HTML report, in German and in English."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
    "inside": {"de": "von innen: auf dem Server", "en": "from inside: on the server"},
    "outside": {"de": "von außen", "en": "from outside"},
}
# How an outside vantage point states itself (orchestrator/inventory/vantagepoint.py), and the same in German.
_VANTAGES_DE = (
    (re.compile(r"the control node"), "Steuerrechner"),
    (re.compile(r"the control node's network namespace (.+)"), r"Netzwerk-Namensraum \1 auf dem Steuerrechner"),
    (re.compile(r"(.+) \(by SSH\)"), r"\1 (über SSH)"),
)
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "CRY": {"de": "Verschlüsselung", "en": "Cryptography"},
    "NET": {"de": "Netz", "en": "Network"},
    "TRN": {"de": "TURN", "en": "TURN"},
    "ACC": {"de": "Zugang und Geheimnisse", "en": "Access and secrets"},
    "OS": {"de": "Betriebssystem", "en": "Operating system"},
    "WEB": {"de": "Webserver", "en": "Web server"},
    "VKS": {"de": "Konferenz", "en": "Conference"},
    "LOG": {"de": "Protokolle", "en": "Logs"},
    "BCK": {"de": "Datensicherung", "en": "Backup"},
    "AVL": {"de": "Verfügbarkeit", "en": "Availability"},
    "CHG": {"de": "Änderungen", "en": "Changes"},
}
# What took how long, as the runner names it in English.
_PHASES_DE = (
    (re.compile(r"questions to (.+)"), r"Anfragen an \1"),
    (re.compile(r"together"), "zusammen"),
)

_TEXTS: Mapping[str, tuple[str, str]] = {
    "title": ("Prüfbericht", "Verification report"),
    "subject": ("Videokonferenzen", "Video conferences"),
    "standins": (
        "Probelauf mit Ersatzpaketen: Auf den geprüften Servern läuft nicht das echte Jitsi. "
        "Dieser Bericht belegt nichts über einen Server im Betrieb.",
        "Rehearsal with stand-in packages: the servers do not run the real Jitsi. "
        "This report is no evidence about a server in service.",
    ),
    "standins_unknown": (
        "Nicht auf jedem Server war zu sehen, ob das echte Jitsi läuft oder Ersatzpakete. "
        "Bis das feststeht, belegt dieser Bericht nichts über einen Server im Betrieb.",
        "Not every server showed whether it runs the real Jitsi or stand-in packages. "
        "Until that is known, this report is no evidence about a server in service.",
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
    "also": ("Dasselbe ließ auch diese Prüfungen ohne Ergebnis:", "The same left these without a result, too:"),
    "why": ("Warum das zählt", "Why it matters"),
    "repair": ("So beheben", "How to repair"),
    "findings": ("Alle Befunde", "All findings"),
    "findings_none": ("Es gibt keine Befunde.", "There are no findings."),
    "filter": ("Befunde filtern", "Filter the findings"),
    "search": ("Suche", "Search"),
    "all_results": ("alle Ergebnisse", "all results"),
    "family": ("Bereich", "Area"),
    "all_families": ("alle Bereiche", "all areas"),
    "all_hosts": ("alle Server", "all servers"),
    "show_these": ("diese Befunde zeigen", "show these findings"),
    "no_match": ("Kein Befund passt zu diesem Filter.", "No finding fits this filter."),
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
    "loosened": ("Gelockerte Einstellungen", "Loosened settings"),
    "loosened_none": (
        "Keine Einstellung gewährt mehr als die Voreinstellung.",
        "No setting grants more than the default.",
    ),
    "loosened_note": (
        "Hier hat sich der Betreiber für weniger entschieden als die datensparsame, strenge Voreinstellung.",
        "Here the operator has decided for less than the private, strict default.",
    ),
    "default": ("Voreinstellung", "Default"),
    "nothing": ("nichts", "none"),
    "controls": ("Was die Anforderungen bedeuten", "What the requirements mean"),
    "references": ("Grundlagen", "References"),
    "unconfirmed": ("nicht mit dem veröffentlichten Text verglichen", "not compared with the published text"),
    "measured": ("Wie gemessen wurde", "How it was measured"),
    "measured_note": (
        "Jeder Befund beruht auf dem, was auf dem Server wirklich lief und antwortete, nicht auf dem, was eingestellt "
        "werden sollte. Nur „erfüllt“ heißt gemessen und in Ordnung. Was gefunden und was verlangt wurde, steht im "
        "englischen Wortlaut der Prüfungen.",
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
    "packages_unknown": ("unbekannt: nicht auf jedem Server zu sehen", "not known: not every server showed them"),
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


def vantage(text: str, language: str) -> str:
    """Return where a finding was looked at from, as people read it: from inside, or from outside with the place."""
    if text in VANTAGES:
        return VANTAGES[text][language]
    return f"{VANTAGES['outside'][language]}: {_translated(text, _VANTAGES_DE if language == 'de' else ())}"


def phase(text: str, language: str) -> str:
    """Return the name of what took time."""
    return _translated(text, _PHASES_DE if language == "de" else ())


def family(control: str, language: str) -> str:
    """Return the name of the family that a control's id begins with; the id's own beginning where it has none."""
    prefix = control.partition("-")[0]
    return FAMILIES.get(prefix, {}).get(language, prefix)


def _translated(text: str, table: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, german in table:
        found = pattern.fullmatch(text)
        if found:
            return found.expand(german)
    return text
