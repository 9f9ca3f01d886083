"""`ratssaal users`: the accounts that may open a room."""

from __future__ import annotations

import json
import secrets
import string
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import console, streams
from orchestrator.cli.siteargument import SiteArgument, site_argument
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.inventory.vault import VaultAccess

# Without look-alikes, because people read these aloud and type them.
_LETTERS = "".join(c for c in string.ascii_letters + string.digits if c not in "0O1lI")
_GROUPS, _GROUP_LENGTH = 4, 5


@click.group()
def users() -> None:
    """Add, remove and list the accounts that may open a room.

    The accounts stand in the site's encrypted vault. A change takes effect with the next `ratssaal provision`.
    They exist only where people log in with internal accounts (jitsi_auth: internal).
    """


@users.command()
@click.argument("name")
@site_argument
@click.option("--reset", is_flag=True, help="Give an existing account a new password.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def add(name: str, site: SiteArgument, reset: bool, as_json: bool) -> None:
    """Add the account NAME and print its generated password, once.

    To undo: `ratssaal users remove NAME`.
    """
    from orchestrator.inventory import formats
    from orchestrator.inventory.vault import changed_vault

    fault = formats.account(name)
    if fault:
        raise UsageError(fault[0], hint=fault[1])
    password = "-".join("".join(secrets.choice(_LETTERS) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    with site.vault() as access, changed_vault(site.path, access) as values:
        accounts = _accounts(values)
        if name in accounts and not reset:
            hint = f"ratssaal users add --reset {name} {site.text} gives it a new password"
            raise UsageError(f"the account {name} exists already", hint=hint)
        accounts[name] = password
        if not as_json:
            console.say(f"The password of {name} is shown this once:")
        # Before it is in the vault: nobody could ever log in with a password that was not seen.
        _show_once(json.dumps({"name": name, "password": password, "applied": False}) if as_json else password)
    if not as_json:
        console.say(f"{name} is in the vault. {_when_it_works(site)}")


def _when_it_works(site: SiteArgument) -> str:
    from orchestrator.inventory.yamlfiles import read_files

    chosen = read_files(site.path).find("jitsi_auth")
    how = str(chosen.node.value) if chosen else "internal"
    if how != "internal":
        return f"It does not work as long as people log in otherwise (jitsi_auth: {how})."
    return f"The password works after: ratssaal provision {site.text}"


def _show_once(text: str) -> None:
    """Print the password; raise UsageError where nobody gets it."""
    try:
        click.echo(text)
        lost = "its reader is gone" if streams.unread() else ""
    except OSError as error:
        lost = str(error.strerror)
    if lost:
        raise UsageError(f"the password cannot be shown: {lost}", hint="nothing was changed; call it at a terminal")


@users.command()
@click.argument("name")
@site_argument
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def remove(name: str, site: SiteArgument, as_json: bool) -> None:
    """Remove the account NAME from the vault.

    Meetings that it has opened go on. `ratssaal users add NAME` makes it anew, with another password.
    """
    from orchestrator.inventory.vault import changed_vault

    with site.vault() as access, changed_vault(site.path, access) as values:
        accounts = _accounts(values)
        if name not in accounts:
            raise UsageError(f"there is no account {name}", hint=_known(accounts))
        del accounts[name]
    if as_json:
        click.echo(json.dumps({"name": name, "removed": True, "applied": False}))
        return
    console.say(f"{name} is no longer in the vault. On the host it ends with: ratssaal provision {site.text}")


@users.command("list")
@site_argument
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def list_accounts(site: SiteArgument, as_json: bool) -> None:
    """List the accounts of the vault, without passwords."""
    with site.vault() as access:
        names = _names(site, access)
    if as_json:
        click.echo(json.dumps(names))
    elif names:
        click.echo("\n".join(names))
    else:
        console.say(f"No account yet: ratssaal users add NAME {site.text}")


def _names(site: SiteArgument, access: VaultAccess) -> list[str]:
    from orchestrator.inventory.vault import read_vault

    return sorted(_accounts(read_vault(site.path, access)))


def _accounts(values: dict[str, Any]) -> dict[str, Any]:
    """Return the vault's accounts to read or change; an empty `jitsi_accounts:` counts as none."""
    accounts = values.get("jitsi_accounts")
    if not isinstance(accounts, dict):
        accounts = values["jitsi_accounts"] = {}
    return accounts


def _known(accounts: dict[str, Any]) -> str:
    return f"known: {', '.join(sorted(accounts))}" if accounts else "there is none at all"
