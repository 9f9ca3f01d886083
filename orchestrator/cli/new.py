"""`ratssaal new`: write a new site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import console
from orchestrator.cli.siteargument import SiteArgument, place_of

if TYPE_CHECKING:
    from orchestrator.inventory.scaffold import NewSite


@click.command()
@click.argument("site")
@click.option("--topology", default="jitsi-single", show_default=True, help="What runs where; jitsi-single: one host.")
@click.option("--domain", default="", help="The name of the conferences; may be edited later.")
@click.option("--address", default="", help="The host's own IP address; may be edited later.")
@click.option("--user", default="root", show_default=True, help="The user that SSH logs in as.")
@click.option("--vault-password-file", type=click.Path(path_type=Path), help="Encrypt with this password; made if new.")
@click.option("--vault-password-command", default="", help="Encrypt with the password that this command prints.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def new(
    site: str,
    topology: str,
    domain: str,
    address: str,
    user: str,
    vault_password_file: Path | None,
    vault_password_command: str,
    as_json: bool,
) -> None:
    """Write a new SITE: a plain Ansible inventory below ./inventories, or at a path.

    Two values are left to edit: the name (jitsi_domain) and the address (ansible_host). Every default stands in site.yml
    as a comment. Passwords, keys and the site's own certificate authority are generated into the encrypted
    vault; the vault's password goes to ~/.config/ratssaal/SITE.vault-password unless a file or command is given.
    An existing site is never overwritten. To undo: remove the directory and the password file.
    """
    from orchestrator.inventory import formats
    from orchestrator.inventory.scaffold import FirstHost, create_site
    from orchestrator.inventory.yamlfiles import show

    for option, value, check in (("--domain", domain, formats.fqdn), ("--address", address, formats.host_address)):
        fault = check(value) if value else None
        if fault:
            raise click.BadParameter(": ".join(fault), param_hint=option)
    chosen = SiteArgument(place_of(site))
    made = create_site(
        chosen.path,
        topology=topology,
        domain=domain,
        host=FirstHost(address, user=user),
        password_file=vault_password_file,
        password_command=vault_password_command,
    )
    wanted = (("group_vars/all/site.yml", "jitsi_domain", domain), ("hosts.yml", "ansible_host", address))
    edits = [f"{show(made.path / file)}: {key}" for file, key, value in wanted if not value]
    if as_json:
        answer = {"path": str(made.path), "password_file": str(made.password_file or ""), "edit": edits}
        click.echo(json.dumps(answer, indent=2))
    else:
        _tell(made, edits, chosen)


def _tell(made: NewSite, edits: list[str], chosen: SiteArgument) -> None:
    from orchestrator.inventory.yamlfiles import show

    console.say(f"Wrote {show(made.path)}")
    if made.password_file is not None:
        kind = "is new; keep a copy in a safe place" if made.password_generated else "was there already"
        console.say(f"The vault's password lies in {made.password_file} ({kind}).")
    for edit in edits:
        console.say(f"Edit {edit}")
    console.say(f"Then: ratssaal preflight {chosen.text} --accept-keys")
