"""`ratssaal verify`: prove what the hosts really are."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.caller import give_to_caller
from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.errors import UsageError
from orchestrator.evidence.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from orchestrator.evidence.results import Finding, Report
    from orchestrator.inventory.site import Site
    from orchestrator.inventory.vault import VaultAccess


@click.command()
@site_argument
@click.option("--control", "controls", multiple=True, metavar="ID", help="Only this control; may be repeated.")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only this host; may be repeated.")
@click.option("--quick", is_flag=True, help="Look from inside only.")
@click.option("--converge", "with_converge", is_flag=True, help="Run a converge in check mode, too, for CHG-01.")
@click.option("--json", "as_json", is_flag=True, help="Answer with the canonical JSON report.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="For reports.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write the JUnit report here, too.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report for people here, too (one file).")
@click.option(
    "--language", type=click.Choice(["de", "en"]), default="de", show_default=True, help="Of the HTML report."
)
def verify(
    site: SiteArgument,
    controls: tuple[str, ...],
    hosts: tuple[str, ...],
    quick: bool,
    with_converge: bool,
    as_json: bool,
    out: Path,
    junit: Path | None,
    html: Path | None,
    language: str,
) -> int:
    """Look at the hosts of SITE from inside and from outside and say what holds; change nothing.

    From outside it looks as a client and as an attacker would, from the vantage point that verification_vantage declares
    (else from the control node); every such finding names it. Only a pass is a pass: what could not be looked at says so.
    Accepted failures stand in compliance/waivers.yml (control, host, who, why, until).

    The reports go to ./reports: SITE.html for people, SITE.json, SITE.xml (JUnit); with --json nothing is written but what
    is asked for.

    \b
    Exit codes: 0 nothing failed, 3 invalid site or waivers, 6 something failed
    or could not be decided (an unreachable host, too), or nothing was tested.
    """
    with site.vault() as access:
        loaded = site.load(access)
        files = {} if as_json else report_files(out, loaded.name)
        require_writable(*files.values(), *(path for path in (junit, html) if path is not None))
        changes = _would_change(loaded, access) if with_converge else None
    report = run_verification(
        loaded, controls, hosts, quick=quick, changes=changes, quiet=as_json and not console.watched()
    )
    _write_named(report, junit, html, language)
    if as_json:
        from orchestrator.evidence.document import canonical_json

        click.echo(canonical_json(report), nl=False)
    else:
        show_summary(report)
        write_reports(report, files, language)
        click.echo(files["html"])
    return int(report.exit_code)


def _would_change(site: Site, access: VaultAccess) -> dict[str, dict[str, Any]]:
    from orchestrator.cli.progress import RunProgress
    from orchestrator.operations.check_mode import would_change

    with RunProgress(check=True) as progress:
        return would_change(site, access, progress)


def run_verification(
    site: Site,
    controls: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    *,
    quick: bool = False,
    changes: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Report:
    """Verify with a line per result on standard error, unless it is to be quiet."""
    from orchestrator.cli.progress import LookProgress
    from orchestrator.verification.runner import verify as look

    look_at_site = partial(look, site, controls=controls, hosts=hosts, quick=quick, converge=changes)
    if quiet:
        return look_at_site()
    with LookProgress() as progress:
        return look_at_site(on_result=progress.result)


def _write_named(report: Report, junit: Path | None, html: Path | None, language: str) -> None:
    from orchestrator.evidence.html import html_page
    from orchestrator.evidence.junit import junit_xml

    for path, text in (
        (junit, junit_xml(report) if junit else ""),
        (html, html_page(report, language) if html else ""),
    ):
        if path is not None:
            write_file(path, text)
            console.say(f"wrote {path}")


def report_files(out: Path, stem: str) -> dict[str, Path]:
    """Return where the report's three forms lie below `out`, by kind."""
    return {kind: (out / f"{stem}.{kind}").resolve() for kind in ("html", "json", "xml")}


