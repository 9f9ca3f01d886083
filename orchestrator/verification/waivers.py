"""Waivers: who accepts a failed control, why, until when. `compliance/waivers.yml` in the site's directory, and `hardening_skip`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import InvalidSite, Problem
from orchestrator.evidence.results import Finding, Result
from orchestrator.inventory.yamlfiles import compose, read_text, show
from orchestrator.verification.audit.results import AUDITORS
from orchestrator.verification.catalogue import load_catalogue

FILE = "compliance/waivers.yml"
# What hardening leaves alone is accepted, too.
LEFT_ALONE = "hardening_skip"
_KEYS = ("control", "host", "who", "why", "until")


@dataclass(frozen=True, slots=True)
class Waiver:
    """One accepted failure. `host` may be `*`; it counts up to and including the day `until`. `place` is where it stands."""

    control: str
    host: str
    who: str
    why: str
    until: date
    place: str = FILE

    def covers(self, finding: Finding) -> bool:
        """Say whether it speaks of this finding."""
        return self.control == finding.control and self.host in ("*", finding.host)

    def __str__(self) -> str:
        """Return it as a report tells it."""
        told = f"{self.who}, until {self.until.isoformat()}: {self.why}"
        return told if self.place == FILE else f"left alone by {self.place}: {told}"


def read_waivers(site: Path, hosts: tuple[str, ...]) -> tuple[Waiver, ...]:
    """Read a site's waivers; raises InvalidSite with all mistakes at once, each with file and line."""
    path = site / FILE
    if not os.path.lexists(path):
        return ()
    problems: list[Problem] = []
    text = read_text(path, problems)
    rows = _rows(compose(text, path, problems)) if text is not None else None
    if problems:
        raise InvalidSite(problems)
    if rows is None:
        raise InvalidSite([Problem("`waivers:` with a list below it is expected", f"{show(path)}:1", _example())])
    found = []
    for row in rows:
        where = f"{show(path)}:{row.start_mark.line + 1}"
        value = yaml.safe_load(yaml.serialize(row))
        faults = _faults(value, hosts)
        problems += [Problem(fault, where, _example()) for fault in faults]
        if not faults:
            found.append(Waiver(**{key: value[key] for key in _KEYS}))
    if problems:
        raise InvalidSite(problems)
    return tuple(found)


def _rows(node: yaml.Node | None) -> list[yaml.Node] | None:
    """Return the entries below the one key `waivers`, None where the file has another form."""
    if not isinstance(node, yaml.MappingNode) or [key.value for key, _ in node.value] != ["waivers"]:
        return None
    below = node.value[0][1]
    return list(below.value) if isinstance(below, yaml.SequenceNode) else None


def _faults(value: Any, hosts: tuple[str, ...]) -> list[str]:
    if not isinstance(value, dict):
        return ["a waiver is a mapping"]
    faults = [f"unknown key {key}" for key in value if key not in _KEYS]
    faults += [f"{key} is missing" for key in _KEYS if key not in value]
    if faults:
        return faults
    if not _known(str(value["control"])):
        faults.append(f"there is no control {value['control']}")
    if value["host"] not in ("*", *hosts):
        faults.append(f"the site has no host {value['host']}")
    faults += [f"{key} must say something" for key in ("who", "why") if not str(value[key] or "").strip()]
    if type(value["until"]) is not date:
        faults.append("until must be a day like 2027-03-31")
    return faults


def _known(control: str) -> bool:
    """Say whether it is a control, or an auditor's finding: AUDITOR:ID."""
    auditor, colon, finding = control.partition(":")
    return control in {row.id for row in load_catalogue()} or bool(auditor in AUDITORS and colon and finding)


def _example() -> str:
    return "- {control: OS-08, host: '*', who: A. Meier, why: 'ticket 17', until: 2027-03-31}"


def left_alone(skipped: Mapping[str, Mapping[str, Any]] | None) -> tuple[Waiver, ...]:
    """Return what hardening leaves alone (hardening_skip) as waivers on all hosts."""
    return tuple(
        Waiver(control, "*", str(row["who"]), str(row["why"]), date.fromisoformat(str(row["until"])), LEFT_ALONE)
        for control, row in (skipped or {}).items()
    )


def apply(findings: tuple[Finding, ...], waivers: tuple[Waiver, ...], today: date) -> tuple[Finding, ...]:
    """Return the findings with failures waived; an expired waiver waives nothing and is a finding of its own. Pure."""
    return (*(_apply(finding, waivers, today) for finding in findings), *_expired(findings, waivers, today))


def _apply(finding: Finding, waivers: tuple[Waiver, ...], today: date) -> Finding:
    if finding.result is not Result.FAIL:
        return finding
    valid = [waiver for waiver in waivers if waiver.covers(finding) and waiver.until >= today]
    return replace(finding, result=Result.WAIVED, waiver=str(valid[0])) if valid else finding


def _expired(findings: tuple[Finding, ...], waivers: tuple[Waiver, ...], today: date) -> Iterator[Finding]:
    """Yield a finding for each expired waiver on each host that was looked at; a newer one does not hide an old one."""
    for waiver in (waiver for waiver in waivers if waiver.until < today):
        for host in dict.fromkeys(finding.host for finding in findings if waiver.covers(finding)):
            seen = f"a waiver has EXPIRED ({waiver})"
            remedy = f"remove it from {waiver.place}, or let {waiver.who} decide again"
            yield Finding(
                waiver.control, host, Result.FAIL, seen, "no waiver beyond its day", remedy, vantage=waiver.place
            )
