"""`ratssaal provision` and `ratssaal harden`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.errors import PreflightFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from orchestrator.engine.executor import Options, RunResult
    from orchestrator.engine.plan import Plan
    from orchestrator.inventory.site import Site
    from orchestrator.inventory.vault import VaultAccess


def _change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--check", is_flag=True, help="Tell what would change; change nothing."),
        click.option("--diff", is_flag=True, help="Show the differences in files (never in secret ones)."),
        click.option("--limit", default="", metavar="HOST", help="Only this host."),
        click.option("--replace-altered", is_flag=True, help="Replace files that somebody altered since the last run."),
        click.option("--skip-preflight", is_flag=True, help="Do not look at the hosts first, nor for altered files."),
        click.option("--json", "as_json", is_flag=True, help="Answer as JSON."),
    ):
        function = option(function)
    return site_argument(function)


@click.command()
@click.option("--harden", "and_harden", is_flag=True, help="Harden in the same run.")
@_change_options
def provision(site: SiteArgument, and_harden: bool, **options: Any) -> None:
    """Install and configure the hosts of SITE.

    Safe to repeat: what is right stays untouched, what went wrong is repaired. Files whose content somebody altered since
    the last run are replaced only when you say so, at the terminal or by --replace-altered; --check --diff shows them. After
    an interruption or a kill the same command goes on. With --check nothing is changed. Only one run at a time works on a
    site.

    \b
    Exit codes: 0 done, 3 not ready (nothing was touched), 4 a host cannot be
    reached, 5 a task failed, 7 somebody else works on the site.
    """
    _change(site, "provision+harden" if and_harden else "provision", **options)


@click.command()
@_change_options
def harden(site: SiteArgument, **options: Any) -> None:
    """Harden the hosts of SITE: SSH, kernel settings, sandboxes of the services.

    A service is restarted where its sandbox changes; preflight says beforehand when people meet there.
    A change that would lock you out returns by itself: a second login is proven before the first is given up.
    Files that somebody altered since the last run are replaced only when you say so.

    Exit codes as of `ratssaal provision`.
    """
    _change(site, "harden", **options)


def _change(
    site: SiteArgument, verb: str, *, replace_altered: bool, skip_preflight: bool, as_json: bool, **options: Any
) -> None:
    from orchestrator.engine.executor import Options
    from orchestrator.operations.converge import converge_plan

    chosen = Options(**options)
    with site.vault() as access:
        loaded = site.load(access)
        loaded.chosen(_limited(chosen))
        if not skip_preflight:
            _preflight(loaded, verb, chosen)
            if not replace_altered:
                _ask_for_altered(loaded, converge_plan(loaded, verb), chosen)
        result = converge(loaded, access, verb, chosen)
    if chosen.diff:
        click.echo((result.path / "console.log").read_text(errors="replace"), err=as_json)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2, default=str))
        return
    _summary(loaded, site, verb, chosen, result)


def converge(site: Site, access: VaultAccess, verb: str, chosen: Options) -> RunResult:
    """Run a verb's plan with progress on standard error."""
    from orchestrator.cli.progress import RunProgress
    from orchestrator.engine.executor import execute
    from orchestrator.inventory.yamlfiles import show
    from orchestrator.operations.converge import converge_plan

    with RunProgress(check=chosen.check) as progress:
        result = execute(converge_plan(site, verb), site, access, progress, chosen)
    if result.lock_stays:
        console.say(f"note: the run is done, but its lock could not be given back: {result.lock_stays}")
        hint = f"ratssaal unlock {shlex.quote(show(site.path))} --reason 'the run is done'"
        console.say(f"      this machine's next run takes it over; on another machine: {hint}")
    return result


def _limited(chosen: Options) -> list[str]:
    """Return the hosts that a run is limited to; [] for all."""
    return [chosen.limit] if chosen.limit else []


def _preflight(site: Site, verb: str, chosen: Options) -> None:
    from orchestrator.operations.preflight import inspect

    report = inspect(site, _limited(chosen), hardens="harden" in verb)
    for warning in report.warnings:
        console.say(f"note: {warning}")
    report.require()


def _ask_for_altered(site: Site, plan: Plan, chosen: Options) -> None:
    """Name the files that somebody altered; raise PreflightFailed unless they may be replaced, or nothing is to change."""
    from orchestrator.operations.altered import altered

    found = altered(site, plan, _limited(chosen))
    if not found:
        return
    if chosen.check or console.interactive():
        for problem in found:
            console.say(f"note: {problem}")
        if chosen.check or click.confirm("Replace what was altered?", err=True):
            return
    hint = "--check --diff shows what; take what is to stay into the site, then run with --replace-altered"
    raise PreflightFailed([*found[:-1], replace(found[-1], hint=found[-1].hint or hint)])


def _summary(site: Site, argument: SiteArgument, verb: str, chosen: Options, result: RunResult) -> None:
    if result.took_over:
        console.say(f"The lock that run {result.took_over} left behind was taken over.")
    kind = "would change" if chosen.check else "changed"
    steps = "1 step" if len(result.steps) == 1 else f"{len(result.steps)} steps"
    console.say(f"{site.name}: {steps}, {result.changed} {kind}, {result.seconds:.0f} s")
    console.undecided(site.undecided, listed_by=f"ratssaal plan {argument.text}")
    console.say(f"journal: {result.path}")
    following = {"provision": "harden", "harden": "verify", "provision+harden": "verify"}[verb]
    if not chosen.check:
        console.say(f"Next: ratssaal {following} {argument.text}")
