"""Runs the auditors: on the hosts, then from outside, each within its time; one that breaks off keeps no other from ending."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol

import orchestrator
from orchestrator.engine.journal import now, runs_root
from orchestrator.errors import RatssaalError
from orchestrator.evidence.results import Result
from orchestrator.inventory.site import Site
from orchestrator.verification.audit import exposure, lynis, openscap, ports, sshaudit, tls
from orchestrator.verification.audit.accepted import accept, needed, waive
from orchestrator.verification.audit.places import OutOfTime, Outside, Target
from orchestrator.verification.audit.results import (
    AUDITORS,
    Audited,
    AuditFinding,
    AuditReport,
    NotApplicable,
    NotHere,
    Reading,
    result_of,
)
from orchestrator.verification.crypto import chosen
from orchestrator.verification.runner import verify
from orchestrator.verification.subject import subjects
from orchestrator.verification.vantage import place_of
from orchestrator.verification.waivers import Waiver, read_waivers

_AT_ONCE = 8


class Auditor(Protocol):
    """A module of this package that runs one auditor. `VANTAGE` is "" where it looks from the site's vantage point."""

    NAME: str
    VANTAGE: str

    def audit(self, target: Target) -> tuple[Reading, tuple[str, ...]]:
        """Run it on one host; return what it says and the names of its raw files."""
        ...


# One after the other: a small host that is scanned from outside is slow to let anybody in. What keeps connecting to sshd comes
# last: where sshd holds that against its source, nobody else waits for it.
_PHASES: tuple[tuple[Auditor, ...], ...] = ((lynis, exposure, openscap), (tls, ports), (sshaudit,))
Begun = Callable[[str, str], None]
Ended = Callable[[Audited], None]


def audit(
    site: Site,
    *,
    folder: Path,
    hosts: tuple[str, ...] = (),
    auditors: tuple[str, ...] = (),
    on_begin: Begun = lambda auditor, host: None,
    on_end: Ended = lambda audited: None,
    today: date | None = None,
) -> AuditReport:
    """Let auditors look at hosts (all, or the named ones) and return what they found; raw outputs are written to `folder`.

    First it verifies, from inside, the controls on which the reasons for accepted findings rest. Changes nothing on the hosts.
    Raises UsageError for an unknown host, InvalidSite for mistakes in the waivers, TaskFailed as `verify` does.
    `on_begin` and `on_end` are told from several threads.
    """
    targets = _targets(site, hosts, folder)
    waivers = read_waivers(site.path, tuple(host.name for host in site.hosts))
    day, started = today or datetime.now(UTC).date(), now("seconds")
    held = _held(site, targets, auditors, on_begin)

    def one(module: Auditor, target: Target) -> Audited:
        on_begin(module.NAME, target.host.name)
        audited, around = _run(module, target)
        audited = judged(audited, waivers, site, day, around=around, held=held)
        on_end(audited)
        return audited

    def phase(modules: tuple[Auditor, ...]) -> list[Audited]:
        wanted = [module for module in modules if module.NAME in auditors or not auditors]
        pairs = [(module, target) for target in targets for module in wanted]
        with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(pairs) or 1)) as pool:
            return list(pool.map(lambda pair: one(*pair), pairs))

    found = [row for modules in _PHASES for row in phase(modules)]
    names = [target.host.name for target in targets]
    found.sort(key=lambda row: (names.index(row.host), AUDITORS.index(row.auditor)))
    return AuditReport(
        site.name,
        started,
        now("seconds"),
        orchestrator.__version__,
        chosen(site.settings).name,
        str(folder),
        tuple(found),
    )


def audits_directory(site: str) -> Path:
    """Return where the audits of a site are kept on the control node."""
    return runs_root() / site / "audits"


def _targets(site: Site, names: tuple[str, ...], folder: Path) -> list[Target]:
    chosen_hosts, about = site.chosen(names), subjects(site)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    outside = Outside(*place_of(site), site.known_hosts)
    return [Target(site, host, about[host.name], outside, folder) for host in chosen_hosts]


def _held(site: Site, targets: list[Target], auditors: tuple[str, ...], on_begin: Begun) -> frozenset[tuple[str, str]]:
    """Return which controls that reasons rest on hold where: what is waived or left alone does not, nor what nobody could look at."""
    controls, names = needed(auditors or AUDITORS), tuple(target.host.name for target in targets)
    if not controls:
        return frozenset()
    for name in names:
        on_begin("verify", name)
    found: dict[tuple[str, str], set[Result]] = {}
    for row in verify(site, controls=controls, hosts=names, quick=True).findings:
        found.setdefault((row.control, row.host), set()).add(row.result)
    return frozenset(pair for pair, results in found.items() if results <= {Result.PASS, Result.NOT_APPLICABLE})


def _run(module: Auditor, target: Target) -> tuple[Audited, frozenset[str]]:
    """Run one auditor on one host; whatever becomes of it is a result, never a pass by silence."""
    plain = Audited(module.NAME, target.host.name, Result.ERROR, vantage=module.VANTAGE or str(target.outside.point))
    began, around = time.monotonic(), frozenset[str]()
    try:
        reading, raw = module.audit(target)
    except NotApplicable as why:
        plain = replace(plain, result=Result.NOT_APPLICABLE, reason=str(why))
    except NotHere as why:
        plain = replace(plain, result=Result.NOT_TESTED, reason=str(why), hint=why.hint)
    except RatssaalError as error:
        plain = replace(plain, reason=str(error), hint=error.problems[0].hint)
    except OutOfTime as error:
        plain = replace(plain, reason=str(error), hint="run it alone: --auditor NAME --host HOST")
    except Exception as error:
        # An auditor that surprises us must not take the others' results along.
        plain = replace(plain, reason=f"{type(error).__name__}: {error}")
    else:
        plain, around = _read(plain, reading, raw), reading.around
    return replace(plain, seconds=round(time.monotonic() - began, 1)), around


def _read(plain: Audited, reading: Reading, raw: tuple[str, ...]) -> Audited:
    findings = tuple(
        AuditFinding(plain.auditor, plain.host, name, severity, text) for name, severity, text in reading.findings
    )
    plain = replace(plain, figures=reading.figures, version=reading.version, findings=findings, raw=raw)
    return replace(plain, reason=reading.problem) if reading.problem else replace(plain, result=Result.PASS)


def judged(
    audited: Audited,
    waivers: tuple[Waiver, ...],
    site: Site,
    today: date,
    *,
    around: frozenset[str] = frozenset(),
    held: Collection[tuple[str, str]] = (),
) -> Audited:
    """Return an auditor's outcome with what is accepted marked, by our roles' list and by the site's waivers. Pure."""
    circumstances = around | {"lab"} if site.lab else around
    findings = waive(accept(audited.findings, chosen(site.settings).name, circumstances, held), waivers, today)
    return replace(
        audited, findings=findings, result=result_of(findings) if audited.result is Result.PASS else audited.result
    )
