"""`ratssaal drift`: what on the hosts differs from what was applied last."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.errors import UsageError
from orchestrator.evidence.visible import one_line
from orchestrator.exitcodes import ExitCode

if TYPE_CHECKING:
    from orchestrator.inventory.site import Site
    from orchestrator.operations.drift import Difference, HostDrift


@click.command()
@site_argument
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only this host; may be repeated.")
@click.option("--deep", is_flag=True, help="Let dpkg verify every packaged file, too; takes a while.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def drift(site: SiteArgument, hosts: tuple[str, ...], deep: bool, as_json: bool) -> int:
    """Show what on SITE's hosts differs from what was applied last; touch nothing.

    Each run of the playbooks notes on the host what it applied. One look at each host, all at the same time, compares
    files, packages, units, kernel settings, accounts and the firewall with that, and the listening sockets with those that
    follow from the inventory. Whether the inventory has changed since is another question: `verify --converge` answers it.

    \b
    Exit codes: 0 nothing differs, 4 a host cannot be reached (the others are
    still shown), 6 something differs, or a host has no manifest yet.
    """
    from orchestrator.operations.drift import drift as look

    with site.vault() as access:
        loaded = site.load(access)
    _check_hosts(loaded, hosts)
    if deep and not as_json:
        console.say("dpkg reads every packaged file; that may take a minute")
    printing = threading.Lock()

    def show(seen: HostDrift) -> None:
        with printing:
            _show(seen)

    found = look(loaded, hosts, deep=deep, on_host=(lambda seen: None) if as_json else show)
    clean = all(host.clean for host in found)
    if as_json:
        rows = [{**asdict(host), "drift": bool(host.differences)} for host in found]
        click.echo(json.dumps({"site": loaded.name, "clean": clean, "hosts": rows}, indent=2))
    if any(host.error for host in found):
        return int(ExitCode.UNREACHABLE)
    return int(ExitCode.OK if clean else ExitCode.FINDINGS)


def _check_hosts(site: Site, hosts: tuple[str, ...]) -> None:
    from orchestrator.operations.drift import hosts_with_roles

    known = [host.name for host in hosts_with_roles(site)]
    unknown = [name for name in hosts if name not in known]
    if unknown:
        raise UsageError(f"no role runs on a host {', '.join(unknown)}", hint=f"roles run on: {', '.join(known)}")


def _show(host: HostDrift) -> None:
    if host.error or not host.manifest:
        why = f"cannot be looked at: {host.error}" if host.error else "cannot be compared: nothing was noted there yet"
        console.answer(f"{host.name}: {why}", colour="red")
        if host.hint:
            console.say(f"  hint: {host.hint}")
        return
    count = len(host.differences)
    told = "no drift" if not count else "1 difference" if count == 1 else f"{count} differences"
    console.answer(f"{host.name}: {told} since {_applied(host)}", colour="red" if count else "green")
    for remedy, rows in groupby(sorted(host.differences, key=lambda row: row.remedy), key=lambda row: row.remedy):
        for row in rows:
            console.answer(f"  {one_line(_line(row))}")
        console.say(f"    hint: {remedy}")
    if host.other_tables:
        console.answer(f"  not ours: nftables {', '.join(host.other_tables)}")


def _line(row: Difference) -> str:
    by = f" [{row.role}]" if row.role else ""
    return f"{row.kind} {row.name}: {row.what}: {row.found} (wanted: {row.wanted}){by}"


def _applied(host: HostDrift) -> str:
    """Return when something was applied last; the manifest is never without a part."""
    last = datetime.fromtimestamp(max(part["at"] for part in host.applied), UTC)
    return f"{last:%Y-%m-%d %H:%M} UTC"