def write_reports(report: Report, files: Mapping[str, Path], language: str = "de") -> None:
    """Write the report in its three forms, as `report_files` names them."""
    from orchestrator.evidence.document import canonical_json
    from orchestrator.evidence.html import html_page
    from orchestrator.evidence.junit import junit_xml

    texts = {"html": html_page(report, language), "json": canonical_json(report), "xml": junit_xml(report)}
    for kind, text in texts.items():
        write_file(files[kind], text)


def require_writable(*files: Path) -> None:
    """Raise UsageError where one of the files could not be written: better before everything is looked at than after."""
    for file in files:
        there = next(path for path in (file, *file.absolute().parents) if path.exists())
        if file.is_dir() or (there != file and not there.is_dir()):
            raise _unwritable(file, "it is a directory" if there == file else f"{there} is a file")
        if not os.access(there, os.W_OK if there == file else os.W_OK | os.X_OK):
            raise _unwritable(file, "not allowed", there)


def _unwritable(file: Path, why: str, forbidden: Path | None = None) -> UsageError:
    hint = "name another place (--out, --junit, --html)"
    # What root left behind is given back; a directory further up may hold more than reports.
    if forbidden in (file, file.parent):
        hint = f'sudo chown -R "$USER" {shlex.quote(str(forbidden))}, or {hint}'
    return UsageError(f"the report cannot be written: {why}", where=str(file), hint=hint)


def write_file(file: Path, text: str) -> None:
    """Write a file and the directories above it that are missing; what is new belongs to whoever called by sudo."""
    missing = [folder for folder in file.absolute().parents if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(file, str(error.strerror)) from error
    give_to_caller(file, *missing)


def say_standins(report: Report) -> None:
    """Say on standard error where a report does not rest on upstream's own packages, or where nobody could see that."""
    if report.standins:
        console.say("This rests on STAND-INS for Jitsi's own packages: it proves the way, not upstream's code.")
    elif report.standins is None:
        console.say(
            "Not known whether every host runs Jitsi's own packages or STAND-INS for them: not all could be asked."
        )


def counted(report: Report) -> str:
    """Return every kind of result with its number; that nothing failed is said, too."""
    from orchestrator.evidence.results import Result

    return ", ".join(f"{report.count(result)} {result.value.replace('_', ' ')}" for result in Result)


def _to_do(findings: Iterable[Finding]) -> Iterator[tuple[Finding, list[str]]]:
    """Yield what failed or could not be checked with its controls: what kept many checks from a host is told once."""
    from orchestrator.evidence.results import Result

    same: dict[Finding, list[str]] = {}
    for finding in findings:
        if finding.result is Result.FAIL:
            same[finding] = [finding.control]
        elif finding.result is Result.ERROR:
            same.setdefault(replace(finding, control=""), []).append(finding.control)
    yield from same.items()


def show_summary(report: Report) -> None:
    """Print what a person needs to know: stand-ins first, every kind of result counted, then what to repair."""
    from orchestrator.cli.progress import detail

    say_standins(report)
    if report.inside_only:
        console.say("Seen from inside only: what shows from outside was not looked at, not even of what passed.")
    click.echo(counted(report))
    for finding, controls in _to_do(report.findings):
        console.say(f"{', '.join(controls)} on {finding.host}: {detail(finding)}")
        if finding.wanted and finding.reason:
            console.say(f"  {one_line(finding.reason)}")
        if finding.remedy:
            console.say(f"  hint: {finding.remedy}")
    if report.nothing_tested:
        console.say("Nothing was tested: this is evidence of nothing.")
        for finding in report.findings:
            console.say(f"  {finding.control} on {finding.host}: {detail(finding)}")
    trips = ", ".join(f"{name} {number}" for name, number in report.round_trips.items())
    console.say(f"round trips: {trips}; {report.seconds['together']:.1f} s together")
