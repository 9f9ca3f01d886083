"""Has the checks run, and makes a report of their results."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from itertools import product
from typing import Any

import orchestrator
from orchestrator.engine.journal import now
from orchestrator.evidence.results import Finding, Report, Result
from orchestrator.inventory.loosened import loosened
from orchestrator.inventory.site import Host, Site
from orchestrator.verification import child, subject
from orchestrator.verification.catalogue import Control, select
from orchestrator.verification.vantage import vantage_of
from orchestrator.verification.waivers import LEFT_ALONE, apply, left_alone, read_waivers

_STANDINS = "_standins"


# Told as each check comes to a result: the check, what it found (a control may have several checks), and the checks to come.
OnResult = Callable[[str, Finding, Sequence[str]], None]


def verify(
    site: Site,
    *,
    controls: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    quick: bool = False,
    converge: Mapping[str, Any] | None = None,
    on_result: OnResult | None = None,
    today: date | None = None,
) -> Report:
    """Look at the hosts and return what was found; changes nothing.

    `quick` looks from inside only; `converge` is what a converge in check mode said of each host, where one was run.
    Every chosen control gets a result on every chosen host: one of which a check came to no result is an error, never a pass.
    Raises UsageError for an unknown control or host, InvalidSite for mistakes in the waivers, TaskFailed where the probes'
    token cannot be had.
    """
    chosen = select(controls)
    targets = site.chosen(hosts)
    waivers = (
        *read_waivers(site.path, tuple(host.name for host in site.hosts)),
        *left_alone(site.settings.get(LEFT_ALONE)),
    )
    started, clock = now("seconds"), time.monotonic()
    pairs = [(c.id, h.name) for c in chosen for h in targets if c.concerns(h.groups)]
    ran = child.run(_job(site, targets, pairs, quick=quick, converge=converge), _teller(chosen, on_result))
    findings = [*_findings(ran, pairs, {c.id: c for c in chosen}), *_not_concerned(chosen, targets)]
    order = {control.id: number for number, control in enumerate(chosen)}
    findings.sort(key=lambda finding: (order[finding.control], finding.host, finding.vantage))
    asked = {row["host"]: row for row in ran.rows if row["kind"] == "asked"}
    return Report(
        site=site.name,
        started=started,
        finished=now("seconds"),
        version=orchestrator.__version__,
        standins=_on_standins(ran, [host.name for host in targets]),
        hosts=tuple(host.name for host in targets),
        findings=apply(tuple(findings), waivers, today or datetime.now(UTC).date()),
        controls=tuple(control.text() for control in chosen),
        round_trips={name: row["round_trips"] for name, row in asked.items()},
        seconds={
            **{f"questions to {name}": round(row["seconds"], 2) for name, row in asked.items()},
            "together": round(time.monotonic() - clock, 2),
        },
        undecided=site.undecided,
        loosened=loosened(site.settings),
        inside_only=quick,
    )


def _on_standins(ran: child.Ran, names: list[str]) -> bool | None:
    """Say whether any host runs stand-ins; None where none was seen to, and not every host could be asked."""
    told = {row["host"]: row["result"] for row in ran.rows if row["kind"] == "result" and row["control"] == _STANDINS}
    if "pass" in told.values():
        return True
    return False if all(told.get(name) == "not_applicable" for name in names) else None


def _not_concerned(controls: tuple[Control, ...], hosts: tuple[Host, ...]) -> Iterator[Finding]:
    for control, host in product(controls, hosts):
        if not control.concerns(host.groups):
            reason = f"the host is in none of {', '.join(control.groups)}"
            yield Finding(control.id, host.name, Result.NOT_APPLICABLE, "", "", "", reason)


def _job(
    site: Site,
    targets: tuple[Host, ...],
    pairs: list[tuple[str, str]],
    *,
    quick: bool,
    converge: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Describe to the child process what to look at."""
    point, key_file, known_hosts, secrets = vantage_of(site)
    return {
        "subjects": json.loads(subject.dump(subject.subjects(site))),
        "hosts": [asdict(host) for host in targets],
        "known_hosts": str(known_hosts),
        "wanted": [*pairs, *((_STANDINS, host.name) for host in targets)],
        "quick": quick,
        "converge": converge,
        "vantage": asdict(point),
        "vantage_key_file": key_file,
        "secrets": {} if quick else secrets,
    }


