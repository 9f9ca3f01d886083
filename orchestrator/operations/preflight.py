"""Looks before anything is touched: the control node's files, DNS, and every host in one round trip each."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import content
from orchestrator.errors import PreflightFailed, Problem, Unreachable
from orchestrator.inventory.site import Host, Site
from orchestrator.operations import preflight_facts
from orchestrator.operations.preflight_checks import Remark, Wanted, judge_host
from orchestrator.operations.preflight_local import judge_control_node
from orchestrator.operations.preflight_logins import DROP_IN, Hardening, judge_logins, sshd_settings
from orchestrator.operations.preflight_occupants import judge_occupants
from orchestrator.operations.vendor_key import vendor_key_fingerprints
from orchestrator.transport import ssh

_TIMEOUT_SECONDS = 60
# Root sees sockets' owners and locks. Without Python on the host the little that the shell can tell is reported.
_COMMAND = (
    "sh -c 'if ! command -v python3 >/dev/null; then cat >/dev/null; . /etc/os-release; "
    'printf "{\\"python\\": \\"\\", \\"os\\": {\\"ID\\": \\"%s\\", \\"VERSION_ID\\": \\"%s\\"}}" "$ID" "$VERSION_ID"; '
    'elif [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then exec sudo -n python3 -; else exec python3 -; fi\''
)


@dataclass(frozen=True, slots=True)
class Report:
    """What preflight found. `unreachable` are the hosts that could not be looked at."""

    blocking: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    unreachable: tuple[Problem, ...]
    facts: Mapping[str, Mapping[str, Any]]
    undecided: tuple[str, ...]

    @property
    def fit(self) -> bool:
        """Say whether provisioning may start."""
        return not self.blocking and not self.unreachable

    def require(self) -> None:
        """Raise Unreachable or PreflightFailed with all problems unless the site is fit."""
        if self.unreachable:
            raise Unreachable([*self.unreachable, *self.blocking])
        if self.blocking:
            raise PreflightFailed(self.blocking)


def inspect(site: Site, hosts: Collection[str] = (), *, hardens: bool = False) -> Report:
    """Look at the control node and at all hosts (or the named ones), at the same time, and judge what was seen.

    Where a run `hardens`, what would keep that from succeeding is blocking, else a warning. Touches nothing.
    """
    chosen = site.chosen(hosts)
    remarks = judge_control_node(site)
    facts: dict[str, Mapping[str, Any]] = {}
    unreachable: list[Problem] = []
    with ThreadPoolExecutor(max_workers=min(16, len(chosen) or 1)) as pool:
        pending = {host.name: pool.submit(collect_facts, host, site) for host in chosen}
    for name, future in pending.items():
        try:
            facts[name] = future.result()
        except Unreachable as error:
            place = site.files.at_host(name)
            unreachable += [replace(problem, message=f"{problem.message} ({place})") for problem in error.problems]
    wanted = Wanted(
        str(site.settings.get("vendor_repository_url") or ""),
        vendor_key_fingerprints(site),
        repository_place=_place(site, "vendor_repository_url"),
        key_place=_place(site, "vendor_repository_key"),
    )
    sshd = sshd_settings(site.settings.get("hardening_skip") or {})
    for host in (host for host in chosen if host.name in facts):
        seen = facts[host.name]
        asked = replace(wanted, control_time=float(seen.get("asked_at") or 0))
        remarks += judge_host(host.name, seen, site.topology, asked)
        remarks += judge_occupants(host.name, seen, site.topology)
        hardening = Hardening(sshd, login_groups(site.settings), host.user or "root", hardens)
        remarks += judge_logins(host.name, seen, hardening)
    return Report(
        blocking=_problems(remarks, blocking=True),
        warnings=_problems(remarks, blocking=False),
        unreachable=tuple(unreachable),
        facts=facts,
        undecided=site.undecided,
    )


def collect_facts(host: Host, site: Site) -> Mapping[str, Any]:
    """Return a host's facts in one round trip; raises Unreachable."""
    parameters = {
        "repository": repository_addresses(site.settings),
        "unwanted": unwanted_packages(site.settings),
        "sshd_drop_in": DROP_IN,
    }
    encoded = base64.b64encode(json.dumps(parameters).encode()).decode()
    script = Path(preflight_facts.__file__).read_text() + f'\n\nmain("{encoded}")\n'
    with ssh.connect(host, site.known_hosts) as connection:
        asked = time.time()
        answer = connection.run(script, command=_COMMAND, timeout=_TIMEOUT_SECONDS)
    try:
        facts: dict[str, Any] = json.loads(answer.stdout)
    except json.JSONDecodeError as error:
        tail = (answer.stderr or answer.stdout).strip().splitlines()[-1:] or ["no output"]
        hint = f"try by hand: ssh {host.user or 'USER'}@{host.address} python3 -V"
        raise Unreachable([Problem(f"the host cannot be looked at: {tail[0]}", host.name, hint)]) from error
    # The host told its time between these two moments.
    return {**facts, "asked_at": (asked + time.time()) / 2}


def _place(site: Site, name: str) -> str:
    """Return "file:line" of a setting, "" where the site leaves it at its default: no file of its speaks of it."""
    return site.where(name) if site.files.find(name) else ""


def login_groups(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the groups whose members may log in after hardening (roles/hardening); () where sshd is left alone."""
    if "ACC-01" in (settings.get("hardening_skip") or {}):
        return ()
    return ("root", "sudo", "ssh-login", *(settings.get("hardening_ssh_allow_groups") or ()))


def unwanted_packages(settings: Mapping[str, Any]) -> list[str]:
    """Return what hardening removes where it is installed, by the role's own list; [] where the site leaves OS-11 alone."""
    skipped = settings.get("hardening_skip") or {}
    absent = content.data(content.root() / "roles/hardening/vars/main.yml")["__hardening_absent"]
    return [name for control, names in absent.items() if control not in skipped for name in names]


def repository_addresses(settings: Mapping[str, Any]) -> list[str]:
    """Return where the repository's signed index may lie: flat (`stable/`) or below `dists/`."""
    url = str(settings.get("vendor_repository_url") or "").rstrip("/")
    suite = str(settings.get("vendor_repository_suite") or "stable/")
    if not url:
        return []
    flat = f"{url}/{suite.rstrip('/')}/InRelease" if suite.rstrip("/.") else f"{url}/InRelease"
    return [flat] if suite.endswith("/") else [f"{url}/dists/{suite}/InRelease"]


def _problems(remarks: list[Remark], *, blocking: bool) -> tuple[Problem, ...]:
    return tuple(dict.fromkeys(remark.problem for remark in remarks if remark.blocking is blocking))
