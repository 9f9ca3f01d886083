"""`ratssaal unlock`: clear a dead run's lock."""

from __future__ import annotations

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument


@click.command()
@site_argument
@click.option("--reason", required=True, help="Why the run that holds the lock is dead; kept on the host.")
def unlock(site: SiteArgument, reason: str) -> None:
    """Clear the lock that lies on SITE's first host.

    Only needed when another control node died in the middle of a run: a killed run of this one is recognised by itself.
    """
    from orchestrator.engine import lock

    with site.vault() as access:
        loaded = site.load(access)
    held = lock.clear(loaded, reason)
    if held is None:
        console.say("there is no lock")
    else:
        console.say(f"cleared: {held.get('owner')}, {held.get('reason')}, since {held.get('since')}")
