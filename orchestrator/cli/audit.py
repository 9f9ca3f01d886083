"""`ratssaal audit`: what independent auditors say of the hosts."""

from __future__ import annotations

import json
import secrets
import shlex
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.cli.verify import require_writable, write_file
from orchestrator.evidence.visible import one_line

if TYPE_CHECKING:
    from orchestrator.inventory.site import Site
    from orchestrator.verification.audit.results import Audited, AuditFinding, AuditReport

# As orchestrator.verification.audit.results has them, without its imports: --help is to be quick.
_AUDITORS = ("lynis", "ssh-audit", "sslyze", "nmap", "systemd", "openscap")
_COLOURS = {"pass": "green", "waived": "green", "fail": "red", "error": "red"}
_WORDS = {"waived": "accepted"}


@click.command()
@site_argument
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only this host; may be repeated.")
@click.option(
    "--auditor", "auditors", multiple=True, type=click.Choice(_AUDITORS), help="Only this auditor; may be repeated."
)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the raw outputs and the report in this directory.")
@click.option(
    "--ssh-policy", type=click.Path(path_type=Path), help="Only write ssh-audit's policy file; look at nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def audit(
    site: SiteArgument,
    hosts: tuple[str, ...],
    auditors: tuple[str, ...],
    out: Path | None,
    ssh_policy: Path | None,
    as_json: bool,
) -> int:
    """Let independent auditors look at SITE's hosts, and keep what they say; repair nothing.

    Lynis (stock profile; it refreshes apt's package lists), systemd-analyze security and OpenSCAP look on the host, and
    nothing stays installed there; nmap (all TCP ports) and sslyze (the site's crypto profile) look from the vantage point,
    ssh-audit (by its own standards, and by the crypto profile as a policy) from the control node. An auditor that is not
    there is not tested, never passed. Each has its time; one that hangs is an error, and the others end.

    Findings that our roles mean so are accepted, each with its reason, where the controls hold on which it rests; these
    are verified first, from inside. A site's own stand in compliance/waivers.yml, with AUDITOR:ID in the place of a control.

    \b
    Exit codes: 0 nothing was found that is not accepted, 3 invalid site or
    waivers, 6 something was found or could not be judged (an unreachable
    host, too).
    """
    with site.vault() as access:
        loaded = site.load(access)
    if ssh_policy is not None:
        return _write_policy(loaded, ssh_policy)
    folder = out or _new_folder(loaded)
    require_writable(folder / "report.json")
    report = _look(loaded, hosts, auditors, folder, quiet=as_json and not console.watched())
    text = json.dumps({**asdict(report), "exit_code": report.exit_code}, indent=2, default=str) + "\n"
    file = Path(report.folder) / "report.json"
    write_file(file, text)
    if as_json:
        click.echo(text, nl=False)
    else:
        _show(report)
        click.echo(str(file))
    return report.exit_code


def _write_policy(site: Site, file: Path) -> int:
    from orchestrator.verification.audit.policies import ssh_audit_policy
    from orchestrator.verification.crypto import chosen

    require_writable(file)
    write_file(file, ssh_audit_policy(chosen(site.settings)))
    console.say(f"wrote {file}; use it so: ssh-audit -P {shlex.quote(str(file))} HOST")
    return 0


def _new_folder(site: Site) -> Path:
    from orchestrator.verification.audit.run import audits_directory

    return audits_directory(site.name) / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _look(site: Site, hosts: tuple[str, ...], auditors: tuple[str, ...], folder: Path, *, quiet: bool) -> AuditReport:
    from orchestrator.verification.audit.run import audit as look

    printing = threading.Lock()

    def begun(auditor: str, host: str) -> None:
        with printing:
            console.say(f"  {host:<12} {auditor:<10} looks")

    def ended(audited: Audited) -> None:
        with printing:
            click.echo(_line(audited), err=True)

    if quiet:
        return look(site, folder=folder, hosts=hosts, auditors=auditors)
    return look(site, folder=folder, hosts=hosts, auditors=auditors, on_begin=begun, on_end=ended)


def _line(audited: Audited) -> str:
    word = click.style(_word(audited), fg=_COLOURS.get(audited.result, "blue"))
    return f"  {audited.host:<12} {audited.auditor:<10} {word} {one_line(audited.reason or _figures(audited))} ({audited.seconds:.0f} s)"


def _word(audited: Audited) -> str:
    return _WORDS.get(audited.result, audited.result.replace("_", " "))


def _figures(audited: Audited) -> str:
    return ", ".join(f"{name} {value}" for name, value in audited.figures.items())


def _show(report: AuditReport) -> None:
    """Print one line an auditor, and below it what is to be done; the reasons of what is accepted stand in the report."""
    for audited in report.audits:
        open_ones = [finding for finding in audited.findings if finding.counts]
        accepted = sum(1 for finding in audited.findings if finding.accepted)
        told = audited.reason or f"{_figures(audited)}; {len(open_ones)} to be done, {accepted} accepted"
        version = f" {audited.version}" if audited.version else ""
        console.answer(f"{audited.host}: {audited.auditor}{version} ({audited.vantage}): {_word(audited)}: {told}")
        for finding in open_ones:
            console.answer(f"  {_found(finding)}")
        if audited.hint:
            console.say(f"  hint: {audited.hint}")


def _found(finding: AuditFinding) -> str:
    return one_line(f"{finding.severity:<6} {finding.id}: {finding.text}")
