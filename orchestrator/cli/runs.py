"""`ratssaal runs`: the journals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.errors import UsageError


@click.command()
@site_argument
@click.option(
    "--show", "run", default="", metavar="RUN", help="One run's journal; a unique beginning of its id is enough."
)
@click.option("--limit", default=20, show_default=True, help="How many of the latest runs.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def runs(site: SiteArgument, run: str, limit: int, as_json: bool) -> None:
    """Show who did what to SITE from this control node, when, with which result.

    A copy of each journal lies on the site's first host in /var/lib/ratssaal/journal.
    """
    from orchestrator.engine import journal

    records = journal.runs(Path(site.path).resolve().name)
    if run:
        found = [record for record in records if record.id.startswith(run)]
        if len(found) != 1:
            raise UsageError(f"{len(found)} runs begin with {run}", hint=f"ratssaal runs {site.text} lists them")
        click.echo(found[0].journal.read_text(encoding="utf-8", errors="replace"), nl=False)
        return
    if as_json:
        click.echo(json.dumps([asdict(record) for record in records[:limit]], indent=2, default=str))
        return
    for record in records[:limit]:
        where = f" in {record.step}" if record.step else ""
        click.echo(f"{record.id}  {record.owner}  {record.state}{where}  {record.changed} changed")
        if record.message:
            click.echo(f"    {record.message[:200]}")
    if not records:
        console.say("no runs yet")
