"""The report as one HTML file for people: no request leaves it, and nothing in it runs but what was written here."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from orchestrator.evidence import texts as words
from orchestrator.evidence.order import findings_in_order, hosts_in_order
from orchestrator.evidence.results import ControlText, Finding, Report, Result
from orchestrator.evidence.verdict import mood, verdict
from orchestrator.evidence.visible import visible

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_CODE = re.compile(r"```(?:\w*\n)?(.+?)```|`([^`]+)`", re.DOTALL)
# A command as a whole has no punctuation of a sentence in it.
_COMMAND = re.compile(
    r"(?:ratssaal|sudo|ssh|systemctl|apt|apt-get|ansible-playbook|ansible-vault|openssl)(?: [^\s,;()]*[^\s,;().])+"
)
_OWN_COMMAND = re.compile(r"\bratssaal [a-z]+\b")


def html_page(report: Report, language: str = "de") -> str:
    """Return the whole page; `language` ("de" or "en") is the one that shows first.

    Both languages are in the file. Raises ValueError for any other language.
    """
    if language not in words.LANGUAGES:
        raise ValueError(f"no page in {language!r}, only in {', '.join(words.LANGUAGES)}")
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    others = tuple(name for name in words.LANGUAGES if name != language)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            first=language,
            sections=[_section(report, name) for name in (language, *others)],
            names=words.LANGUAGE_NAMES,
            mood=mood(report),
            policy=_policy(style, script),
            style=Markup(style),
            script=Markup(script),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = prose
    environment.filters["breakable"] = breakable
    return environment


def _harmless(value: Any) -> Any:
    """Show what a host's text hides; text of the template itself (Markup) stays."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: the two inline blocks by their hashes, nothing else, no connection."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(block: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() + "'"


def prose(text: str) -> Markup:
    """Return text as HTML: backquotes mark code, and so do our own commands; what is a command as a whole becomes a block
    to copy at one click."""
    shown = visible(text.strip())
    if _COMMAND.fullmatch(shown):
        return Markup('<code class="command">{}</code>').format(shown)
    parts, end = [], 0
    for match in _CODE.finditer(shown):
        parts.append(_with_commands(shown[end : match.start()]))
        kind = "command" if match[1] or match[0] == shown else "word"
        parts.append(Markup('<code class="{}">{}</code>').format(kind, (match[1] or match[2]).strip()))
        end = match.end()
    parts.append(_with_commands(shown[end:]))
    return Markup("").join(parts)


def _with_commands(text: str) -> Markup:
    parts, end = [], 0
    for match in _OWN_COMMAND.finditer(text):
        parts += [
            Markup("{}").format(text[end : match.start()]),
            Markup('<code class="word">{}</code>').format(match[0]),
        ]
        end = match.end()
    return Markup("").join([*parts, Markup("{}").format(text[end:])])


def breakable(text: str) -> Markup:
    """Return a name as HTML that a narrow column breaks after its dots and hyphens."""
    return Markup("<wbr>").join(re.findall(r"[^.-]*[.-]|[^.-]+", visible(text)))


def _section(report: Report, language: str) -> Mapping[str, Any]:
    """Return all that the page shows in one language."""
    controls = {control.id: control for control in report.controls}
    findings = [_row(finding, controls.get(finding.control), language) for finding in findings_in_order(report)]
    return {
        "language": language,
        "t": words.texts(language),
        "verdict": verdict(report, language),
        "counts": _counts(report, language),
        "first": _to_do(findings),
        "findings": findings,
        "waivers": [row for row in findings if row["result"] is Result.WAIVED],
        "hosts": hosts_in_order(report),
        "controls": [_control(control, language) for control in report.controls],
        "started": moment(report.started, language),
        "finished": moment(report.finished, language),
        "families": _families(findings, language),
        "vantages": sorted({row["vantage"] for row in findings}),
        "seconds": [
            (words.phase(name, language), words.decimal(value, language))
            for name, value in sorted(report.seconds.items())
        ],
    }


