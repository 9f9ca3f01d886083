"""`ratssaal preflight`: look, touch nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.errors import PreflightFailed, Problem, RatssaalError, Unreachable, UsageError

if TYPE_CHECKING:
    from orchestrator.inventory.site import Site
    from orchestrator.operations.preflight import Report


@click.command()
@site_argument
@click.option(
    "--accept-keys",
    is_flag=True,
    help="Show unknown or changed host keys, and the key that signs Jitsi's packages where the site has none; pin each after a yes.",
)
@click.option("--yes", is_flag=True, help="Pin the shown keys without asking.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def preflight(site: SiteArgument, accept_keys: bool, yes: bool, as_json: bool) -> int:
    """Look whether SITE is ready for provisioning; touch nothing.

    \b
    Looks at
      - the inventory and the vault: all mistakes at once, with file and line
      - SSH: log-in, pinned host keys, root rights
      - each host in one round trip: distribution, memory, disk, taken ports,
        package locks, clock, the package repository as the host reaches it,
        people who meet there now: what restarts a service throws them out
      - certificate files, the vendor's key, DNS
      - whom `ratssaal harden` would shut out, and whether sshd would heed it:
        notes here; what must fail stops `harden` before it begins

    Exit codes: 0 ready (warnings allowed), 3 not ready, 4 a host cannot be reached.
    """
    from orchestrator.operations.preflight import inspect

    with site.vault() as access:
        loaded = site.load(access)
    if accept_keys:
        _accept_host_keys(loaded, yes=yes)
        _accept_vendor_key(loaded, yes=yes)
        with site.vault() as access:
            loaded = site.load(access)
    report = inspect(loaded)
    if as_json:
        click.echo(json.dumps(_as_json(loaded, report), indent=2))
    else:
        _show(loaded, site, report)
    return _verdict(report, answered=as_json)


def _verdict(report: Report, *, answered: bool) -> int:
    """Raise what keeps the site from being ready; where it is in the answer already, tell it people only."""
    try:
        report.require()
    except RatssaalError as error:
        if not answered:
            raise
        return console.fail(error)
    return 0


def _accept_host_keys(site: Site, *, yes: bool) -> None:
    from orchestrator.transport.knownhosts import known_name, pin_host_key, pinned_keys
    from orchestrator.transport.ssh import fetch_host_key

    for host in site.hosts:
        try:
            key, pinned = fetch_host_key(host), pinned_keys(host, site.known_hosts)
        except Unreachable:
            # What is looked at next tells it, with all the rest.
            continue
        if key in pinned:
            continue
        known = {other.kind: other.fingerprint for other in pinned}
        state = f"CHANGED, pinned until now: {', '.join(known.values())}" if known else "not pinned yet"
        console.say(f"{host.name} ({known_name(host)}): {key.kind} {key.fingerprint} ({state})")
        _confirm("the host key", "Is this what `ssh-keygen -lf` prints on the host itself?", yes=yes)
        pin_host_key(host, site.known_hosts, key)
        console.say(f"pinned in {site.known_hosts}")


def _accept_vendor_key(site: Site, *, yes: bool) -> None:
    from orchestrator.operations.vendor_key import UPSTREAM_KEY, fetch_vendor_key, pin_vendor_key

    try:
        key = fetch_vendor_key(site)
    except PreflightFailed as error:
        # What is looked at next says that the key is missing, among all the rest.
        _show_notes(error.problems)
        return
    if key is None:
        return
    for each in key.keys:
        users = ", ".join(each.users) or "nobody's name"
        console.say(f"{UPSTREAM_KEY}: {each.fingerprint} of {each.made}, {users} (not pinned yet)")
    console.say(
        "Upstream publishes no fingerprint beside it. Compare with what another network fetches, or a server that runs Jitsi"
        " holds: gpg --show-keys /etc/apt/keyrings/*jitsi* /usr/share/keyrings/*jitsi*"
    )
    _confirm("the key of the packages", "May packages that this signs be installed?", yes=yes)
    console.say(f"pinned in {pin_vendor_key(site, key)}")


def _confirm(what: str, question: str, *, yes: bool) -> None:
    if yes:
        return
    if not console.interactive():
        raise UsageError(f"nobody can confirm {what}", hint="compare the fingerprint, then add --yes")
    if not click.confirm(question, err=True):
        raise PreflightFailed([Problem(f"{what} is not pinned", hint="pin nothing but what you have compared")])


def _show(site: Site, argument: SiteArgument, report: Report) -> None:
    _show_notes(report.warnings)
    console.undecided(report.undecided)
    if report.fit:
        hosts = "host is" if len(site.hosts) == 1 else "hosts are"
        console.say(f"{site.name}: {len(site.hosts)} {hosts} ready. Next: ratssaal plan {argument.text}")


def _show_notes(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        console.say(f"note: {problem}" + (f"\n      {problem.hint}" if problem.hint else ""))


def _as_json(site: Site, report: Report) -> dict[str, Any]:
    return {
        "site": site.name,
        "ready": report.fit,
        "blocking": [asdict(problem) for problem in report.blocking],
        "unreachable": [asdict(problem) for problem in report.unreachable],
        "warnings": [asdict(problem) for problem in report.warnings],
        "undecided": list(report.undecided),
        "hosts": {
            name: {
                key: value
                for key, value in facts.items()
                if key not in {"sockets", "repository", "sshd", "sshd_before"}
            }
            for name, facts in report.facts.items()
        },
    }
