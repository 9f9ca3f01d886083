"""The site that a lab hands out: a complete inventory that every command and plain Ansible can use."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.caller import give_to_caller
from orchestrator.errors import UsageError
from orchestrator.inventory.scaffold import FirstHost, create_site
from orchestrator.lab import repository
from orchestrator.lab.hosts import LabHost
from orchestrator.lab.network import Network
from orchestrator.lab.rootfs import SUDO_USER

ACCOUNT = "rehearsal"
"""The account that may open rooms in a lab, and with which the checks log in."""

_THROWAWAY = {"who": "the lab", "why": "its disk is thrown away and holds nothing of anybody's", "until": "2099-12-31"}


@dataclass(frozen=True, slots=True)
class LabSite:
    """What a lab hands out: a complete site directory, its hosts, and where its vault password lies."""

    path: Path
    hosts: tuple[LabHost, ...]
    vault_password_file: Path
    domain: str

    @property
    def key_file(self) -> Path:
        """The private SSH key that logs in to every host, as root and as the sudo user."""
        return self.path.parent / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The pinned keys of every host."""
        return self.path / "known_hosts"

    @property
    def network(self) -> Network:
        """The lab's network, with the name of its outside namespace."""
        return self.hosts[0].network


def domain_of(lab: str) -> str:
    """Return the conference domain of a lab; .test never exists outside (RFC 6761)."""
    return f"meet.{lab}.lab.test"


def site_of(folder: Path, hosts: Sequence[LabHost]) -> LabSite:
    """Return the site of the lab that lies in `folder`."""
    return LabSite(folder / folder.name, tuple(hosts), folder / "vault-password", domain_of(folder.name))


def names_of(hosts: Sequence[LabHost]) -> dict[str, tuple[str, ...]]:
    """Return what the lab's hosts files know: the conference and TURN names at the first host, and each host's own."""
    lab, first = hosts[0].network.lab, hosts[0]
    domain = domain_of(lab)
    names: dict[str, tuple[str, ...]] = {f"{domain} turn.{domain}": (first.address, first.address6)}
    names |= {f"{host.name}.{lab}.lab.test {host.name}": (host.address, host.address6) for host in hosts}
    return names


def write_site(folder: Path, hosts: Sequence[LabHost], built: Any | None, *, clock: bool = False) -> LabSite:
    """Write the lab's site below `folder` unless it is there, and return it.

    `built` is the repository of stand-ins (None: the site takes its vendor packages from where the defaults say); with `clock`
    the hosts take their time from the lab's own server.
    """
    site, first = site_of(folder, hosts), hosts[0]
    if not (site.path / "hosts.yml").is_file():
        create_site(
            site.path,
            domain=site.domain,
            host=FirstHost(first.address, first.address6, first.name, "root", 22, str(site.key_file)),
            settings={
                "ratssaal_lab": True,
                "verification_vantage": f"netns://{first.network.outside}",
                "verification_probe_account": ACCOUNT,
                "verification_sudo_users": [SUDO_USER],
                "verification_admins": _admins(site.key_file),
                "verification_declarations": {"CRY-11": _THROWAWAY},
                # Everybody in the lab's own network, the vantage point among them.
                "firewall_management_sources": [f"{first.network.gateway.rpartition('.')[0]}.0/24", _network6(first)],
                **({"base_ntp_servers": [first.network.gateway]} if clock else {}),
                **_vendor(first.network, built),
            },
            accounts={ACCOUNT: secrets.token_urlsafe(16)},
            password_file=site.vault_password_file,
        )
    site.known_hosts.write_text("".join(host.known_hosts.read_text() for host in hosts))
    _for_the_caller(folder)
    return site


def _network6(host: LabHost) -> str:
    return f"{host.network.gateway6.removesuffix('1')}/64"


def _admins(key_file: Path) -> list[dict[str, Any]]:
    """Return whose key opens a lab's hosts: the lab's own, both as root and as the sudo user."""
    shown = subprocess.run(["ssh-keygen", "-lf", str(key_file)], capture_output=True, text=True, check=True).stdout
    return [{"account": name, "who": "the lab", "keys": [shown.split()[1]]} for name in ("root", SUDO_USER)]


def build_repository(folder: Path) -> Any:
    """Build the stand-ins' repository below `folder`. Raises UsageError where this installation has none."""
    try:
        from orchestrator.lab.standins import build_repository as build
    except ImportError as error:
        hint = "ratssaal lab up --without-repository"
        raise UsageError(f"the stand-in packages are not part of this installation ({error})", hint=hint) from error
    return build(folder / "repository")


def _vendor(network: Network, built: Any | None) -> Mapping[str, str]:
    if built is None:
        return {}
    return {"vendor_repository_url": repository.url(network), "vendor_repository_key": str(built.key_file)}


def _for_the_caller(folder: Path) -> None:
    """Let the person who called by sudo use the site without root: SSH and Ansible insist on owning their keys."""
    top = [path for path in folder.iterdir() if path.name not in ("hosts", "repository")]
    give_to_caller(*top, *(folder / folder.name).rglob("*"))
