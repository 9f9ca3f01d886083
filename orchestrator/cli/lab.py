"""`ratssaal lab`: throwaway hosts on this machine."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.errors import RatssaalError, UsageError

if TYPE_CHECKING:
    from orchestrator.lab.hosts import LabHost
    from orchestrator.lab.site import LabSite


@click.group()
def lab() -> None:
    """Throwaway Debian hosts on this machine, with a site that describes them.

    Each lab has a network of its own (198.18.N.0/24 and 2001:2:0:N::/64, translated to this machine's uplink) and, in
    the network namespace rs-NAME-out, a place outside from which to look. Needs root.
    """


@lab.command()
@click.argument("name")
@click.option(
    "--debian", type=click.Choice(["12", "13"]), default="13", show_default=True, help="Release of the hosts."
)
@click.option(
    "--driver",
    type=click.Choice(["container", "vm"]),
    default="container",
    show_default=True,
    help="Containers share this machine's kernel and start in seconds; virtual machines have Debian's own.",
)
@click.option("--hosts", type=click.IntRange(1, 50), default=1, show_default=True, help="How many hosts.")
@click.option("--without-repository", is_flag=True, help="Do not build and serve stand-ins for Jitsi's own packages.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def up(name: str, debian: str, driver: str, hosts: int, without_repository: bool, as_json: bool) -> None:
    """Start lab NAME, or what of it does not run yet.

    The first start of a day, or after a security update of what is in it, builds a release's root file system (about a
    minute); others take seconds. A lab that failed or was killed half-way is completed by another `up` and removed by `down`.
    """
    from orchestrator.lab.lab import Lab

    all_labs = Lab(console.say)
    site = all_labs.up(name, debian=int(debian), hosts=hosts, repository=not without_repository, driver=driver)
    if as_json:
        click.echo(json.dumps([row for row in all_labs.running() if row["lab"] == name], indent=2))
        return
    console.say(f"log in: ratssaal lab ssh {name}")
    console.say(f"vault password: {site.vault_password_file}")
    click.echo(site.path)


@lab.command()
@click.argument("name", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="Every lab on this machine.")
def down(name: str, everything: bool) -> None:
    """Remove lab NAME with everything that belongs to it, also what a crash left behind."""
    from orchestrator.lab.lab import Lab

    if bool(name) == everything:
        raise UsageError("which lab?", hint="ratssaal lab down NAME, or --all")
    driver = Lab(console.say)
    if everything:
        console.say(f"{len(driver.down_all())} labs removed")
    elif driver.down(name):
        console.say(f"lab {name} is removed")
    else:
        console.say(f"there was no lab {name}")


@lab.command()
@click.argument("name")
def snapshot(name: str) -> None:
    """Keep the disks of lab NAME as they are now; `revert` returns to them.

    The hosts are shut down for it and started again. The site that describes them is not part of the snapshot.
    """
    from orchestrator.lab.lab import Lab

    Lab(console.say).snapshot(name)
    console.say(f"kept; undo later changes by: ratssaal lab revert {name}")


@lab.command()
@click.argument("name")
def revert(name: str) -> None:
    """Put the hosts of lab NAME back to their last snapshot, and start them."""
    from orchestrator.lab.lab import Lab

    Lab(console.say).revert(name)
    console.say(f"lab {name} is as it was at its last snapshot")


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def ls(as_json: bool) -> None:
    """List the hosts of all labs on this machine."""
    from orchestrator.lab.lab import Lab

    driver = Lab()
    rows, half_made = driver.running(), driver.half_made()
    if as_json:
        click.echo(json.dumps({"hosts": rows, "left_behind": half_made}, indent=2))
        return
    for row in rows:
        state = "running" if row["running"] else "stopped"
        click.echo(f"{row['lab']} {row['host']}: Debian {row['debian']}, {state}, {row['address']}, {row['address6']}")
        click.echo(f"  site {row['site']}")
    for name, found in half_made.items():
        click.echo(f"{name}: left behind by a crash: {', '.join(found)}")
        click.echo(f"  hint: ratssaal lab down {name}")
    if not rows and not half_made:
        console.say("no labs; ratssaal lab up NAME starts one")


@lab.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("--host", "host_name", default="h1", show_default=True, help="Which host.")
@click.option("--user", default="root", show_default=True, help="root, or operator for a user with sudo.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, host_name: str, user: str, command: tuple[str, ...]) -> None:
    """Log in to a host of lab NAME, or run COMMAND on it."""
    site, host = _find(name, host_name)
    argv = ["ssh", "-i", str(site.key_file), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]
    argv += ["-o", f"UserKnownHostsFile={site.known_hosts}", f"{user}@{host.address}", *command]
    os.execvp(argv[0], argv)


@lab.command()
@click.argument("name")
@click.option("--host", "host_name", default="h1", show_default=True, help="Which host.")
@click.option("--unit", default="", help="Only this unit's entries.")
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@click.option("--console", "only_console", is_flag=True, help="What the host said on its console while it booted.")
def logs(name: str, host_name: str, unit: str, follow: bool, only_console: bool) -> None:
    """Show the journal of a host of lab NAME, a container's past its network: also when it cannot be reached by SSH."""
    from orchestrator.errors import Unreachable
    from orchestrator.lab.machines import enter_argv
    from orchestrator.lab.vm import ssh_argv

    _, host = _find(name, host_name)
    argv = ["journalctl", "--no-pager", *(["--follow"] if follow else []), *([f"--unit={unit}"] if unit else [])]
    if host.driver == "vm" and not only_console:
        argv = ssh_argv(host, *argv)
    elif only_console:
        argv = ["tail", *(["--follow"] if follow else []), "--lines=+1", str(host.console)]
    else:
        try:
            argv = enter_argv(host, argv)
        except Unreachable:
            console.say(f"{host_name} is not running; its journal as far as it lies on disk:")
            argv = [*argv, "--directory", str(host.root / "var/log/journal")]
    os.execvp(argv[0], argv)


def _find(name: str, host_name: str) -> tuple[LabSite, LabHost]:
    from orchestrator.lab.lab import Lab, check_able

    check_able(name)
    site = Lab().site(name)
    for host in site.hosts:
        if host.name == host_name:
            return site, host
    known = ", ".join(host.name for host in site.hosts)
    raise UsageError(f"lab {name} has no host {host_name}", hint=f"it has {known}")


if __name__ == "__main__":
    try:
        lab()
    except RatssaalError as error:
        raise SystemExit(console.fail(error)) from error
