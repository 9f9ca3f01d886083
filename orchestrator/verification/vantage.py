"""What a site says of its vantage point, and the credentials with which the probes log in as a member."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.inventory.derivations import control_path
from orchestrator.inventory.site import Site
from orchestrator.inventory.vantagepoint import VantagePoint, parse

_TOKEN_SECONDS = 30


def vantage_of(site: Site) -> tuple[VantagePoint, str, Path, dict[str, str]]:
    """Return the vantage point, its private key's file, the pinned host keys, and the probes' secrets.

    Raises TaskFailed when the declared token command gives no token.
    """
    return *place_of(site), site.known_hosts, _secrets(site)


def place_of(site: Site) -> tuple[VantagePoint, str]:
    """Return the vantage point and its private key's file, "" where SSH's own defaults hold."""
    key = str(site.settings.get("verification_vantage_key_file") or "")
    point = parse(str(site.settings.get("verification_vantage") or ""))
    return point, str(control_path(key, site.path)) if key else ""


def _secrets(site: Site) -> dict[str, str]:
    if site.settings.get("jitsi_auth") == "jwt":
        commands = {name: f"verification_probe_{name}_command" for name in ("token", "plain_token")}
        return {name: _token(site, setting) for name, setting in commands.items() if site.settings.get(setting)}
    account = str(site.settings.get("verification_probe_account") or "")
    password = site.secrets.get("jitsi_accounts", {}).get(account)
    return {"account": account, "password": password.reveal()} if password else {}


def _token(site: Site, setting: str) -> str:
    command = str(site.settings[setting])
    hint = f"run it by hand: {command}"
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=_TOKEN_SECONDS, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise TaskFailed([Problem(f"{setting}: {error}", hint=hint)]) from error
    token = done.stdout.strip()
    if done.returncode != 0 or not token:
        message = f"{setting} ended with {done.returncode} and printed no token"
        raise TaskFailed([Problem(message, hint=hint)])
    return token
