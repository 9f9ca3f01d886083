"""The site that a lab hands out: a complete inventory that every command and plain Ansible can use."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.lab.hosts import LabHost
from orchestrator.lab.network import Network

if TYPE_CHECKING:
    from orchestrator.lab.lab import LabSite

REPOSITORY_PORT = 8043


def write_site(
    folder: Path, network: Network, members: list[LabHost], domain: str, *, repository: bool, say: Callable[[str], None]
) -> LabSite:
    """Write the lab's site below `folder` unless it is there, serve the package repository, and return the site."""
    from orchestrator.lab.lab import LabSite

    site, password_file = folder / "site", folder / "vault-password"
    settings: dict[str, object] = {}
    if repository:
        from orchestrator.lab.standins import build_repository

        built = build_repository(folder / "repository")
        _serve(folder / "repository", network)
        say("packages: STAND-INS for Jitsi's own, from the lab's repository")
        settings |= {
            "vendor_repository_url": f"http://{network.gateway}:{REPOSITORY_PORT}",
            "vendor_repository_key": str(built.key_file),
        }
    if not (site / "hosts.yml").is_file():
        from orchestrator.inventory.scaffold import FirstHost, create_site

        create_site(
            site,
            domain=domain,
            host=FirstHost(
                address=members[0].address,
                address6=members[0].address6,
                name=members[0].name,
                key_file=str(folder / "id_ed25519"),
                variables={"ratssaal_lab": True},
            ),
            settings=settings,
            accounts={"rehearsal": secrets.token_urlsafe(16)},
            known_hosts="".join(_known_hosts(host) for host in members),
            password_file=password_file,
        )
    return LabSite(site, tuple(members), password_file, domain)


def _known_hosts(host: LabHost) -> str:
    lines = ""
    for path in sorted((host.root / "etc/ssh").glob("ssh_host_*_key.pub")):
        kind, key = path.read_text().split()[:2]
        lines += f"{host.address},{host.address6} {kind} {key}\n"
    return lines


def _serve(directory: Path, network: Network) -> None:
    url = f"http://{network.gateway}:{REPOSITORY_PORT}/"
    if _answers(url):
        return
    argv = [sys.executable, "-m", "http.server", str(REPOSITORY_PORT), "--bind", network.gateway, "--directory", f"{directory}/"]
    subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 10
    while not _answers(url) and time.monotonic() < deadline:
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