def _counts(report: Report, language: str) -> list[dict[str, Any]]:
    """Return one entry per kind of result, also those that did not occur, with its place on the bar."""
    entries, start = [], 0
    for result, names in words.RESULTS.items():
        count = report.count(result)
        meaning = words.MEANINGS[result][language]
        entries.append({"result": result, "name": names[language], "meaning": meaning, "count": count, "start": start})
        start += count
    return entries


def _families(findings: Sequence[dict[str, Any]], language: str) -> list[tuple[str, str, int]]:
    """Return a family's id, name and number of findings, in the order in which they come."""
    counts: dict[str, int] = {}
    for row in findings:
        counts[row["family"]] = counts.get(row["family"], 0) + 1
    return [(name, words.family(name, language), count) for name, count in counts.items()]


def _row(finding: Finding, control: ControlText | None, language: str) -> dict[str, Any]:
    title = "" if control is None else control.title_de if language == "de" else control.title_en
    return {
        "finding": finding,
        "result": finding.result,
        "name": words.RESULTS[finding.result][language],
        "sign": words.SIGNS[finding.result],
        "control": None if control is None else _control(control, language),
        "title": title,
        "family": finding.control.partition("-")[0],
        "vantage": words.vantage(finding.vantage, language),
        "parts": _parts(finding),
        "remedy": _remedy(finding, control, language),
    }


def _parts(finding: Finding) -> list[tuple[str, str]]:
    """Return each single thing that was seen, with what was wanted in its place.

    A check joins them by "; " in the same order; where they do not pair, everything is one part.
    """
    seen, wanted = finding.seen.split("; "), finding.wanted.split("; ")
    if len(seen) == len(wanted):
        return list(zip(seen, wanted, strict=True))
    return [(part, "") for part in seen] if not finding.wanted else [(finding.seen, finding.wanted)]


def _remedy(finding: Finding, control: ControlText | None, language: str) -> str:
    """Return the remedy in the page's language, where it is the control's own."""
    german = language == "de" and control is not None and finding.remedy == control.remedy and control.remedy_de
    return german or finding.remedy


def _control(control: ControlText, language: str) -> dict[str, Any]:
    """Return a control's texts with the language that they really are in."""
    german = language == "de"
    return {
        "id": control.id,
        "title": control.title_de if german else control.title_en,
        "risk": control.risk_de if german and control.risk_de else control.risk,
        "risk_language": "de" if german and control.risk_de else "en",
        "remedy": control.remedy_de if german and control.remedy_de else control.remedy,
        "remedy_language": "de" if german and control.remedy_de else "en",
        # The catalogue marks with " ?" what nobody has compared with the published text.
        "references": [(text.removesuffix(" ?"), not text.endswith(" ?")) for text in control.references],
    }


def _to_do(findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what to repair: failures in the catalogue's order, then checks without a result, one entry per control.

    What kept many checks from a result is one entry: `also` are the other controls.
    """
    entries: dict[tuple[Result, str], list[dict[str, Any]]] = {}
    for result in (Result.FAIL, Result.ERROR):
        for row in findings:
            if row["result"] is result:
                entries.setdefault((result, row["finding"].control), []).append(row)
    told: dict[Any, dict[str, Any]] = {}
    for (result, control), rows in entries.items():
        cases = _cases(rows)
        remedies = list(dict.fromkeys(row["remedy"] for row in rows if row["remedy"]))
        same = control if result is Result.FAIL or remedies else tuple((_shows(row), hosts) for row, hosts in cases)
        entry = told.setdefault((result, same), {**rows[0], "cases": cases, "remedies": remedies, "also": []})
        entry["also"] += [control] if entry["finding"].control != control else []
    return list(told.values())


def _shows(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a finding tells of its host, and from where it was seen."""
    finding = row["finding"]
    return finding.seen, finding.wanted, finding.reason, finding.vantage


def _cases(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Return a finding's row and all hosts that show the same, for each different thing that was seen."""
    cases: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault(_shows(row), []).append(row)
    return [(same[0], ", ".join(dict.fromkeys(row["finding"].host for row in same))) for same in cases.values()]


def moment(text: str, language: str) -> str:
    """Return a UTC time in ISO 8601 as people write it; text that is no such time as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return time.strftime("%d.%m.%Y, %H:%M:%S UTC" if language == "de" else "%Y-%m-%d, %H:%M:%S UTC")
