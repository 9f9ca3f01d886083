"""`ratssaal status`: how the hosts are."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.exitcodes import ExitCode

if TYPE_CHECKING:
    from orchestrator.operations.status import HostStatus, Status


@click.command()
@site_argument
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def status(site: SiteArgument, as_json: bool) -> int:
    """Show how SITE's hosts and services are now; touch nothing.

    \b
    Exit codes: 0 all healthy, 4 a host cannot be reached, 6 something is wrong.
    """
    from orchestrator.operations.status import status as look

    with site.vault() as access:
        loaded = site.load(access)
    seen = look(loaded)
    if as_json:
        click.echo(json.dumps({**asdict(seen), "healthy": seen.healthy}, indent=2, default=str))
    else:
        _show(seen, site)
    if any(host.error for host in seen.hosts):
        return int(ExitCode.UNREACHABLE)
    return int(ExitCode.OK if seen.healthy else ExitCode.FINDINGS)


def _show(seen: Status, argument: SiteArgument) -> None:
    for host in seen.hosts:
        _show_host(host)
    if seen.lock:
        console.answer(f"locked by {seen.lock.get('owner')} since {seen.lock.get('since')}: {seen.lock.get('reason')}")
    if seen.last_run:
        run = seen.last_run
        console.answer(f"last run from here: {run.verb} by {run.owner}, {run.started}, {run.state}")
    console.undecided(seen.undecided, listed_by=f"ratssaal plan {argument.text}")


def _show_host(host: HostStatus) -> None:
    if host.error:
        console.answer(f"{host.name}: cannot be looked at: {host.error}", colour="red")
        return
    console.answer(f"{host.name}: {'; '.join(host.faults) or 'healthy'}", colour="red" if host.faults else "green")
    for name, row in host.facts["units"].items():
        memory = f"{row['memory_mb']} MB" if row["memory_mb"] is not None else ""
        version = host.facts["packages"].get(name, "")
        console.answer(f"  {name:<20} {row['state']:<9} since {row['since']}  {memory:>8}  {version}".rstrip())
    for bridge in host.facts["bridges"] or ():
        state = "operational" if bridge["operational"] else "NOT operational"
        console.answer(f"  Jicofo sees bridge {bridge['name']}: {state}, stress {bridge['stress']}")
    if host.facts["conferences"] is not None:
        console.answer(f"  conferences now: {host.facts['conferences']}")
    if host.facts["certificate_until"]:
        console.answer(f"  certificate until {host.facts['certificate_until']}")
    if host.facts["reboot_required"]:
        console.answer("  a reboot is waiting")
