"""The SITE argument and the vault's password options, alike on every command."""

from __future__ import annotations

import functools
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import console
from orchestrator.errors import InvalidSite, Problem, UsageError

if TYPE_CHECKING:
    from orchestrator.inventory.site import Site
    from orchestrator.inventory.vault import VaultAccess

SITES = Path("inventories")


@dataclass(frozen=True, slots=True)
class SiteArgument:
    """Which site is meant, and where its vault's password comes from."""

    path: Path
    password_file: Path | None = None
    password_command: str = ""

    @property
    def text(self) -> str:
        """Return the site as a person would type it into a shell."""
        if self.path.parent == SITES:
            return shlex.quote(self.path.name)
        return shlex.quote(str(self.path) if place_of(str(self.path)) == self.path else f"./{self.path}")

    def vault(self) -> VaultAccess:
        """Return the way to the vault's password; it asks only at a terminal."""
        from orchestrator.inventory.vault import VaultAccess

        def ask() -> str:
            return str(click.prompt(f"Vault password of {self.path.name}", hide_input=True, err=True))

        return VaultAccess.locate(
            self.path,
            password_file=self.password_file,
            password_command=self.password_command,
            ask=ask if console.interactive() else None,
        )

    def load(self, access: VaultAccess) -> Site:
        """Return the typed site; raises InvalidSite with all problems."""
        from orchestrator.inventory.site import load_site

        return load_site(self.path, access)


def site_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument SITE and the vault's options; it receives one `site: SiteArgument`."""

    @click.argument("site", required=False, default="")
    @click.option("--vault-password-file", type=click.Path(path_type=Path), help="File with the vault's password.")
    @click.option("--vault-password-command", default="", help="Command that prints the vault's password.")
    @functools.wraps(function)
    def wrapper(
        *args: Any, site: str, vault_password_file: Path | None, vault_password_command: str, **options: Any
    ) -> Any:
        chosen = SiteArgument(find_site(site), vault_password_file, vault_password_command)
        return function(*args, site=chosen, **options)

    return wrapper


def place_of(text: str) -> Path:
    """Return which directory a person means: a name is one below ./inventories; with a / inside or a dot it is a path."""
    name = text.rstrip("/")
    return Path(text) if "/" in name or name in {"", ".", ".."} else SITES / name


def find_site(text: str) -> Path:
    """Return a site's directory: by its path, by its name below ./inventories, or the only one there."""
    if text:
        for path in (place_of(text), Path(text)):
            if _is_directory(path):
                return path
        known = ", ".join(_known()) or "none"
        raise UsageError(f"there is no site {text}", hint=f"known below ./{SITES}: {known}; or give a path")
    known_sites = _known()
    if len(known_sites) == 1:
        return SITES / known_sites[0]
    hint = f"name one of: {', '.join(known_sites)}" if known_sites else "ratssaal new SITE makes one"
    raise UsageError("which site?" if known_sites else f"there is no site below ./{SITES}", hint=hint)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except PermissionError as error:
        hint = f"it belongs to somebody else: ls -ld {path.parent}"
        raise InvalidSite([Problem(f"cannot be read: {error.strerror}", str(path), hint)]) from error
    except OSError:  # such as a name that is too long for any directory
        return False


def _known() -> list[str]:
    found = sorted(path.parent.name for path in SITES.glob("*/hosts.yml"))
    own = [name for name in found if not name.startswith("example-")]
    return own or found
