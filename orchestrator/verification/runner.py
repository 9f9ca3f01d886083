"""The one module that starts pytest: runs the checks in a child process and makes a report of their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.errors import UsageError
from orchestrator.evidence.results import Finding, Report, Result
from orchestrator.inventory.site import Host, Site
from orchestrator.verification import plugin, subject
from orchestrator.verification.catalogue import Control, select
from orchestrator.verification.waivers import apply, read_waivers

CHECKS = Path(__file__).parent / "checks"
_SECONDS = 600
_STANDINS = "_standins"


@dataclass(frozen=True, slots=True)
class Progress:
    """Told as each check comes to a result; a control may have several checks."""

    check: str
    finding: Finding


OnResult = Callable[[Progress], None]


def verify(
    site: Site,
    *,
    controls: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    on_result: OnResult | None = None,
    today: date | None = None,
) -> Report:
    """Look at the hosts and return what was found; changes nothing.

    Every chosen control gets a result on every chosen host: one that no check decided is an error, never a pass.
    Raises UsageError for an unknown control or host, InvalidSite for mistakes in the waivers.
    """
    chosen = select(controls)
    targets = _targets(site, hosts)
    waivers = read_waivers(site.path, tuple(host.name for host in site.hosts))
    started, clock = _now(), time.monotonic()
    skipped = [
        Finding(c.id, h.name, Result.NOT_APPLICABLE, "", "", "", f"the host is in none of {', '.join(c.groups)}")
        for c in chosen
        for h in targets
        if not c.concerns(h.groups)
    ]
    pairs = [(c.id, h.name) for c in chosen for h in targets if c.concerns(h.groups)]
    rows, output = _run(site, targets, pairs, _teller(chosen, on_result))
    findings = [*_findings(rows, pairs, {c.id: c for c in chosen}, output), *skipped]
    order = {control.id: number for number, control in enumerate(chosen)}
    findings.sort(key=lambda finding: (order[finding.control], finding.host))
    asked = {row["host"]: row for row in rows if row["kind"] == "asked"}
    return Report(
        site=site.name,
        started=started,
        finished=_now(),
        version=orchestrator.__version__,
        standins=any(row.get("control") == _STANDINS and row["result"] != "not_applicable" for row in rows),
        hosts=tuple(host.name for host in targets),
        findings=apply(tuple(findings), waivers, today or datetime.now(UTC).date()),
        controls=tuple(control.text() for control in chosen),
        round_trips={row["host"]: row["round_trips"] for row in rows if row["kind"] == "round_trips"},
        seconds={
            **{f"questions to {name}": round(row["seconds"], 2) for name, row in asked.items()},
            "together": round(time.monotonic() - clock, 2),
        },
        undecided=site.undecided,
    )


def _targets(site: Site, names: tuple[str, ...]) -> tuple[Host, ...]:
    known = {host.name: host for host in site.hosts}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"the site has no host {', '.join(unknown)}", hint=f"it has: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else site.hosts


def _run(
    site: Site, targets: tuple[Host, ...], pairs: list[tuple[str, str]], tell: Callable[[Mapping[str, Any]], None]
) -> tuple[list[dict[str, Any]], str]:
    """Run the checks in a child process; return its result lines and what it printed."""
    with tempfile.TemporaryDirectory(prefix="ratssaal-verify-") as folder:
        job, results, output = (Path(folder) / name for name in ("job.json", "results.jsonl", "output"))
        wanted = [*pairs, *((_STANDINS, host.name) for host in targets)]
        described = {
            "subjects": json.loads(subject.dump(subject.subjects(site))),
            "hosts": [asdict(host) for host in targets],
            "known_hosts": str(site.known_hosts),
            "results": str(results),
            "wanted": wanted,
        }
        job.write_text(json.dumps(described, default=str))
        results.touch()
        with output.open("wb") as printed:
            child = subprocess.Popen(
                _argv(),
                env={**os.environ, plugin.JOB: str(job)},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
            )
            try:
                rows = list(_follow(child, results, tell))
            finally:
                child.kill()
                child.wait()
        return rows, output.read_text(errors="replace")


def _argv() -> list[str]:
    # testinfra's own plugin would add hosts of its own; its backend class is all that the checks need.
    plugins = ["-p", plugin.__name__, "-p", "no:cacheprovider", "-p", "no:pytest11.testinfra", "-p", "no:xdist"]
    return [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={CHECKS}", *plugins, str(CHECKS)]


def _follow(
    child: subprocess.Popen[bytes], results: Path, tell: Callable[[Mapping[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + _SECONDS
    with results.open(encoding="utf-8") as lines:
        rest, ended = "", False
        while True:
            rest += lines.read()
            *whole, rest = rest.split("\n")
            for line in whole:
                row = json.loads(line)
                tell(row)
                yield row
            if ended or time.monotonic() > deadline:
                return
            ended = child.poll() is not None
            if not ended:
                time.sleep(0.05)


def _teller(controls: tuple[Control, ...], on_result: OnResult | None) -> Callable[[Mapping[str, Any]], None]:
    known = {control.id: control for control in controls}

    def tell(row: Mapping[str, Any]) -> None:
        if on_result is not None and row["kind"] == "result" and row["control"] in known:
            on_result(Progress(row["check"], _finding(row, known[row["control"]])))

    return tell


def _findings(
    rows: list[dict[str, Any]], pairs: list[tuple[str, str]], controls: Mapping[str, Control], output: str
) -> list[Finding]:
    """Return a finding for each pair; several results of one pair are joined, the worst one counts."""
    unreachable = {row["host"]: row["reason"] for row in rows if row["kind"] == "unreachable"}
    found: dict[tuple[str, str], list[Finding]] = {}
    for row in rows:
        if row["kind"] == "result" and row["control"] in controls:
            found.setdefault((row["control"], row["host"]), []).append(_finding(row, controls[row["control"]]))
    tail = " ".join(output.split())[-300:]
    result = []
    for control, host in pairs:
        several = found.get((control, host))
        if several:
            result.append(_worst(several))
        else:
            reason = unreachable.get(host) or f"no check came to a result: {tail}"
            result.append(Finding(control, host, Result.ERROR, "", "", controls[control].remedy.en, reason))
    return result


_SEVERITY = (Result.ERROR, Result.FAIL, Result.NOT_TESTED, Result.PASS, Result.NOT_APPLICABLE)


def _worst(several: list[Finding]) -> Finding:
    return min(several, key=lambda finding: _SEVERITY.index(finding.result))


def _finding(row: Mapping[str, Any], control: Control) -> Finding:
    result = Result(row["result"])
    remedy = control.remedy.en if result in (Result.FAIL, Result.ERROR) else ""
    return Finding(row["control"], row["host"], result, row["seen"], row["wanted"], remedy, row["reason"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
