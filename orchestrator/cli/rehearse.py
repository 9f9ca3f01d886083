"""`ratssaal rehearse`: the whole path on a throwaway host."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.errors import UsageError
from orchestrator.exitcodes import ExitCode

if TYPE_CHECKING:
    from orchestrator.cli.progress import Phases
    from orchestrator.evidence.results import Report
    from orchestrator.lab.site import LabSite


@click.command()
@click.option("--debian", type=click.Choice(["12", "13"]), default="13", show_default=True, help="Release of the host.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="For reports.")
@click.option(
    "--repository-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take Jitsi's own packages, signed by the key in this file, instead of the stand-ins.",
)
@click.option("--repository-url", default="", help="Where they lie; upstream's repository unless another is named.")
@click.option("--keep", is_flag=True, help="Leave the lab running afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def rehearse(
    debian: str, out: Path, repository_key: Path | None, repository_url: str, keep: bool, as_json: bool
) -> int:
    """Provision, harden and verify a Jitsi Meet server on a throwaway host of this machine.

    Touches no server of yours. Needs root. The host is removed at the end, also after a failure.

    \b
    Exit codes: 0 no finding (what could not be tested on a lab host is
    counted apart), 2 not as root or a program is missing, 3 the host is not
    fit (as a rule this machine's memory), 4 it does not come up, 5 a task
    failed, 6 verification found something.
    """
    from orchestrator.cli.progress import Phases
    from orchestrator.cli.verify import report_files, require_writable, write_reports
    from orchestrator.lab.lab import Lab

    if repository_url and repository_key is None:
        raise UsageError("a repository needs the key that signs it", hint="--repository-key FILE")
    files = report_files(out, "rehearsal")
    require_writable(*files.values())
    name, driver, phases = _lab_name(os.getpid()), Lab(console.say), Phases()
    phases.begin("Lab host")
    # One that does not come up is removed by the lab itself.
    site = driver.up(name, debian=int(debian), repository=repository_key is None)
    try:
        if repository_key is not None:
            _take_packages(site.path, repository_key, repository_url)
        report = _provision_and_verify(site, phases)
        write_reports(report, files)
    finally:
        phases.begin("Clean up")
        if keep:
            console.say(f"the lab stays: ratssaal lab ssh {name}; ratssaal lab down {name} removes it")
        else:
            driver.down(name)
        phases.end()
    _summary(report, files, phases, as_json)
    return int(report.exit_code)


def _take_packages(site: Path, key: Path, url: str) -> None:
    chosen = {"vendor_repository_key": str(key.resolve()), **({"vendor_repository_url": url} if url else {})}
    with (site / "group_vars/all/site.yml").open("a") as handle:
        handle.writelines(f"{name}: {json.dumps(value)}\n" for name, value in chosen.items())


def _lab_name(pid: int) -> str:
    """Return a lab's name, at most 12 letters and digits, that no other rehearsal has at the same time."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return "rehearse" + "".join(digits[pid // 36**place % 36] for place in (3, 2, 1, 0))


def _provision_and_verify(site: LabSite, phases: Phases) -> Report:
    from orchestrator.cli.change import converge
    from orchestrator.cli.verify import run_verification
    from orchestrator.engine.executor import Options
    from orchestrator.inventory.site import load_site
    from orchestrator.inventory.vault import VaultAccess
    from orchestrator.operations.preflight import inspect

    with VaultAccess.locate(site.path, password_file=site.vault_password_file) as access:
        phases.begin("Preflight")
        loaded = load_site(site.path, access)
        inspect(loaded, hardens=True).require()
        phases.begin("Provision and harden")
        converge(loaded, access, "provision+harden", Options())
        phases.begin("Verify")
        return run_verification(loaded)


def _summary(report: Report, files: dict[str, Path], phases: Phases, as_json: bool) -> None:
    from orchestrator.cli.verify import counted, say_standins
    from orchestrator.evidence.results import Result

    if as_json:
        counts = {result.value: report.count(result) for result in Result}
        answer = {"counts": counts, "files": {k: str(v) for k, v in files.items()}, "seconds": phases.seconds}
        click.echo(json.dumps(answer, indent=2))
        return
    total = sum(phases.seconds.values())
    console.say("")
    for name, seconds in phases.seconds.items():
        bar = "█" * round(30 * seconds / total)
        console.say(f"  {name:<22} {seconds:6.1f} s  {bar}")
    console.say(f"  {'together':<22} {total:6.1f} s\n")
    say_standins(report)
    console.say(counted(report))
    click.echo(files["html"])
    verdict = "The rehearsal succeeded." if report.exit_code == ExitCode.OK else "The rehearsal found something."
    console.say(verdict)
