"""`ratssaal plan`: what would happen, touching nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument

if TYPE_CHECKING:
    from orchestrator.engine.plan import Plan
    from orchestrator.inventory.site import Site


@click.command()
@site_argument
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def plan(site: SiteArgument, as_json: bool) -> None:
    """Show what `provision` and `harden` would do to SITE, in order; touch nothing, connect nowhere.

    What would really change on the hosts as they are now tells `ratssaal provision --harden --check`.
    """
    from orchestrator.operations.converge import converge_plan

    with site.vault() as access:
        loaded = site.load(access)
    steps = converge_plan(loaded, "provision+harden")
    answer = _describe(loaded, steps)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _show(loaded, steps, answer)


def _describe(site: Site, steps: Plan) -> dict[str, Any]:
    from orchestrator.inventory import derivations

    return {
        "site": site.name,
        "steps": [asdict(step) for step in steps.steps],
        "hosts": {
            host.name: {
                "address": host.address,
                "address6": host.address6,
                "groups": list(host.groups),
                "flows": derivations.flows(site.topology, host.name),
                "certificate_names": derivations.certificate_names(site.topology, host.name),
            }
            for host in site.hosts
        },
        "repository": site.settings.get("vendor_repository_url"),
        "versions": dict(site.settings.get("vendor_repository_versions") or {}),
        "undecided": list(site.undecided),
    }


def _show(site: Site, steps: Plan, answer: dict[str, Any]) -> None:
    click.echo(f"{site.name}: {site.settings['jitsi_domain']}")
    for name, host in answer["hosts"].items():
        click.echo(f"\n{name}  {host['address']}  {host['address6']}".rstrip())
        click.echo(f"  runs: {', '.join(host['groups'])}")
        click.echo(f"  certificate for: {', '.join(host['certificate_names'])}")
        click.echo("  let in, everything else is dropped:")
        for flow in host["flows"]:
            sources = "anywhere" if {"0.0.0.0/0", "::/0"} <= set(flow["sources"]) else ", ".join(flow["sources"])
            click.echo(f"    {flow['port']!s:>11}/{flow['proto']}  {flow['purpose']}, from {sources}")
    versions = ", ".join(f"{k} {v}" for k, v in answer["versions"].items()) or "the newest at the first run, then held"
    click.echo(f"\nJitsi's packages: {answer['repository']} ({versions})\n\nSteps")
    for number, step in enumerate(steps.steps, 1):
        click.echo(f"  {number:2}. {step.name:<20} {', '.join(step.hosts)}")
    console.undecided(answer["undecided"])