def _teller(controls: tuple[Control, ...], on_result: OnResult | None) -> Callable[[Mapping[str, Any]], None]:
    known = {control.id: control for control in controls}
    to_come: list[str] = []

    def tell(row: Mapping[str, Any]) -> None:
        if on_result is None or row.get("control") not in known:
            return
        name = f"{row['check']} ({row['host']})"
        if row["kind"] == "expected":
            to_come.append(name)
        elif row["kind"] == "result":
            if name in to_come:
                to_come.remove(name)
            on_result(row["check"], _finding(row, known[row["control"]]), to_come)

    return tell


def _findings(ran: child.Ran, pairs: list[tuple[str, str]], controls: Mapping[str, Control]) -> list[Finding]:
    """Return the findings of each pair: one a vantage point, in which the worst result of several checks counts."""
    left_out: dict[tuple[str, str], list[str]] = {}
    found: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    for row in (*ran.rows, *_missing(ran)):
        if row["kind"] == "result" and row["control"] in controls:
            places = found.setdefault((row["control"], row["host"]), {})
            places.setdefault(row["vantage"], []).append(_finding(row, controls[row["control"]]))
        elif row["kind"] == "left_out" and ran.whole:
            left_out.setdefault((row["control"], row["host"]), []).append(row["check"])
    result: list[Finding] = []
    for pair in pairs:
        if pair in found:
            result += [_half(joined(several), left_out.get(pair, [])) for several in found[pair].values()]
        elif pair in left_out:
            result.append(
                Finding(*pair, Result.NOT_TESTED, "", "", "", "looked at from outside only, which --quick omits")
            )
        else:
            reason = f"no check came to a result: {ran.end}"
            result.append(Finding(*pair, Result.ERROR, "", "", "", reason))
    return result


def _missing(ran: child.Ran) -> Iterator[dict[str, Any]]:
    """Yield an error for each control, host and vantage point of which a check was to come and did not."""
    told = Counter(_key(row) for row in ran.rows if row["kind"] == "result")
    missing: dict[tuple[str, ...], list[str]] = {}
    for row in ran.rows:
        if row["kind"] == "expected":
            told[_key(row)] -= 1
            if told[_key(row)] < 0:
                missing.setdefault(_key(row)[:-1], []).append(row["check"])
    for (control, host, vantage), checks in missing.items():
        row = {"kind": "result", "control": control, "host": host, "vantage": vantage, "result": "error"}
        yield {**row, "seen": "", "wanted": "", "reason": f"no result of {', '.join(checks)}: {ran.end}"}


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["control"], row["host"], row["vantage"], row["check"]


def _half(finding: Finding, left_out: list[str]) -> Finding:
    """Return a finding that says which checks from outside --quick left out; what is not inside may well be seen from there."""
    if not left_out:
        return finding
    result = Result.NOT_TESTED if finding.result is Result.NOT_APPLICABLE else finding.result
    said = f"from inside only; --quick left out: {', '.join(left_out)}"
    return replace(finding, result=result, reason="; ".join(filter(None, (finding.reason, said))))


_SEVERITY = (Result.ERROR, Result.FAIL, Result.NOT_TESTED, Result.DECLARED, Result.PASS, Result.NOT_APPLICABLE)


def joined(several: list[Finding]) -> Finding:
    """Return one finding of several checks: the worst result, with everything that was seen to that result.

    A fault is told beside an error, too: that another check broke off repairs nothing.
    """
    worst = min((finding.result for finding in several), key=_SEVERITY.index)
    told = (worst, Result.FAIL) if worst is Result.ERROR else (worst,)
    same = [finding for finding in several if finding.result in told]
    seen, wanted, reason = (
        "; ".join(filter(None, t)) for t in zip(*((f.seen, f.wanted, f.reason) for f in same), strict=True)
    )
    remedy = next((finding.remedy for finding in same if finding.remedy), "")
    return replace(same[0], result=worst, seen=seen, wanted=wanted, remedy=remedy, reason=reason)


def _finding(row: Mapping[str, Any], control: Control) -> Finding:
    result = Result(row["result"])
    # What repairs the control does not repair a check that broke off, unless a fault was seen before: why it did is its reason.
    remedy = control.remedy.en if result is Result.FAIL or row["wanted"] else ""
    texts = (row["seen"], row["wanted"], remedy, row["reason"], row["vantage"])
    return Finding(row["control"], row["host"], result, *texts)
